//! A walk through the whole window: every view and dialog, as every role and in every language, by what a screen reader hears.
//!
//! It holds that no control is without a name, that no two controls beside each other have the same one, that what a role may not do
//! says who may, and that what it may do is there. A new view does not compile before it stands in [`next`], [`right_of`] and [`acts`].

use super::decision::{Form, act_name};
use super::export_view::{ExportsState, Protect, Step};
use super::line_ask::LineAsk;
use super::line_view::tests::{World, sized};
use super::line_view::{Picker, Tab};
use super::lock_screen::tests::{logged_in, persons, who};
use super::scripted::{self, Scene, scene};
use super::{PersonForm, batches_view, order_view, people_view, unit_label};
use crate::desk::Act;
use crate::export::clerk::{self, HandedOut, RecipientView};
use crate::export::{Format, HIDDEN, Preview, PreviewField, PreviewRow};
use crate::foreman;
use crate::i18n::{self, Language, tr};
use crate::line::SampleView;
use crate::model::{BatchCounts, BatchState, LabelPolicy, UnitState};
use crate::office::BatchFile;
use crate::orders::Known;
use crate::people::office::{Gate, Snapshot};
use crate::people::{Right, Role, allows};
use crate::records::{AuditEntry, ExportRecord, ExposedUnit, OrderEvent};
use crate::trust;
use egui::accesskit::Role as Node;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

type H = Harness<'static, World>;

/// Every view, one after the other.
const fn next(tab: Tab) -> Option<Tab> {
    match tab {
        Tab::Line => Some(Tab::Units),
        Tab::Units => Some(Tab::Batches),
        Tab::Batches => Some(Tab::Exports),
        Tab::Exports => Some(Tab::Shift),
        Tab::Shift => Some(Tab::Trust),
        Tab::Trust => Some(Tab::People),
        Tab::People => Some(Tab::Audit),
        Tab::Audit => None,
    }
}

fn tabs() -> impl Iterator<Item = Tab> {
    std::iter::successors(Some(Tab::Line), |tab| next(*tab))
}

/// Who sees a view at all; `None`: everybody.
const fn right_of(tab: Tab) -> Option<Right> {
    match tab {
        Tab::Line | Tab::Shift => None,
        Tab::Units => Some(Right::SeeUnits),
        Tab::Batches => Some(Right::PauseBatch),
        Tab::Exports => Some(Right::Export),
        Tab::Trust => Some(Right::SeeTrust),
        Tab::People => Some(Right::ManagePeople),
        Tab::Audit => Some(Right::ReadAudit),
    }
}

/// What is done in a view, by its name on the screen, and who may.
fn acts(tab: Tab) -> Vec<(String, Right)> {
    let act = |name: &str, right| (name.to_owned(), right);
    match tab {
        Tab::Line => vec![
            act(tr!("header-auto-start"), Right::RunLine),
            act(&tr!("tile-copy-name", name = "Fixture 3"), Right::RunLine),
            act(tr!("sample-open-name"), Right::ApproveGate),
        ],
        Tab::Units => [Act::NewKeys, Act::NewStart, Act::Quarantine, Act::Scrap]
            .map(|a| (act_name(a), a.right()))
            .into_iter()
            .chain([act(tr!("story-copy-name"), Right::SeeUnits)])
            .collect(),
        Tab::Batches => vec![
            act(tr!("batches-new-order"), Right::ManageOrders),
            act(tr!("batches-new-batch"), Right::ManageBatches),
            act(tr!("batches-import"), Right::ManageOrders),
            act(tr!("batches-pause"), Right::PauseBatch),
            act(tr!("batches-close"), Right::ManageBatches),
            act(tr!("batches-clone"), Right::ManageBatches),
            act(tr!("batches-test-label"), Right::PrintLabels),
        ],
        Tab::Exports => vec![act(tr!("exports-next"), Right::Export), act(tr!("exports-log"), Right::Export)],
        Tab::Shift => {
            vec![act(tr!("shift-begin"), Right::EndShift), act(tr!("shift-tables"), Right::EndShift)]
        }
        Tab::Trust => vec![act(tr!("trust-new-region"), Right::Anchors)],
        Tab::People => vec![act(tr!("people-add"), Right::ManagePeople)],
        Tab::Audit => vec![
            act(tr!("audit-verify"), Right::ReadAudit),
            act(tr!("audit-export"), Right::ExportAudit),
            act(tr!("audit-again"), Right::ReadAudit),
        ],
    }
}

