//! The office: orders and batches for the window, behind the desk's thread.
//!
//! The window sends [`Command`]s and reads a [`Snapshot`] that is replaced as a whole. Every rule is in `orders` and in the records; here
//! they are only asked.
//!
//! Invariant: no product key is in a command or a snapshot, only the file that it is read from.

use crate::agent::EmbeddedAgent;
use crate::config::Config;
use crate::desk::Told;
use crate::failure::{Failure, FailureCode};
use crate::label::{self, Printer, hand};
use crate::model::*;
use crate::orders::{self, Checked, Draft, Field, Known};
use crate::people::Right;
use crate::records::{OrderEvent, Reach, Records};
use crate::secrets::Secret;
use crate::station::{self, records_failure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of an imported list that are shown.
const SHOWN: usize = 50;

/// What the window asks of the office.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The view is on the screen, or no more: only then are its numbers read.
    Watch(bool),
    /// Shows this batch in full; `None` puts it away, and an order too.
    Choose(Option<String>),
    /// Shows this order in full.
    ChooseOrder(String),
    /// Enters an order, and the batch it names.
    NewOrder {
        /// Its fields.
        draft: Draft,
        /// The vendor's product key, encrypted to this station; `None`: one is drawn.
        product_key: Option<PathBuf>,
        /// Who.
        operator: String,
    },
    /// Opens a batch under an order.
    NewBatch {
        /// Name of the order.
        order: String,
        /// Its fields.
        draft: Draft,
        /// The batch that it is copied from.
        clone_of: Option<String>,
        /// Who.
        operator: String,
    },
    /// Pauses, closes, opens again.
    SetState {
        /// Name of the batch.
        batch: String,
        /// What it shall be.
        state: BatchState,
        /// Who.
        operator: String,
        /// Why.
        reason: String,
    },
    /// Reads a list of orders and shows what would be taken.
    ReadList(PathBuf),
    /// Takes the list that is shown.
    TakeList {
        /// Who.
        operator: String,
    },
    /// Puts the list away.
    LeaveList,
    /// Prints a label that is no unit's.
    TestLabel {
        /// Who.
        operator: String,
    },
    /// Says how many enrolments an hour to expect under an order.
    Expect {
        /// Its name.
        order: String,
        /// More raise an alarm; 0: not said.
        per_hour: u32,
        /// Who.
        operator: String,
    },
    /// Counts what the order's product key enrolled since a moment: what making it invalid would set aside.
    Reach {
        /// Its name.
        order: String,
        /// Unix milliseconds.
        since_ms: i64,
    },
    /// The order's product key leaked: it counts for nothing, and what it enrolled since a moment is set aside.
    Invalidate {
        /// Its name.
        order: String,
        /// Unix milliseconds.
        since_ms: i64,
        /// Why.
        reason: String,
        /// Who.
        operator: String,
    },
    /// Shows to what a vendor encrypts product keys for this station.
    KeyRecipient,
    /// Prints a unit's label, again if it had one.
    PrintLabel {
        /// The unit.
        unit: UnitId,
        /// Who.
        operator: String,
    },
    /// Compares what was read from a unit's label with its record.
    CheckLabel {
        /// The unit.
        unit: UnitId,
        /// What the scanner read.
        code: String,
        /// Who.
        operator: String,
    },
}

impl Command {
    /// The name that it carries: behind a gate it is that of who is logged in.
    pub(crate) const fn operator_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::NewOrder { operator, .. }
            | Self::NewBatch { operator, .. }
            | Self::SetState { operator, .. }
            | Self::TakeList { operator }
            | Self::Expect { operator, .. }
            | Self::Invalidate { operator, .. }
            | Self::PrintLabel { operator, .. }
            | Self::CheckLabel { operator, .. }
            | Self::TestLabel { operator } => Some(operator),
            Self::Watch(_)
            | Self::Choose(_)
            | Self::ChooseOrder(_)
            | Self::ReadList(_)
            | Self::Reach { .. }
            | Self::KeyRecipient
            | Self::LeaveList => None,
        }
    }
}

