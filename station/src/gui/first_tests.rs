//! The guide as people meet it: by its labels, by the keyboard alone, in both languages.

use super::super::scripted::{Scene, ScriptedDesk, ScriptedLine, scene};
use super::super::{Options, Rhythm, Theme, Window, install};
use super::*;
use crate::anchors::{Shown, ShownRegion};
use crate::config::{Config, PortDescription, ProbeDescription};
use crate::failure::{Failure, FailureCode};
use crate::first_run::{Facts, Plugged, Progress};
use crate::host::{HostHandle, Login, Made, Old, Opened, Snapshot};
use crate::i18n::Language;
use crate::orders::StationImage;
use crate::people::{Credential, Role};
use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[derive(Default)]
struct Shared {
    snapshot: Mutex<Arc<Snapshot>>,
    asked: Mutex<Vec<Command>>,
    opened: Mutex<Option<Opened>>,
    retired: Mutex<Vec<Old>>,
}

/// A host whose snapshots are set from outside.
#[derive(Clone, Default)]
struct ScriptedHost(Arc<Shared>);

impl HostHandle for ScriptedHost {
    fn send(&self, command: Command) {
        self.0.asked.lock().expect("whole").push(command);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.lock().expect("whole").clone()
    }

    fn take(&self) -> Option<Opened> {
        self.0.opened.lock().expect("whole").take()
    }

    fn retire(&self, old: Old) {
        self.0.retired.lock().expect("whole").push(old);
    }

    fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

impl ScriptedHost {
    fn show(&self, snapshot: Snapshot) {
        *self.0.snapshot.lock().expect("whole") = Arc::new(snapshot);
    }

    fn guide(&self, guide: Guide) {
        self.show(Snapshot { guide: Some(guide), ..Snapshot::default() });
    }

    fn asked(&self) -> Vec<Command> {
        std::mem::take(&mut self.0.asked.lock().expect("whole"))
    }

    fn retired(&self) -> usize {
        self.0.retired.lock().expect("whole").len()
    }
}

struct Bench {
    host: ScriptedHost,
    h: Harness<'static, Option<Window>>,
}

impl Bench {
    fn new(guide: Guide) -> Self {
        Self::sized(guide, vec2(1280.0, 900.0), Language::English)
    }

    fn sized(guide: Guide, size: egui::Vec2, language: Language) -> Self {
        let host = ScriptedHost::default();
        host.guide(guide);
        let handle = host.clone();
        let h = Harness::builder()
            .with_size(size)
            .with_step_dt(1.0 / 60.0)
            .with_max_steps(200)
            .with_context_setup(install)
            .build_ui_state(
                move |ui, window: &mut Option<Window>| {
                    let ctx = ui.ctx().clone();
                    let window = window.get_or_insert_with(|| {
                        let options = Options { theme: Theme::Light, language, ..Options::default() };
                        let line = ScriptedLine::default();
                        let handles: crate::desk::Handles =
                            (Box::new(line), Box::new(ScriptedDesk::default()));
                        Window::new(&ctx, handles, options, Rhythm::CARD)
                            .with_host(&ctx, Box::new(handle.clone()))
                    });
                    window.logic(&ctx);
                    window.ui(ui);
                },
                None,
            );
        let mut bench = Self { host, h };
        bench.h.run();
        bench
    }

    fn show(&mut self, guide: Guide) {
        self.host.guide(guide);
        self.h.run();
    }

    fn click(&mut self, label: &str) {
        self.h.get_by_label(label).click();
        self.h.run();
    }

    fn write(&mut self, label: &str, text: &str) {
        self.click(label);
        self.h.key_press_modifiers(Modifiers::COMMAND, Key::A);
        self.h.run();
        self.h.event(egui::Event::Text(text.into()));
        self.h.run();
    }

    fn is_off(&self, label: &str) -> bool {
        self.h.get_by_label(label).accesskit_node().is_disabled()
    }