fn office() -> crate::office::Snapshot {
    let mut order = scripted::order();
    order.label = LabelPolicy::ScanBack;
    let batches = scene(Scene::Ready(1), Instant::now()).batches;
    let event = |seq: i64, kind: &str| OrderEvent {
        seq,
        batch: Some(batches[0].name.clone()),
        at_ms: 1_795_700_000_000 + seq * 60_000,
        operator: "Mia".into(),
        kind: kind.into(),
        reason: String::new(),
        detail: serde_json::Value::Null,
    };
    let counts =
        BatchCounts { planned: 500, passed: 312, failed: 9, scrapped: 2, in_progress: 3, first_pass: 301 };
    let events = vec![event(2, "sample-approved"), event(1, "created")];
    let file = BatchFile { batch: batches[0].clone(), order: order.clone(), counts, events };
    let known = Known {
        orders: vec![order],
        batches,
        regions: vec![7, 8],
        clouds: vec![("local".into(), "mqtts://localhost".into())],
        now_ms: 1_795_700_000_000,
        ..Known::default()
    };
    crate::office::Snapshot {
        known: Arc::new(known),
        file: Some(Arc::new(file)),
        printer: Some(Ok("zebra:9100".into())),
        ..Default::default()
    }
}

fn exports() -> clerk::Snapshot {
    let record = |id: i64, keys_of| ExportRecord {
        id,
        batch: None,
        selection: "batch=B-2041".into(),
        format: "dynsec.age".into(),
        file: "f".into(),
        rows: 312,
        sha256: "ab".repeat(32),
        operator: "Vera".into(),
        at_ms: 1_795_700_000_000,
        protection: "age".into(),
        reason: String::new(),
        handed_to: "Acme Cloud".into(),
        second_person: String::new(),
        replaces: None,
        keys_of,
        recipients: vec!["cd".repeat(32)],
        revoked: None,
    };
    let field =
        |name: &str, value: &str, hidden| PreviewField { name: name.into(), value: value.into(), hidden };
    let fields = vec![field("1.username", "003d.2", false), field("1.password", HIDDEN, true)];
    let first = vec![PreviewRow { serial: Some("KW429-01043".into()), fields }];
    let handed = |number: i64, protected| HandedOut {
        number,
        file: format!("/exports/{number}").into(),
        receipt: format!("/exports/{number}.receipt.json").into(),
        rows: 312,
        sha256: format!("{number:064}"),
        protected,
    };
    clerk::Snapshot {
        batches: vec!["B-2041".into(), "B-2042".into()],
        folder: "/exports".into(),
        preview: Some(Arc::new(Preview { rows: 312, passed: 312, first })),
        recipients: vec![RecipientView { name: "age1vendor".into(), fingerprint: "ab".repeat(32) }],
        done: Some(Arc::new(vec![handed(12, false), handed(13, true)])),
        log: Arc::new(vec![record(13, 312), record(12, 0)]),
        exposed: Some((
            13,
            Arc::new(vec![ExposedUnit {
                unit: crate::model::UnitId([7; 12]),
                serial: "KW429-01043".into(),
                batch: "B-2041".into(),
                agent_key: true,
                cloud_key: true,
            }]),
        )),
        ..clerk::Snapshot::default()
    }
}

fn audit() -> Vec<AuditEntry> {
    let entry = |seq, action: &str| AuditEntry {
        seq,
        at_ms: 1_790_000_000_000 + seq * 1000,
        person: "Quin".into(),
        role: "qa".into(),
        action: action.into(),
        subject: "KW429-01043".into(),
        detail: serde_json::json!({ "reason": "burnt" }),
        chain: "00".repeat(32),
    };
    vec![entry(2, "unit-scrap"), entry(1, "person-added")]
}

