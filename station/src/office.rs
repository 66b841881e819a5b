//! The office: orders and batches for the window, behind the desk's thread.
//!
//! The window sends [`Command`]s and reads a [`Snapshot`] that is replaced as a whole. Every rule is in `orders` and in the records; here
//! they are only asked.
//!
//! Invariant: no product key is in a command or a snapshot, only the file that it is read from.

use crate::config::Config;
use crate::desk::Told;
use crate::failure::{Failure, FailureCode};
use crate::label::{self, Printer};
use crate::model::*;
use crate::orders::{self, Checked, Draft, Field, Known};
use crate::people::Right;
use crate::records::{OrderEvent, Records};
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
    /// Shows this batch in full; `None` puts it away.
    Choose(Option<String>),
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
}

impl Command {
    /// The name that it carries: behind a gate it is that of who is logged in.
    pub(crate) const fn operator_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::NewOrder { operator, .. }
            | Self::NewBatch { operator, .. }
            | Self::SetState { operator, .. }
            | Self::TakeList { operator }
            | Self::TestLabel { operator } => Some(operator),
            Self::Watch(_) | Self::Choose(_) | Self::ReadList(_) | Self::LeaveList => None,
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
    /// A list that was read.
    pub list: Option<Arc<ListView>>,
    /// Where labels go, or why they can't.
    pub printer: Option<Result<String, Failure>>,
}

/// How a product key's file is opened.
pub type ReadKey = Arc<dyn Fn(&Path) -> Result<Secret<32>, Failure> + Send + Sync>;

/// Which regions are on this station; one may be made while the window is open.
pub type Regions = Box<dyn Fn() -> Vec<u32> + Send>;

/// What the desk's thread holds of the office.
pub struct Office {
    records: Arc<dyn Records>,
    config: Config,
    regions: Regions,
    read_key: ReadKey,
    watched: bool,
    chosen: Option<String>,
    list: Vec<Checked>,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("chosen", &self.chosen).finish_non_exhaustive()
    }
}

impl Office {
    /// An office over these records.
    pub fn new(records: Arc<dyn Records>, config: Config, regions: Regions, read_key: ReadKey) -> Self {
        Self { records, config, regions, read_key, watched: false, chosen: None, list: Vec::new() }
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
        let file = match &self.chosen {
            Some(name) => batches.iter().find(|b| b.name == *name).map(|b| self.read(b)).transpose()?,
            None => None,
        };
        let key = |known: &Known| {
            (format!("{:?}", known.orders), format!("{:?}", known.batches), known.regions.clone())
        };
        let known = Known { orders, batches, regions: (self.regions)(), ..Known::of(&self.config) };
        let told = |f: &BatchFile| (f.batch.name.clone(), f.batch.state, f.counts, f.events.len());
        let changed = key(&known) != key(&view.known)
            || file.as_ref().map(told) != view.file.as_deref().map(told)
            || view.printer.is_none();
        if changed {
            view.known = Arc::new(known);
            view.file = file.map(Arc::new);
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

    /// What a command needs; the actions are those of the command line.
    pub(crate) fn need(&self, command: &Command) -> Result<Need, Failure> {
        Ok(match command {
            Command::Watch(_) | Command::Choose(_) | Command::LeaveList => Need::Nothing,
            Command::ReadList(_) => Need::Look(Right::ManageOrders),
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
            Command::Choose(batch) => self.chosen = batch,
            Command::NewOrder { draft, product_key, operator } => {
                let checked = orders::check(&draft, &self.known()?).map_err(wrong)?;
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
                    self.chosen = batch.map(|b| b.name).or(self.chosen.take());
                    return Ok(Told::Done(words));
                }
            }
            Command::NewBatch { order, draft, clone_of, operator } => {
                let order = self.records.product_order_by_name(&order).map_err(records_failure)?;
                let mut new = orders::check_batch(&draft, &order, &self.known()?).map_err(wrong)?;
                (new.operator, new.clone_of) = (operator, clone_of);
                let batch = self.records.new_batch(new).map_err(records_failure)?;
                self.chosen = Some(batch.name.clone());
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
                let list = std::mem::take(&mut self.list);
                let count = list.len();
                view.list = None;
                let all = list.into_iter().map(|mut checked| {
                    checked.order.operator.clone_from(&operator);
                    if let Some(batch) = &mut checked.batch {
                        batch.operator.clone_from(&operator);
                    }
                    (checked.order, checked.batch)
                });
                self.records.create_orders(all.collect()).map_err(records_failure)?;
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
        }
        Ok(Told::Nothing)
    }
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

/// What the wizard would not have let through: somebody else was faster.
fn wrong(errors: Vec<orders::FieldError>) -> Failure {
    let facts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field.column(), e.what)).collect();
    Failure::new(FailureCode::InvalidInput, facts.join("; "))
}