/// What a command needs of whoever gives it.
pub(crate) enum Need {
    /// Everybody may.
    Nothing,
    /// It only looks, but not everybody may.
    Look(Right),
    /// It changes something: the right, and what the audit log says.
    Act(Right, &'static str, String, serde_json::Value),
}

/// A batch in full.
#[derive(Clone, Debug)]
pub struct BatchFile {
    /// The batch.
    pub batch: Batch,
    /// Its order.
    pub order: ProductOrder,
    /// Its counts.
    pub counts: BatchCounts,
    /// Who decided what, newest first; the order's own rows among them.
    pub events: Vec<OrderEvent>,
}

/// An order in full.
#[derive(Clone, Debug)]
pub struct OrderFile {
    /// The order.
    pub order: ProductOrder,
    /// Its batches, newest first.
    pub batches: Vec<Batch>,
    /// Units that its product key ever enrolled, scrapped ones not counted.
    pub enrolled: Reach,
    /// Its first unit can't have been enrolled before; Unix milliseconds.
    pub created_at_ms: i64,
    /// Who decided what about it and its batches, newest first.
    pub events: Vec<OrderEvent>,
}

impl OrderFile {
    /// Units that no batch is planned for yet.
    pub fn left(&self) -> u64 {
        let planned: u64 = self.batches.iter().map(|b| u64::from(b.quantity)).sum();
        u64::from(self.order.quantity).saturating_sub(planned)
    }
}

/// The answer to [`Command::Reach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The order.
    pub order: String,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// What it enrolled since.
    pub reach: Reach,
}

/// What became of a command that a form waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number that the form gave it.
    pub ticket: u64,
    /// Why it was refused; `None`: it is done.
    pub refused: Option<Failure>,
}

/// A list of orders that waits for a yes.
#[derive(Clone, Debug)]
pub struct ListView {
    /// The file.
    pub file: PathBuf,
    /// Orders in it.
    pub orders: usize,
    /// Batches in it.
    pub batches: usize,
    /// The first rows: order, model, quantity, region, batch.
    pub rows: Vec<[String; 5]>,
    /// Why it can't be taken.
    pub errors: Vec<String>,
}

/// What the window shows of the office.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Orders and batches, and what new ones are checked against.
    pub known: Arc<Known>,
    /// The chosen batch.
    pub file: Option<Arc<BatchFile>>,
    /// The chosen order; never together with a batch.
    pub order: Option<Arc<OrderFile>>,
    /// A list that was read.
    pub list: Option<Arc<ListView>>,
    /// Where labels go, or why they can't.
    pub printer: Option<Result<String, Failure>>,
    /// What a product key enrolled, as it was asked last.
    pub reached: Option<Reached>,
    /// To what vendors encrypt product keys, once it was asked for.
    pub recipient: Option<String>,
    /// What became of the last command that a form waits for.
    pub answer: Option<Answer>,
}

/// How a product key's file is opened.
pub type ReadKey = Arc<dyn Fn(&Path) -> Result<Secret<32>, Failure> + Send + Sync>;

/// How the recipient of product keys is found.
pub type Recipient = Box<dyn Fn() -> Result<String, Failure> + Send>;

/// Which regions are on this station; one may be made while the window is open.
pub type Regions = Box<dyn Fn() -> Vec<u32> + Send>;

/// What the desk's thread holds of the office.
pub struct Office {
    records: Arc<dyn Records>,
    config: Config,
    regions: Regions,
    read_key: ReadKey,
    recipient: Option<Recipient>,
    agent: Option<Arc<EmbeddedAgent>>,
    watched: bool,
    chosen: Chosen,
    list: Vec<Checked>,
}

/// What is shown in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Chosen {
    #[default]
    Nothing,
    Batch(String),
    Order(String),
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("chosen", &self.chosen).finish_non_exhaustive()
    }
}

impl Office {
    /// An office over these records.
    pub fn new(records: Arc<dyn Records>, config: Config, regions: Regions, read_key: ReadKey) -> Self {
        Self {
            records,
            config,
            regions,
            read_key,
            recipient: None,
            agent: None,
            watched: false,
            chosen: Chosen::Nothing,
            list: Vec::new(),
        }
    }

    /// With the recipient that vendors encrypt product keys to.
    #[must_use]
    pub fn with_recipient(self, recipient: Recipient) -> Self {
        Self { recipient: Some(recipient), ..self }
    }

    /// With the agent, who ends the life of a product key.
    #[must_use]
    pub(crate) fn with_agent(self, agent: Arc<EmbeddedAgent>) -> Self {
        Self { agent: Some(agent), ..self }
    }