/// A window with something in every view. `None`: an open station.
fn window(role: Option<Role>, language: Language) -> H {
    let mut line = scene(Scene::Gallery, Instant::now());
    line.sample = Some(SampleView { waiting: 25, serials: vec!["KW429-01041".into(), "KW429-01042".into()] });
    let mut h = sized(line, egui::vec2(1280.0, 1500.0), egui::Theme::Light);
    let world = h.state_mut();
    world.desk = scripted::desk(UnitState::Passed);
    world.desk.office = office();
    let gate = role.map_or(Snapshot { gate: Gate::Open, ..Snapshot::default() }, logged_in);
    world.people = Snapshot { persons: persons(), audit: Arc::new(audit()), ..gate };
    world.view.exports.seen = Arc::new(exports());
    world.view.shift.seen = Arc::new(foreman::Snapshot { read: true, ..foreman::Snapshot::default() });
    world.view.language = language;
    world.view.has_settings = true;
    h
}

fn steps(h: &mut H) {
    // Views with clocks and searches that take the keyboard never come to rest.
    for _ in 0..4 {
        h.step();
    }
}

/// What can be pressed, chosen or typed into.
const fn is_control(role: Node) -> bool {
    matches!(
        role,
        Node::Button
            | Node::DefaultButton
            | Node::CheckBox
            | Node::RadioButton
            | Node::Switch
            | Node::Tab
            | Node::Link
            | Node::ComboBox
            | Node::EditableComboBox
            | Node::ListBoxOption
            | Node::MenuItem
            | Node::Slider
            | Node::SpinButton
            | Node::TextInput
            | Node::MultilineTextInput
            | Node::PasswordInput
            | Node::SearchInput
            | Node::ColorWell
    )
}

/// A control of a view: the header's tabs share a word with some in Chinese.
fn is_act(role: Node) -> bool {
    is_control(role) && role != Node::Tab
}

/// Controls without a name, and names that two controls share.
fn faults(h: &H) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
    for node in h.root().children_recursive() {
        let node = node.accesskit_node();
        if !is_control(node.role()) || node.is_hidden() {
            continue;
        }
        let name = node.label().unwrap_or_default();
        if name.trim().is_empty() {
            let at = node.bounding_box();
            found.push(format!("a {:?} at {at:?} has no name", node.role()));
            continue;
        }
        *seen.entry((format!("{:?}", node.role()), name)).or_default() += 1;
    }
    found.extend(
        seen.into_iter().filter(|(_, n)| *n > 1).map(|((role, name), n)| format!("{n} × {role} {name:?}")),
    );
    found
}

/// Everything that a screen reader can hear.
fn heard(h: &H) -> Vec<String> {
    let all = h.root().children_recursive();
    all.flat_map(|n| {
        let node = n.accesskit_node();
        [node.label(), node.value(), node.description()]
    })
    .flatten()
    .collect()
}

fn role_word(role: Option<Role>) -> &'static str {
    role.map_or("an open station", Role::as_str)
}

fn roles() -> impl Iterator<Item = Option<Role>> {
    std::iter::once(None).chain(Role::ALL.into_iter().map(Some))
}