    /// Tab until this has the keyboard.
    fn tab_to(&mut self, label: &str) {
        for _ in 0..60 {
            self.h.key_press(Key::Tab);
            self.h.run();
            if self.h.query_by_label(label).is_some_and(|node| node.is_focused()) {
                return;
            }
        }
        panic!("Tab does not reach {label:?}");
    }

    fn press(&mut self, key: Key) {
        self.h.key_press(key);
        self.h.run();
    }
}

fn shown() -> Shown {
    Shown {
        root_epoch: 1,
        root_public_key: "aa".repeat(32),
        root_fingerprint: "0123456789abcdef".repeat(4),
        bundle: "bb".repeat(32),
        next_root_commitment: "cc".repeat(32),
        regions: vec![ShownRegion {
            region: 7,
            epoch: 1,
            fingerprint: "fedcba9876543210".repeat(4),
            public_key: "dd".repeat(32),
            agent_public_key: "ee".repeat(32),
            not_before: 0,
            not_after: None,
        }],
    }
}

/// A station that has everything.
pub(in crate::gui) fn whole() -> Facts {
    Facts {
        has_file: true,
        config: Config {
            name: "line-1".into(),
            fixtures: vec![Fixture { name: "1".into(), probe: "0483:374b:A".into(), serial: "COM1".into() }],
            ..Config::default()
        },
        has_records: true,
        open: true,
        people: Some(2),
        anchors: Some(shown()),
        has_anchors: true,
        image: Some(Ok(StationImage {
            sha256: "12".repeat(32),
            version: "0.1.0".into(),
            model: "KW-GATEWAY-429".into(),
        })),
        rehearsed: true,
        ..Facts::default()
    }
}

pub(in crate::gui) fn at(step: Step, facts: Facts) -> Guide {
    Guide { progress: Progress { at: step, ..Progress::default() }, facts, ..Guide::default() }
}

#[test]
fn the_guide_is_walked_by_keyboard_alone() {
    let mut bench = Bench::new(at(Step::Name, Facts::default()));
    bench.h.get_by_label("Step 1 of 9");
    bench.h.get_by_label("2. Station key: to do");
    bench.h.get_by_label("3. First admin: after the station key");
    assert!(bench.is_off("Go on"), "there is nothing yet");
    bench.tab_to("Write it to station.toml");
    bench.press(Key::Enter);
    assert!(matches!(&bench.host.asked()[..], [Command::Name { name, .. }] if name == "line-1"));
    bench.h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    bench.h.run();
    assert!(matches!(bench.host.asked()[..], [Command::Name { .. }]), "does the step before it goes on");
    let mut facts = Facts { has_file: true, ..Facts::default() };
    let file = std::path::PathBuf::from("/home/line/station.toml");
    let wrote = vec![Wrote::Name { name: "line-1".into(), file }];
    bench.show(Guide { told: Told::Wrote(wrote), ..at(Step::Name, facts.clone()) });
    bench.h.get_by_label("Written: station line-1 in /home/line/station.toml");
    bench.tab_to("Go on");
    bench.press(Key::Space);
    assert!(matches!(bench.host.asked()[..], [Command::On]));
    bench.show(at(Step::Name, facts.clone()));
    bench.h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    bench.h.run();
    assert!(matches!(bench.host.asked()[..], [Command::On]));
    facts.open = true;
    bench.show(at(Step::People, Facts { people: Some(0), ..facts }));
    bench.tab_to("Go on without people");
    bench.press(Key::Enter);
    assert!(matches!(bench.host.asked()[..], [Command::On]));
    bench.tab_to("Back");
    bench.press(Key::Enter);
    assert!(matches!(bench.host.asked()[..], [Command::Back]));
    bench.tab_to("4. Fixtures: to do");
    bench.press(Key::Enter);
    assert!(matches!(bench.host.asked()[..], [Command::Go(Step::Fixtures)]));
}

#[test]
fn a_new_passphrase_is_typed_twice_judged_and_wiped() {
    let mut bench = Bench::new(at(Step::Key, Facts { has_file: true, ..Facts::default() }));
    bench.h.get_by_label_contains("A lost passphrase can't be had again");
    assert!(bench.is_off("Make the station key"));
    bench.write("Passphrase", "short");
    bench.h.get_by_label("Too short: at least 8 characters");
    bench.write("Passphrase", "correct horse battery staple");
    bench.h.get_by_label("Good");
    bench.write("The same again", "correct horse");
    bench.h.get_by_label("The two differ");
    assert!(bench.is_off("Make the station key"));
    bench.write("The same again", "correct horse battery staple");
    bench.click("Make the station key");
    let asked = bench.host.asked();
    assert!(!format!("{asked:?}").contains("battery"), "{asked:?}");
    assert!(matches!(&asked[..], [Command::Key { passphrase: Some(_), keep: false }]));
    let state = &bench.h.state().as_ref().expect("a window").first;
    assert!(state.pass.0.is_empty() && state.again.0.is_empty());
    let refused = Told::Failed(Failure::new(FailureCode::SecretsFailed, "the keyring is locked"));
    bench.show(Guide { told: refused, ..at(Step::Key, Facts::default()) });
    bench.h.get_by_label_contains("K613 ");
    for (given, text) in [(Given::Demo, "This is the demo"), (Given::Keyring, "The system's keyring has")] {
        bench.show(at(Step::Key, Facts { given: Some(given), ..Facts::default() }));
        bench.h.get_by_label_contains(text);
        bench.click("Use it");
        assert!(matches!(bench.host.asked()[..], [Command::Key { passphrase: None, keep: false }]));
    }
    // A station that is there is opened with one try, whatever its passphrase is worth.
    bench.show(at(Step::Key, Facts { has_records: true, ..Facts::default() }));
    bench.write("Passphrase", "old");
    bench.click("Open the station");
    assert!(matches!(bench.host.asked()[..], [Command::Key { passphrase: Some(_), .. }]));
}

#[test]
fn the_first_admin_has_the_same_rules_as_elsewhere() {
    let facts = Facts { has_file: true, open: true, people: Some(0), ..Facts::default() };
    let mut bench = Bench::new(at(Step::People, facts));
    assert!(bench.is_off("Create the admin"));
    bench.write("Name", "Ana");
    bench.write("PIN", "123456");
    bench.write("The same PIN again", "123456");
    assert!(bench.is_off("Create the admin"), "everybody tries that first");
    bench.write("PIN", "q7t5-amber");
    bench.write("The same PIN again", "q7t5-amber");
    bench.click("Create the admin");
    let asked = bench.host.asked();
    assert!(!format!("{asked:?}").contains("amber"), "{asked:?}");
    assert!(matches!(&asked[..], [Command::Admin(new)] if new.name == "Ana"));
    bench.show(at(Step::People, whole()));
    bench.h.get_by_label("People work here: 2");
}

/// A station with people, and nobody there.
pub(in crate::gui) fn nobody() -> Guide {
    let facts = Facts { anchors: None, has_anchors: false, rehearsed: false, ..whole() };
    let names = vec![("Ana Petrović".to_owned(), Role::Admin), ("Tom".to_owned(), Role::Technician)];
    Guide { login: Some(Login { names, ..Login::default() }), ..at(Step::Anchors, facts) }
}

#[test]
fn whoever_goes_on_with_a_guide_logs_in_first() {
    let mut bench = Bench::new(nobody());
    bench.h.get_by_label_contains("an admin logs in, then the guide goes on");
    assert!(bench.h.query_by_label("Make root and region").is_none(), "first the person, then the step");
    assert!(bench.is_off("Go on") && bench.is_off("Back") && bench.is_off("1. Name and language: done"));
    assert!(!bench.is_off("Go on later and close"));
    // By name, PIN and the keyboard alone.
    bench.write("Name, or scan your badge", "ana");
    bench.press(Key::Enter);
    bench.write("PIN of Ana Petrović", "q7t5-amber");
    // Typed and entered as fast as here it would be a badge.
    bench.tab_to("Log in");
    bench.press(Key::Space);
    let asked = bench.host.asked();
    assert!(!format!("{asked:?}").contains("amber"), "{asked:?}");
    assert!(
        matches!(&asked[..], [Command::Login(Credential::Pin { name, .. })] if name == "Ana Petrović"),
        "{asked:?}"
    );
    let lock = |bench: &Bench| format!("{:?}", bench.h.state().as_ref().expect("a window").view.people.lock);
    assert!(!lock(&bench).contains("amber"));
    // What went wrong is said, and can be copied.
    let wrong = Failure::new(FailureCode::LoginFailed, "4 tries are left");
    let login = Login { failure: Some(wrong.clone()), ..nobody().login.expect("asked") };
    bench.show(Guide { login: Some(login), ..nobody() });
    let (sentence, _) = i18n::failure(&wrong);
    bench.h.get_by_label(&sentence);
    bench.h.get_by_label(&format!("Copy error {}", wrong.code));
    // A badge needs no name.
    bench.click("Another person");
    bench.write("Name, or scan your badge", "BADGE-0042-77");
    bench.press(Key::Enter);
    assert!(matches!(bench.host.asked()[..], [Command::Login(Credential::Badge(_))]));
    // Somebody is in: the step is there, and nothing that was typed.
    bench.show(Guide { login: None, ..nobody() });
    bench.h.get_by_label("Make root and region");
    assert!(!bench.is_off("1. Name and language: done"));
}

#[test]
fn the_login_of_the_guide_fits_the_smallest_window_in_chinese() {
    let size = vec2(1024.0, 640.0);
    let mut bench = Bench::sized(nobody(), size, Language::Chinese);
    bench.click("Ana Petrović, 管理员");
    let _chinese = i18n::using(Language::Chinese);
    let screen = Rect::from_min_size(egui::Pos2::ZERO, size);
    for label in [tr!("lock-log-in"), tr!("lock-another"), tr!("first-keys"), tr!("first-leave-close")] {
        assert!(screen.contains_rect(bench.h.get_by_label(label).rect()), "{label}");
    }
}

#[test]
fn fixtures_are_named_by_plugging_them_in_one_by_one() {
    let mut facts = Facts { has_file: true, open: true, ..Facts::default() };
    let mut bench = Bench::new(at(Step::Fixtures, facts.clone()));
    bench.h.get_by_label_contains("Plug the next fixture's probe and serial port in now");
    assert!(bench.is_off("Write this fixture"));
    let probe = ProbeDescription {
        vid: 0x0483,
        pid: 0x374b,
        serial: Some("066DFF".into()),
        product: "STLink V2-1".into(),
    };
    let port = PortDescription {
        path: "/dev/ttyACM3".into(),
        usb: Some((0x0483, 0x374b)),
        serial: Some("066DFF".into()),
    };
    let new = Plugged { probes: vec![probe], ports: vec![port] };
    bench.show(Guide { plugged: new.clone(), new: new.clone(), ..at(Step::Fixtures, facts.clone()) });
    bench.h.get_by_label("A probe and a serial port appeared: they are this fixture");
    bench.write("Fixture name", "left");
    bench.click("Write this fixture");
    let asked = bench.host.asked();
    let left =
        Fixture { name: "left".into(), probe: "0483:374b:066DFF".into(), serial: "/dev/ttyACM3".into() };
    assert!(
        matches!(&asked[..], [Command::Fixtures(all)] if all == std::slice::from_ref(&left)),
        "{asked:?}"
    );
    // The next is a virtual board: its probe is on no bus, so it is typed.
    facts.config.fixtures = vec![left.clone()];
    bench.show(at(Step::Fixtures, facts.clone()));
    bench.h.get_by_label("Fixture 2");
    bench.write("Probe", "nonsense");
    bench.h.get_by_label("VID:PID:SERIAL, such as 0483:374b:066DFF3");
    bench.write("Probe", "1d50:6018:127.0.0.1:4444");
    bench.write("Serial port", "/dev/ttyACM3");
    bench.h.get_by_label("Another fixture has it already");
    bench.write("Serial port", "/dev/pts/3");
    bench.click("Write this fixture");
    let asked = bench.host.asked();
    let [Command::Fixtures(all)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((all.len(), &all[0], all[1].name.as_str()), (2, &left, "2"));
    assert_eq!(all[1].probe, "1d50:6018:127.0.0.1:4444");
    bench.click("Watch from here");
    assert!(matches!(bench.host.asked()[..], [Command::Watch]));
    bench.click("Remove fixture left");
    assert!(matches!(&bench.host.asked()[..], [Command::Fixtures(rest)] if rest.is_empty()));
}

#[test]
fn anchors_image_and_cloud_are_written_and_shown() {
    let open = Facts { has_file: true, open: true, ..Facts::default() };
    let mut bench = Bench::new(at(Step::Anchors, open.clone()));
    assert!(bench.is_off("Go on"), "no unit without them");
    bench.write("Region", "0");
    assert!(bench.is_off("Make root and region"));
    bench.write("Region", "7");
    bench.click("Make root and region");
    assert!(matches!(bench.host.asked()[..], [Command::Anchors(7)]));
    bench.show(at(Step::Anchors, whole()));
    bench.h.get_by_label_contains("0123456789abcdef0123456789abcdef");
    assert!(!bench.is_off("Go on"));

    bench.show(at(Step::Image, open.clone()));
    assert!(bench.is_off("Take this image"));
    let window = bench.h.state_mut().as_mut().expect("a window");
    window.view.files.put("Common image", std::path::Path::new("/release/common-image.json"));
    bench.h.run();
    bench.click("Take this image");
    assert!(matches!(&bench.host.asked()[..], [Command::Image(path)] if path.ends_with("common-image.json")));
    bench.show(at(Step::Image, whole()));
    bench.h.get_by_label("KW-GATEWAY-429");
    bench.h.get_by_label(&"12".repeat(32));

    bench.show(at(Step::Cloud, open));
    bench.h.get_by_label_contains("It needs nothing");
    bench.click("A Mosquitto broker");
    assert!(bench.is_off("Test the connection"));
    bench.write("Address", "mqtt://127.0.0.1:1883");
    bench.write("Password", "the broker's");
    bench.click("Test the connection");
    bench.click("Write it to station.toml");
    let asked = bench.host.asked();
    assert!(!format!("{asked:?}").contains("broker's"), "{asked:?}");
    let [Command::TryCloud(tried, Some(_)), Command::Cloud(written, Some(_))] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!((tried, written.username.as_str()), (written, "keywright-agent"));
    for (broker, text) in [
        (Broker::Answers(3), "it knows 3 units"),
        (Broker::Failed(Failure::new(FailureCode::CloudRefused, "not authorised")), "K406 "),
    ] {
        bench.show(Guide {
            broker,
            ..at(Step::Cloud, Facts { has_file: true, open: true, ..Facts::default() })
        });
        bench.click("A Mosquitto broker");
        bench.h.get_by_label_contains(text);
    }
}

#[test]
fn a_rehearsal_says_what_it_lacks_how_far_it_is_and_what_came_of_it() {
    let missing = Failure::new(FailureCode::PracticeBoardMissing, "/usr/bin/virtual-board is not there");
    let facts = Facts { rehearsed: false, ..whole() };
    let board = |guide: Guide| Guide { board: Some(Ok("/usr/bin/virtual-board".into())), ..guide };
    let mut bench = Bench::new(Guide { board: Some(Err(missing)), ..at(Step::Rehearsal, facts.clone()) });
    bench.h.get_by_label_contains("K680 ");
    assert!(bench.is_off("Make one unit for trial") && !bench.is_off("Leave it for later"));
    bench.show(board(at(Step::Rehearsal, facts.clone())));
    bench.click("Make one unit for trial");
    assert!(matches!(bench.host.asked()[..], [Command::Rehearse]));
    let running = Rehearsal::Running(Stage::Step(line::Step::Prove, 0.5));
    bench.show(Guide { rehearsal: running, ..board(at(Step::Rehearsal, facts.clone())) });
    bench.h.get_all_by_label("Prove").next().expect("the step");
    assert!(bench.is_off("Leave it for later"), "it is stopped first");
    bench.click("Stop the rehearsal");
    assert!(matches!(bench.host.asked()[..], [Command::CancelRehearsal]));
    let made = |failure: Option<FailureCode>| {
        Rehearsal::Ended(Made {
            passed: failure.is_none(),
            failure: failure.map(|code| Failure::new(code, "")),
            serial: "REHEARSAL-00001K".into(),
            seconds: 12.34,
            image: "KW-GATEWAY-429 0.1.0".into(),
        })
    };
    bench.show(Guide { rehearsal: made(None), ..board(at(Step::Rehearsal, facts.clone())) });
    bench.h.get_by_label("PASS: REHEARSAL-00001K in 12.3 s");
    let failed = made(Some(FailureCode::ProofFailed));
    bench.show(Guide { rehearsal: failed, ..board(at(Step::Rehearsal, facts)) });
    bench.h.get_by_label_contains("It did not pass: The unit can't prove");
}

#[test]
fn the_summary_says_what_is_missing_and_leads_to_the_line() {
    let check = |name, status, detail: &str, remedy: Option<&str>| crate::preflight::Check {
        event: "check",
        name,
        status,
        detail: detail.into(),
        remedy: remedy.map(str::to_owned),
        fixture: None,
        failure: None,
    };
    use crate::preflight::Name;
    let checks = vec![
        check(Name::Anchors, Status::Ok, "root 0123…", None),
        check(Name::Clock, Status::Fail, "it says 1970", Some("Set the system's clock")),
    ];
    let mut bench = Bench::new(Guide { checks: checks.clone(), ..at(Step::Summary, whole()) });
    bench.h.get_by_label("Not done: Cloud");
    // The station's own broker is a choice.
    let mut chosen = Guide { checks, ..at(Step::Summary, whole()) };
    chosen.progress.left.insert(Step::Cloud);
    bench.show(chosen);
    bench.h.get_by_label("Everything is set up");
    bench.h.get_by_label("→ Set the system's clock");
    bench.click("Finish and open the line");
    assert!(matches!(bench.host.asked()[..], [Command::Finish]));
    bench.click("Leave the guide");
    assert!(matches!(bench.host.asked()[..], [Command::Leave]));
    let none = Facts { has_file: true, ..Facts::default() };
    bench.show(at(Step::Summary, none));
    bench.h.get_by_label_contains("must be there before the line can open");
    assert!(bench.is_off("Finish and open the line"));
    // There is no line to go back to, so leaving closes the window.
    bench.click("Go on later and close");
    assert!(matches!(bench.host.asked()[..], [Command::Leave]));
}

#[test]
fn every_step_speaks_chinese_and_fits_the_smallest_window() {
    let english: Vec<_> = Step::ALL.map(|step| title(step).to_owned()).into();
    for size in [vec2(1024.0, 640.0), vec2(1280.0, 800.0)] {
        let screen = Rect::from_min_size(egui::Pos2::ZERO, size);
        for facts in [Facts::default(), whole()] {
            for step in Step::ALL {
                let bench = Bench::sized(at(step, facts.clone()), size, Language::Chinese);
                let _chinese = i18n::using(Language::Chinese);
                let word = title(step);
                assert!(!english.iter().any(|e| e == word), "{word}");
                for node in bench.h.get_all_by_label(word) {
                    assert!(screen.contains_rect(node.rect()), "{step:?}: {:?}", node.rect());
                }
                for part in [tr!("first-keys"), tr!("first-leave-text")] {
                    assert!(screen.contains_rect(bench.h.get_by_label(part).rect()), "{step:?}: {part}");
                }
            }
        }
    }
    let mut bench = Bench::new(at(Step::Name, Facts::default()));
    bench.click("简体中文");
    bench.h.get_by_label("写入 station.toml");
}

fn opened(line: &ScriptedLine) -> Opened {
    struct Quiet;
    impl office::PeopleHandle for Quiet {
        fn send(&self, _: office::Command) {}
        fn snapshot(&self) -> Arc<office::Snapshot> {
            Arc::default()
        }
        fn touch(&self) {}
        fn permit(&self, _: crate::people::Right, _: &'static str) -> Result<(), Failure> {
            Ok(())
        }
        fn act(
            &self,
            _: crate::people::Right,
            _: &'static str,
            _: serde_json::Value,
            work: &mut dyn FnMut() -> Result<(), Failure>,
        ) -> Result<(), Failure> {
            work()
        }
        fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }
    impl crate::export::clerk::ExportHandle for Quiet {
        fn send(&self, _: crate::export::clerk::Command) {}
        fn cancel(&self) {}
        fn snapshot(&self) -> Arc<crate::export::clerk::Snapshot> {
            Arc::default()
        }
        fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }
    impl crate::foreman::ForemanHandle for Quiet {
        fn send(&self, _: crate::foreman::Command) {}
        fn snapshot(&self) -> Arc<crate::foreman::Snapshot> {
            Arc::default()
        }
        fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }
    impl crate::trust::clerk::TrustHandle for Quiet {
        fn send(&self, _: crate::trust::clerk::Command) {}
        fn snapshot(&self) -> Arc<crate::trust::clerk::Snapshot> {
            Arc::default()
        }
        fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }
    Opened {
        handles: (Box::new(line.clone()), Box::new(ScriptedDesk::default())),
        people: Box::new(Quiet),
        exports: Box::new(Quiet),
        foreman: Box::new(Quiet),
        trust: Box::new(Quiet),
        config: Config { name: "line-9".into(), ..Config::default() },
    }
}

#[test]
fn the_line_takes_the_place_of_the_guide_and_is_given_back_only_when_nothing_runs() {
    let mut bench = Bench::new(at(Step::Summary, whole()));
    let now = Instant::now();
    let mut busy = scene(Scene::Ready(2), now);
    busy.fixtures[1] = super::super::scripted::running(2, line::Step::Flash, "writing app", 0.4, now, 9);
    let line = ScriptedLine::new(busy);
    *bench.host.0.opened.lock().expect("whole") = Some(opened(&line));
    bench.host.show(Snapshot::default());
    bench.h.step();
    bench.h.step();
    bench.h.get_by_label("writing app");
    // A probe was found, or the settings say something else: the running unit is waited for.
    bench.host.show(Snapshot { wants_reopen: true, ..Snapshot::default() });
    bench.h.step();
    assert_eq!(bench.host.retired(), 0);
    line.show(scene(Scene::Ready(2), now));
    bench.h.step();
    bench.h.step();
    assert_eq!(bench.host.retired(), 1);
    assert_eq!(bench.host.0.retired.lock().expect("whole")[0].batch.as_deref(), Some("B-2041"));
    bench.h.step();
    assert_eq!(bench.host.retired(), 1, "once");
    // Meanwhile it shows what it last saw, and nothing reaches the old line.
    bench.h.get_by_label("Fixture 1: board ready");
    bench.h.key_press(Key::Space);
    bench.h.step();
    assert_eq!(line.take(), []);
    bench.host.show(Snapshot::default());
    let other = ScriptedLine::new(scene(Scene::Ready(5), now));
    *bench.host.0.opened.lock().expect("whole") = Some(opened(&other));
    bench.h.step();
    bench.h.step();
    bench.h.get_by_label("Fixture 5: board ready");
}