    /// Reads what is shown; true if it changed.
    ///
    /// # Errors
    /// Those of the records.
    pub fn look(&self, view: &mut Snapshot) -> Result<bool, Failure> {
        if !self.watched {
            return Ok(false);
        }
        let orders = self.records.list_product_orders().map_err(records_failure)?;
        let batches = self.records.list_batches().map_err(records_failure)?;
        let (mut file, mut order) = (None, None);
        match &self.chosen {
            Chosen::Nothing => {}
            Chosen::Batch(name) => {
                file = batches.iter().find(|b| b.name == *name).map(|b| self.read(b)).transpose()?;
            }
            Chosen::Order(name) => {
                let found = orders.iter().find(|o| o.name == *name);
                order = found.map(|o| self.read_order(o, &batches)).transpose()?;
            }
        }
        let key = |known: &Known| {
            (format!("{:?}", known.orders), format!("{:?}", known.batches), known.regions.clone())
        };
        let known = Known { orders, batches, regions: (self.regions)(), ..Known::of(&self.config) };
        let told = |f: &BatchFile| (f.batch.name.clone(), f.batch.state, f.counts, f.events.len());
        let facts = |o: &OrderFile| (o.order.name.clone(), o.enrolled, o.events.len());
        let changed = key(&known) != key(&view.known)
            || file.as_ref().map(told) != view.file.as_deref().map(told)
            || order.as_ref().map(facts) != view.order.as_deref().map(facts)
            || view.printer.is_none();
        if changed {
            view.known = Arc::new(known);
            view.file = file.map(Arc::new);
            view.order = order.map(Arc::new);
            view.printer = Some(Printer::open(&self.config).map(|p| p.place()));
        }
        Ok(changed)
    }

    fn read(&self, batch: &Batch) -> Result<BatchFile, Failure> {
        let order = self.records.product_order(batch.po).map_err(records_failure)?;
        let counts = self.records.batch_counts(batch.id).map_err(records_failure)?;
        let mut events = self.records.order_events(batch.po, None).map_err(records_failure)?;
        events.retain(|e| e.batch.as_ref().is_none_or(|b| *b == batch.name));
        events.reverse();
        Ok(BatchFile { batch: batch.clone(), order, counts, events })
    }

    fn read_order(&self, order: &ProductOrder, batches: &[Batch]) -> Result<OrderFile, Failure> {
        let enrolled = self.records.product_key_reach(order.id, i64::MIN).map_err(records_failure)?;
        let mut events = self.records.order_events(order.id, None).map_err(records_failure)?;
        let created_at_ms = events.first().map_or(0, |e| e.at_ms);
        events.reverse();
        let batches = batches.iter().filter(|b| b.po == order.id).cloned().collect();
        Ok(OrderFile { order: order.clone(), batches, enrolled, created_at_ms, events })
    }

    fn unit(&self, id: UnitId) -> Result<Unit, Failure> {
        let found = self.records.unit(id).map_err(records_failure)?;
        found.ok_or_else(|| Failure::new(FailureCode::InvalidInput, format!("there is no unit {id}")))
    }

    /// What a command needs; the actions are those of the command line.
    pub(crate) fn need(&self, command: &Command) -> Result<Need, Failure> {
        Ok(match command {
            Command::Watch(_) | Command::Choose(_) | Command::ChooseOrder(_) | Command::LeaveList => {
                Need::Nothing
            }
            Command::ReadList(_) | Command::KeyRecipient => Need::Look(Right::ManageOrders),
            Command::Reach { .. } => Need::Look(Right::InvalidateKey),
            Command::NewOrder { draft, product_key, .. } => {
                let detail =
                    json!({ "product_key": if product_key.is_some() { "the vendor's" } else { "drawn" } });
                Need::Act(Right::ManageOrders, "po-created", draft.get(Field::Name).to_owned(), detail)
            }
            Command::NewBatch { order, draft, clone_of, .. } => {
                let detail = json!({ "po": order, "clone_of": clone_of });
                Need::Act(Right::ManageBatches, "batch-created", draft.get(Field::Batch).to_owned(), detail)
            }
            Command::SetState { batch, state, reason, .. } => {
                let was = self.records.batch_by_name(batch).map_err(records_failure)?.state;
                let (right, action) = state_right(was, *state);
                Need::Act(right, action, batch.clone(), json!({ "reason": reason }))
            }
            Command::TakeList { .. } => {
                let detail = json!({ "orders": self.list.len() });
                Need::Act(Right::ManageOrders, "orders-imported", String::new(), detail)
            }
            Command::TestLabel { .. } => {
                Need::Act(Right::PrintLabels, "label-test", String::new(), json!({}))
            }
            Command::Expect { order, per_hour, .. } => {
                let detail = json!({ "per_hour": per_hour });
                Need::Act(Right::ManageOrders, "po-expected", order.clone(), detail)
            }
            Command::Invalidate { order, since_ms, reason, .. } => {
                let detail = json!({ "since": moment(*since_ms), "reason": reason });
                Need::Act(Right::InvalidateKey, "product-key-invalidated", order.clone(), detail)
            }
            Command::PrintLabel { unit, .. } => {
                Need::Act(Right::PrintLabels, "label-printed", self.unit(*unit)?.serial, json!({}))
            }
            Command::CheckLabel { unit, .. } => {
                Need::Act(Right::PrintLabels, "label-read-back", self.unit(*unit)?.serial, json!({}))
            }
        })
    }