/// Every view for every role in every language: names, acts, and refusals in words.
#[test]
fn every_view_says_what_it_is_to_every_role_in_every_language() {
    let mut wrong = Vec::new();
    for language in Language::ALL {
        for role in roles() {
            let mut h = window(role, language);
            for tab in tabs() {
                h.state_mut().view.tab = tab;
                steps(&mut h);
                let _spoken = i18n::using(language);
                let place = format!("{tab:?} for {} in {}", role_word(role), language.name());
                wrong.extend(faults(&h).into_iter().map(|f| format!("{place}: {f}")));
                let may = |right| role.is_none_or(|role| allows(role, right));
                let words =
                    |right: Right| people_view::reason(crate::people::office::Refusal::For(right.least()));
                if let Some(right) = right_of(tab)
                    && !may(right)
                {
                    if !heard(&h).iter().any(|t| t == words(right)) {
                        wrong.push(format!("{place}: nothing says {:?}", words(right)));
                    }
                    for (name, _) in acts(tab) {
                        if h.query_all_by_label(&name).any(|n| is_act(n.accesskit_node().role())) {
                            wrong.push(format!("{place}: {name:?} is there all the same"));
                        }
                    }
                    continue;
                }
                for (name, right) in acts(tab) {
                    let found: Vec<_> =
                        h.query_all_by_label(&name).filter(|n| is_act(n.accesskit_node().role())).collect();
                    let [node] = &found[..] else {
                        wrong.push(format!("{place}: {name:?} is there {} times", found.len()));
                        continue;
                    };
                    let node = node.accesskit_node();
                    if may(right) == node.is_disabled() {
                        wrong.push(format!("{place}: {name:?} is {}", if may(right) { "off" } else { "on" }));
                    }
                    let told = node.description().unwrap_or_default();
                    if !may(right) && !told.contains(words(right)) {
                        wrong.push(format!(
                            "{place}: {name:?} is off and says {told:?}, not {:?}",
                            words(right)
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Dialogs, steps of wizards and other states, as an admin.
#[test]
fn every_dialog_and_every_step_has_names() {
    type Put = Box<dyn Fn(&mut World)>;
    let order = scripted::order().name;
    let export = |step, log, format, protect| -> Put {
        Box::new(move |w: &mut World| {
            w.view.tab = Tab::Exports;
            w.view.exports = ExportsState::at(step, log, format, protect);
            w.view.exports.seen = Arc::new(exports());
            // The receipt is shown when there is one; a step before it has none.
            if step != Step::Done {
                let seen = clerk::Snapshot { done: None, ..exports() };
                w.view.exports.seen = Arc::new(seen);
            }
        })
    };
    let decide = |act| -> Put {
        Box::new(move |w: &mut World| {
            w.view.tab = Tab::Units;
            let seen = super::Seen { line: &w.snapshot, desk: &w.desk, people: &w.people };
            let unit = w.desk.file.as_ref().expect("a unit is open").unit.id;
            w.view.units.form = Some(Form::new(unit, act, seen));
        })
    };
    let ask = |state| -> Put {
        Box::new(move |w: &mut World| {
            w.view.tab = Tab::Batches;
            let batch = w.desk.office.file.as_ref().expect("a batch is open").batch.name.clone();
            w.view.batches.ask = Some(batches_view::Ask::new(&batch, state));
        })
    };
    let wizard = |order: Option<String>| -> Put {
        Box::new(move |w: &mut World| {
            w.view.tab = Tab::Batches;
            w.view.batches.wizard = Some(batches_view::Wizard { order: order.clone(), ..Default::default() });
        })
    };
    let mut places: Vec<(&str, Put)> = vec![
        ("help", Box::new(|w| w.view.help = true)),
        ("power cuts", Box::new(|w| w.view.matrix = true)),
        ("alarms", Box::new(|w| w.view.alarms = true)),
        ("a sample", Box::new(|w| w.view.line_ask = LineAsk::sample(&w.snapshot))),
        ("cancel", Box::new(|w| w.view.line_ask = Some(LineAsk::Cancel { focused: false }))),
        ("batch list", Box::new(|w| w.view.picker = Some(Picker::default()))),
        ("menu", Box::new(|w| w.view.people.menu = true)),
        ("the station locked", Box::new(|w| w.people.gate = Gate::People { who: None, locked: true })),
        ("new order", wizard(None)),
        ("new batch", wizard(Some(order))),
        (
            "import",
            Box::new(|w| {
                w.view.tab = Tab::Batches;
                w.view.batches.import = Some(batches_view::Import::default());
            }),
        ),
        (
            "an order",
            Box::new(|w| (w.view.tab, w.desk.office) = (Tab::Batches, order_view::tests::office(false))),
        ),
        (
            "a product key that leaked",
            Box::new(|w| {
                (w.view.tab, w.desk.office) = (Tab::Batches, order_view::tests::office(true));
                w.view.batches.order = w.desk.office.order.as_deref().map(order_view::OrderForm::leaked);
            }),
        ),
        (
            "what an order expects",
            Box::new(|w| {
                (w.view.tab, w.desk.office) = (Tab::Batches, order_view::tests::office(true));
                let order = w.desk.office.order.as_deref().map(|file| &file.order);
                w.view.batches.order = order.map(order_view::OrderForm::expect);
            }),
        ),
        (
            "a label is compared",
            Box::new(|w| {
                w.view.tab = Tab::Units;
                let unit = w.desk.file.as_ref().expect("a unit is open").unit.id;
                w.view.units.label = Some(unit_label::LabelForm::new(unit));
            }),
        ),
        (
            "a new person",
            Box::new(|w| {
                w.view.tab = Tab::People;
                w.view.people.form = Some(PersonForm::add(false));
            }),
        ),
        ("the own PIN", Box::new(|w| w.view.people.form = Some(PersonForm::own(&who(Role::Admin))))),
        (
            "units, nothing open",
            Box::new(|w| {
                w.view.tab = Tab::Units;
                w.desk.file = None;
            }),
        ),
        ("the log of exports", export(Step::What, true, Format::Csv, Protect::Age)),
        (
            "a file is checked",
            Box::new(|w| {
                w.view.tab = Tab::Exports;
                w.view.exports = ExportsState::checking();
                w.view.exports.seen = Arc::new(exports());
            }),
        ),
        ("a batch is closed", ask(BatchState::Closed)),
        ("a batch is paused", ask(BatchState::Paused)),
    ];
    for act in [Act::NewKeys, Act::NewStart, Act::MoveRegion(0), Act::Quarantine, Act::Scrap] {
        places.push(("a decision", decide(act)));
    }
    for step in [Step::What, Step::Format, Step::Preview, Step::File, Step::Done] {
        places.push(("a step of an export", export(step, false, Format::Pskc, Protect::Age)));
    }
    for protect in [Protect::Age, Protect::OpenPgp, Protect::Password, Protect::Plain] {
        places.push(("protection", export(Step::Protection, false, Format::Pskc, protect)));
    }
    let mut wrong = Vec::new();
    for language in Language::ALL {
        for (n, (place, put)) in places.iter().enumerate() {
            let mut h = window(Some(Role::Admin), language);
            put(h.state_mut());
            steps(&mut h);
            let name = language.name();
            wrong.extend(faults(&h).into_iter().map(|f| format!("{place} ({n}) in {name}: {f}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A view without data says what will stand there and what to do; no view is a blank sheet.
#[test]
fn a_view_without_data_says_what_will_be_there() {
    for language in Language::ALL {
        let mut h = sized(
            crate::line::Snapshot { operator: "Ana".into(), ..Default::default() },
            egui::vec2(1280.0, 800.0),
            egui::Theme::Light,
        );
        h.state_mut().people = Snapshot { gate: Gate::Open, ..Snapshot::default() };
        h.state_mut().view.language = language;
        h.state_mut().view.shift.seen = Arc::new(foreman::Snapshot { read: true, ..Default::default() });
        h.state_mut().view.trust.seen = Arc::new(trust::clerk::Snapshot { read: true, ..Default::default() });
        for tab in tabs() {
            h.state_mut().view.tab = tab;
            steps(&mut h);
            let _spoken = i18n::using(language);
            let says = match tab {
                Tab::Line => [tr!("line-no-fixtures"), tr!("line-no-fixtures-text")],
                Tab::Units => [tr!("units-empty"), tr!("units-empty-text")],
                Tab::Batches => [tr!("batches-no-orders"), tr!("batches-empty")],
                Tab::Exports => [tr!("exports-nothing"), tr!("exports-nothing-how")],
                Tab::Shift => [tr!("shift-none-open"), tr!("shift-none-open-how")],
                Tab::Trust => [tr!("trust-empty"), tr!("trust-empty-text")],
                Tab::People => [tr!("people-none"), tr!("people-none-how")],
                Tab::Audit => [tr!("audit-empty"), tr!("audit-empty-how")],
            };
            let heard = heard(&h);
            for words in says {
                assert!(
                    heard.iter().any(|t| t == words),
                    "{tab:?}, {}: {words:?} is not said",
                    language.name()
                );
            }
        }
    }
}