    fn known(&self) -> Result<Known, Failure> {
        Ok(Known {
            orders: self.records.list_product_orders().map_err(records_failure)?,
            batches: self.records.list_batches().map_err(records_failure)?,
            regions: (self.regions)(),
            ..Known::of(&self.config)
        })
    }

    /// Carries a command out; what to say of it.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn carry_out(&mut self, command: Command, view: &mut Snapshot) -> Result<Told, Failure> {
        match command {
            Command::Watch(on) => self.watched = on,
            Command::Choose(batch) => self.chosen = batch.map_or(Chosen::Nothing, Chosen::Batch),
            Command::ChooseOrder(order) => self.chosen = Chosen::Order(order),
            Command::NewOrder { draft, product_key, operator } => {
                let checked = orders::check(&draft, &self.known()?).map_err(|e| orders::refusal(&e))?;
                let product_key = product_key.as_deref().map(|f| (self.read_key)(f)).transpose()?;
                let (mut order, mut batch) = (checked.order, checked.batch);
                (order.product_key, order.operator) = (product_key, operator.clone());
                if let Some(batch) = &mut batch {
                    batch.operator = operator;
                }
                let made = self.records.create_orders(vec![(order, batch)]).map_err(records_failure)?;
                if let Some((order, batch)) = made.into_iter().next() {
                    let words = match &batch {
                        Some(batch) => {
                            format!("Order {} and its batch {} are entered", order.name, batch.name)
                        }
                        None => format!("Order {} is entered", order.name),
                    };
                    self.chosen = batch.map_or(Chosen::Order(order.name), |b| Chosen::Batch(b.name));
                    return Ok(Told::Done(words));
                }
            }
            Command::NewBatch { order, draft, clone_of, operator } => {
                let order = self.records.product_order_by_name(&order).map_err(records_failure)?;
                let mut new =
                    orders::check_batch(&draft, &order, &self.known()?).map_err(|e| orders::refusal(&e))?;
                (new.operator, new.clone_of) = (operator, clone_of);
                let batch = self.records.new_batch(new).map_err(records_failure)?;
                self.chosen = Chosen::Batch(batch.name.clone());
                return Ok(Told::Done(format!("Batch {} is open: {} units", batch.name, batch.quantity)));
            }
            Command::SetState { batch, state, operator, reason } => {
                let found = self.records.batch_by_name(&batch).map_err(records_failure)?;
                self.records.set_batch_state(found.id, state, &operator, &reason).map_err(records_failure)?;
                return Ok(Told::Done(format!("Batch {batch} is {}", state.as_str())));
            }
            Command::ReadList(file) => {
                let read = orders::read_list(&file, &self.known()?);
                let mut shown =
                    ListView { file, orders: 0, batches: 0, rows: Vec::new(), errors: Vec::new() };
                self.list.clear();
                match read {
                    Ok(list) => {
                        shown.orders = list.len();
                        shown.batches = list.iter().filter(|c| c.batch.is_some()).count();
                        shown.rows = list.iter().take(SHOWN).map(row).collect();
                        self.list = list;
                    }
                    Err(errors) => shown.errors = errors.iter().map(ToString::to_string).collect(),
                }
                view.list = Some(Arc::new(shown));
            }
            Command::TakeList { operator } => {
                // It stays until it is taken: whoever corrects what stood in its way does not read it again.
                let count = self.list.len();
                let all = self.list.iter().cloned().map(|mut checked| {
                    checked.order.operator.clone_from(&operator);
                    if let Some(batch) = &mut checked.batch {
                        batch.operator.clone_from(&operator);
                    }
                    (checked.order, checked.batch)
                });
                self.records.create_orders(all.collect()).map_err(records_failure)?;
                self.list.clear();
                view.list = None;
                return Ok(Told::Done(format!("{count} orders were taken")));
            }
            Command::LeaveList => {
                self.list.clear();
                view.list = None;
            }
            Command::TestLabel { operator } => {
                let printer = Printer::open(&self.config)?;
                printer.print(&label::test_facts(), &operator, station::now_ms())?;
                return Ok(Told::Done(format!("A test label went to {}", printer.place())));
            }
            Command::Expect { order, per_hour, .. } => {
                let found = self.records.product_order_by_name(&order).map_err(records_failure)?;
                self.records.expect_rate(found.id, per_hour).map_err(records_failure)?;
                return Ok(Told::Done(format!("Order {order} expects {per_hour} enrolments an hour")));
            }
            Command::Reach { order, since_ms } => {
                let found = self.records.product_order_by_name(&order).map_err(records_failure)?;
                let reach = self.records.product_key_reach(found.id, since_ms).map_err(records_failure)?;
                view.reached = Some(Reached { order, since_ms, reach });
            }
            Command::Invalidate { order, since_ms, reason, operator } => {
                return self.invalidate(&order, since_ms, &reason, &operator);
            }
            Command::KeyRecipient => {
                if let Some(recipient) = &self.recipient {
                    view.recipient = Some(recipient()?);
                }
            }
            Command::PrintLabel { unit, operator } => {
                let (unit, printer) = (self.unit(unit)?, Printer::open(&self.config)?);
                let (_, labels) = hand::print(&*self.records, &printer, &unit, &operator)?;
                let words = format!("Label number {labels} of {} went to {}", unit.serial, printer.place());
                return Ok(Told::Done(words));
            }
            Command::CheckLabel { unit, code, operator } => {
                let unit = self.unit(unit)?;
                hand::read_back(&*self.records, &unit, &code, &operator)?;
                return Ok(Told::Done(format!("The label of {} is its own, and was read back", unit.serial)));
            }
        }
        Ok(Told::Nothing)
    }
}

impl Office {
    fn invalidate(&self, order: &str, since_ms: i64, reason: &str, operator: &str) -> Result<Told, Failure> {
        let no_agent = || Failure::new(FailureCode::StationFault, "the station has no agent");
        let found = self.records.product_order_by_name(order).map_err(records_failure)?;
        let agent = self.agent.as_ref().ok_or_else(no_agent)?;
        let done = agent.invalidate_product_key(found.id, since_ms, reason, operator)?;
        match done.left.first() {
            None => Ok(Told::Done(format!(
                "The product key of {order} counts for nothing: {} units are set aside, {} of them blocked at their cloud",
                done.quarantined, done.blocked
            ))),
            Some((unit, why)) => {
                let facts = format!("{} units, the first is {unit}: {why}; do it again", done.left.len());
                Err(Failure::new(FailureCode::CloudRefused, facts))
            }
        }
    }
}

/// A moment as the audit log has it from the command line.
fn moment(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_string()
}

/// The right to bring a batch from one state to another, and what the audit log calls it.
pub(crate) const fn state_right(was: BatchState, state: BatchState) -> (Right, &'static str) {
    match (was, state) {
        (BatchState::Closed, BatchState::Open) => (Right::ManageBatches, "batch-reopened"),
        (BatchState::Closed, BatchState::Paused) => (Right::ManageBatches, "batch-paused"),
        (_, BatchState::Open) => (Right::ApproveGate, "batch-opened"),
        (_, BatchState::Paused) => (Right::PauseBatch, "batch-paused"),
        (_, BatchState::Closed) => (Right::ManageBatches, "batch-closed"),
    }
}

fn row(checked: &Checked) -> [String; 5] {
    let order = &checked.order;
    let batch =
        checked.batch.as_ref().map_or_else(|| "–".to_owned(), |b| format!("{}, {}", b.name, b.quantity));
    [order.name.clone(), order.model.clone(), order.quantity.to_string(), order.region.to_string(), batch]
}
