//! Product orders and batches as people enter them: the fields of the wizard, what each may hold, and lists of orders from files.
//!
//! The window's wizard, the command line and the import check the same [`Draft`] with the same functions, so that what one takes the
//! others take. The records check again what only they can know. What is wrong is said in the language of the thread that asks: the
//! window's own, English everywhere else.

use crate::config::Config;
use crate::failure::{Failure, FailureCode};
use crate::i18n::tr;
use crate::image::CommonImage;
use crate::model::{Batch, LabelPolicy, PoId, ProductOrder};
use crate::records::serial::{Day, Pattern};
use crate::records::{NewBatch, NewProductOrder};
use std::fmt::Write as _;
use std::path::Path;

/// Lists are refused beyond this size: it is no list of orders.
const LONGEST_FILE: u64 = 16 << 20;
/// Errors of a list that are told at once.
const TOLD: usize = 10;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $column:literal;)*) => {
        /// One field of the wizard; also a column of a list of orders.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field { $($(#[$doc])* $name),* }

        impl Field {
            /// Every field, in the order of the form.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its column in files.
            pub const fn column(self) -> &'static str {
                match self { $(Self::$name => $column),* }
            }
        }
    };
}

fields! {
    /// The order's name.
    Name = "name";
    /// Device model.
    Model = "model";
    /// Hardware revision; `A` if empty.
    HwRevision = "hw_revision";
    /// Part number; the model if empty.
    PartNumber = "part_number";
    /// Units ordered.
    Quantity = "quantity";
    /// Region.
    Region = "region";
    /// Suite, 1 or 2; 2 if empty.
    Suite = "suite";
    /// Name of a cloud in station.toml; `local` if empty.
    Cloud = "cloud";
    /// Whether units are locked, `yes` or `no`; `yes` if empty.
    Lock = "lock";
    /// Enrolments an hour to expect; not said if empty.
    PerHour = "per_hour";
    /// `none`, `print` or `print+scan-back`; `none` if empty.
    Label = "label";
    /// SHA-256 of the image it is bound to; the first flash binds it if empty.
    Image = "image_sha256";
    /// Name of a batch under it; none if empty.
    Batch = "batch";
    /// Units of the batch; all of the order if empty.
    BatchQuantity = "batch_quantity";
    /// Pattern of the batch's serials; the usual form if empty.
    SerialPattern = "serial_pattern";
    /// Passes between two samples; what the station says if empty.
    GrayRelease = "gray_release";
}

impl Field {
    /// The fields of a batch under an order that exists.
    pub const BATCH: &'static [Self] =
        &[Self::Batch, Self::BatchQuantity, Self::SerialPattern, Self::GrayRelease];

    fn of_column(column: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.column() == column)
    }
}

/// What stands in the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    texts: Vec<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self { texts: vec![String::new(); Field::ALL.len()] }
    }
}

impl Draft {
    /// What stands in a field, without blanks around it.
    pub fn get(&self, field: Field) -> &str {
        self.texts[field as usize].trim()
    }

    /// The text of a field, to be edited.
    pub fn text(&mut self, field: Field) -> &mut String {
        &mut self.texts[field as usize]
    }

    /// Writes a field.
    #[must_use]
    pub fn with(mut self, field: Field, text: impl ToString) -> Self {
        *self.text(field) = text.to_string();
        self
    }

    /// A copy of an order to begin a new one with: all but its name, its image and its key. A cloud that has left station.toml stands in
    /// it as its address, which no cloud is named like: it is a fault to be corrected, and never another cloud.
    pub fn like(order: &ProductOrder, clouds: &[(String, String)]) -> Self {
        let named = clouds.iter().find(|(_, url)| *url == order.cloud_url);
        let cloud = named.map_or(&order.cloud_url, |(name, _)| name);
        Self::default()
            .with(Field::Model, &order.model)
            .with(Field::HwRevision, &order.hw_revision)
            .with(Field::PartNumber, &order.part_number)
            .with(Field::Quantity, order.quantity)
            .with(Field::Region, order.region)
            .with(Field::Suite, order.suite)
            .with(Field::Cloud, cloud)
            .with(Field::Lock, if order.lock { "yes" } else { "no" })
            .with(Field::PerHour, if order.per_hour > 0 { order.per_hour.to_string() } else { String::new() })
            .with(Field::Label, order.label.as_str())
    }

    /// A copy of a batch to begin another with: all but its name.
    pub fn like_batch(batch: &Batch) -> Self {
        let gray = batch.terms.gray_release;
        Self::default()
            .with(Field::BatchQuantity, batch.quantity)
            .with(Field::SerialPattern, &batch.terms.serial_form)
            .with(Field::GrayRelease, if gray > 0 { gray.to_string() } else { String::new() })
    }
}

/// What is wrong in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which.
    pub field: Field,
    /// What is wrong and what may stand there.
    pub what: String,
    /// Somebody else has that name.
    pub taken: bool,
}

/// What is wrong as one failure, for who has no fields to show it beside.
pub fn refusal(errors: &[FieldError]) -> Failure {
    let facts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field.column(), e.what)).collect();
    let taken = !errors.is_empty() && errors.iter().all(|e| e.taken);
    let code = if taken { FailureCode::NameTaken } else { FailureCode::InvalidInput };
    Failure::new(code, facts.join("; "))
}

/// The station's common image, as the wizard binds orders to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationImage {
    /// SHA-256 of `common-image.json`.
    pub sha256: String,
    /// Its version.
    pub version: String,
    /// Its model.
    pub model: String,
}

/// What a draft is checked against.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Orders that there are.
    pub orders: Vec<ProductOrder>,
    /// Batches that there are.
    pub batches: Vec<Batch>,
    /// Regions whose keys are here; empty: they are not looked at.
    pub regions: Vec<u32>,
    /// Clouds of station.toml: name and URL.
    pub clouds: Vec<(String, String)>,
    /// The image of station.toml, if it can be read.
    pub image: Option<StationImage>,
    /// The clock, Unix milliseconds: patterns have dates.
    pub now_ms: i64,
}

impl Known {
    /// The clouds and the image of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            clouds: config.clouds.iter().map(|c| (c.name.clone(), c.url.clone())).collect(),
            image: config.image.as_deref().and_then(|path| CommonImage::glance(path).ok()),
            now_ms: crate::station::now_ms(),
            ..Self::default()
        }
    }
}

/// A draft without faults.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The order.
    pub order: NewProductOrder,
    /// Its first batch, if it names one.
    pub batch: Option<NewBatch>,
}

struct Check<'a> {
    draft: &'a Draft,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    fn fail(&mut self, field: Field, what: impl Into<String>) {
        self.errors.push(FieldError { field, what: what.into(), taken: false });
    }

    /// Names that differ only in case are one to a scanner, to a file system and to whoever reads them aloud.
    fn free<'n>(&mut self, field: Field, name: &str, mut there: impl Iterator<Item = &'n str>) {
        let Some(other) = there.find(|other| other.eq_ignore_ascii_case(name)) else { return };
        let what = match field {
            Field::Batch => tr!("entry-batch-taken", name = other),
            _ => tr!("entry-order-taken", name = other),
        };
        let what = if other == name { what } else { tr!("entry-only-case", what = what) };
        self.errors.push(FieldError { field, what, taken: true });
    }

    fn name(&mut self, field: Field, longest: usize) -> String {
        let text = self.draft.get(field);
        let fits = !text.is_empty()
            && text.len() <= longest
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !text.starts_with(['.', '-']);
        if !fits {
            self.fail(field, tr!("entry-name", longest = longest.to_string()));
        }
        text.to_owned()
    }

    fn words(&mut self, field: Field, otherwise: &str) -> String {
        let text = self.draft.get(field);
        if text.len() > 64 || text.chars().any(char::is_control) {
            self.fail(field, tr!("entry-words"));
        }
        if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
    }

    fn number(&mut self, field: Field, least: u32, otherwise: Option<u32>) -> u32 {
        let text = self.draft.get(field);
        if let (true, Some(otherwise)) = (text.is_empty(), otherwise) {
            return otherwise;
        }
        match text.parse() {
            Ok(number) if number >= least => number,
            _ => {
                self.fail(field, tr!("entry-number", least = least.to_string(), most = u32::MAX.to_string()));
                0
            }
        }
    }
}

/// Checks an order and the batch it names, if it names one.
///
/// # Errors
/// Every field that is wrong.
pub fn check(draft: &Draft, known: &Known) -> Result<Checked, Vec<FieldError>> {
    let mut c = Check { draft, errors: Vec::new() };
    let name = c.name(Field::Name, 16);
    c.free(Field::Name, &name, known.orders.iter().map(|o| o.name.as_str()));
    let model = c.name(Field::Model, 16);
    let hw_revision = c.words(Field::HwRevision, "A");
    let part_number = c.words(Field::PartNumber, &model);
    let quantity = c.number(Field::Quantity, 1, None);
    let here = known.regions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let region = if draft.get(Field::Region).is_empty() && !known.regions.is_empty() {
        c.fail(Field::Region, tr!("entry-region-choose", here = &here));
        0
    } else {
        c.number(Field::Region, 1, None)
    };
    if region > 0 && !known.regions.is_empty() && !known.regions.contains(&region) {
        c.fail(Field::Region, tr!("entry-region", here = &here));
    }
    let suite = match draft.get(Field::Suite) {
        "" | "2" => 2,
        "1" => 1,
        _ => {
            c.fail(Field::Suite, tr!("entry-suite"));
            0
        }
    };
    let cloud = match draft.get(Field::Cloud) {
        "" => "local",
        named => named,
    };
    let cloud_url = match known.clouds.iter().find(|(name, _)| name == cloud) {
        Some((_, url)) => url.clone(),
        None => {
            let names: Vec<_> = known.clouds.iter().map(|(name, _)| name.as_str()).collect();
            c.fail(Field::Cloud, tr!("entry-cloud", cloud = cloud, names = names.join(", ")));
            String::new()
        }
    };
    let lock = match draft.get(Field::Lock).to_ascii_lowercase().as_str() {
        "" | "yes" | "true" => true,
        "no" | "false" => false,
        _ => {
            c.fail(Field::Lock, tr!("entry-lock"));
            true
        }
    };
    let per_hour = c.number(Field::PerHour, 0, Some(0));
    let label = match draft.get(Field::Label) {
        "" => LabelPolicy::None,
        word => word.parse().unwrap_or_else(|_| {
            c.fail(Field::Label, tr!("entry-label"));
            LabelPolicy::None
        }),
    };
    let image_sha256 = match draft.get(Field::Image) {
        "" => None,
        hash if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Some(hash.to_ascii_lowercase())
        }
        _ => {
            c.fail(Field::Image, tr!("entry-image"));
            None
        }
    };
    if let (Some(hash), Some(image)) = (&image_sha256, &known.image)
        && *hash == image.sha256
        && image.model != model
    {
        c.fail(Field::Image, tr!("entry-image-model", model = image.model.as_str()));
    }
    let batch = if Field::BATCH.iter().all(|f| draft.get(*f).is_empty()) {
        None
    } else {
        // A wrong number of units ordered is said once.
        let left = if quantity == 0 { u32::MAX } else { quantity };
        Some(batch_of(&mut c, known, left, quantity))
    };
    if c.errors.is_empty() {
        let order = NewProductOrder {
            name,
            model,
            hw_revision,
            part_number,
            quantity,
            region,
            suite,
            cloud_url,
            lock,
            per_hour,
            label,
            image_sha256,
            ..NewProductOrder::default()
        };
        Ok(Checked { order, batch })
    } else {
        Err(c.errors)
    }
}

/// Checks a batch under an order that exists.
///
/// # Errors
/// Every field that is wrong.
pub fn check_batch(draft: &Draft, order: &ProductOrder, known: &Known) -> Result<NewBatch, Vec<FieldError>> {
    let mut c = Check { draft, errors: Vec::new() };
    let planned: u64 = known.batches.iter().filter(|b| b.po == order.id).map(|b| u64::from(b.quantity)).sum();
    let left = u64::from(order.quantity).saturating_sub(planned) as u32;
    let batch = NewBatch { po: order.id, ..batch_of(&mut c, known, left, left) };
    if c.errors.is_empty() { Ok(batch) } else { Err(c.errors) }
}

fn batch_of(c: &mut Check<'_>, known: &Known, left: u32, usual: u32) -> NewBatch {
    let name = c.name(Field::Batch, 32);
    c.free(Field::Batch, &name, known.batches.iter().map(|b| b.name.as_str()));
    let quantity = c.number(Field::BatchQuantity, 1, Some(usual.max(1)));
    if quantity > left {
        c.fail(Field::BatchQuantity, tr!("entry-left", left = left.to_string()));
    }
    let serial_pattern = c.draft.get(Field::SerialPattern).to_owned();
    if serial_pattern.is_empty() {
        let usual = Pattern::usual(&name);
        // A name that is taken has taken its serials: that is said once.
        let said = c.errors.iter().any(|e| e.field == Field::Batch);
        if let Some(whose) = clash(&usual, "", known).filter(|_| !said) {
            c.fail(Field::Batch, tr!("entry-serials", batch = whose.as_str()));
        }
    } else {
        match Pattern::parse(&serial_pattern, &name, Day::at(known.now_ms)) {
            Err(error) => c.fail(
                Field::SerialPattern,
                tr!("entry-pattern", position = error.position.to_string(), what = error.what.as_str()),
            ),
            Ok(pattern) => {
                if pattern.room() < quantity {
                    let what =
                        tr!("entry-room", room = pattern.room().to_string(), quantity = quantity.to_string());
                    c.fail(Field::SerialPattern, what);
                } else if let Some(whose) = clash(&pattern, &pattern.to_string(), known) {
                    c.fail(Field::SerialPattern, tr!("entry-serials", batch = whose.as_str()));
                }
            }
        }
    }
    let gray_release = c.number(Field::GrayRelease, 0, Some(0));
    NewBatch { po: PoId(0), name, quantity, serial_pattern, gray_release, ..NewBatch::default() }
}

/// Whose serials a pattern could give; batches of the same pattern share one counter.
fn clash(pattern: &Pattern, text: &str, known: &Known) -> Option<String> {
    known.batches.iter().find_map(|b| {
        let theirs = &b.terms.serial_pattern;
        if !text.is_empty() && theirs == text {
            return None;
        }
        let other = if theirs.is_empty() { Pattern::usual(&b.name) } else { Pattern::read(theirs).ok()? };
        pattern.meets(&other).then(|| b.name.clone())
    })
}

/// The first serial of a batch as it is entered; `None` while its pattern is wrong. What the batch's name brings along stands in it as
/// it is, look-alikes too: they are the same in every serial of the batch.
pub fn first_serial(draft: &Draft, known: &Known) -> Option<String> {
    let name = Some(draft.get(Field::Batch)).filter(|name| !name.is_empty())?;
    match draft.get(Field::SerialPattern) {
        "" => Pattern::usual(name),
        own => Pattern::parse(own, name, Day::at(known.now_ms)).ok()?,
    }
    .serial(1)
}

/// Where a list of orders is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// Line of a CSV file, entry of a JSON file, counted from 1; 0: the file as a whole.
    pub row: u64,
    /// Column; empty: the row as a whole.
    pub column: String,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for ImportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.row, self.column.as_str()) {
            (0, "") => write!(f, "{}", self.what),
            (0, column) => write!(f, "column {column}: {}", self.what),
            (row, "") => write!(f, "row {row}: {}", self.what),
            (row, column) => write!(f, "row {row}, column {column}: {}", self.what),
        }
    }
}

/// Errors of a list as one failure: the first ones, and how many more.
pub fn import_failure(file: &Path, errors: &[ImportError]) -> Failure {
    let mut facts = format!("{}", file.display());
    for error in errors.iter().take(TOLD) {
        write!(facts, "; {error}").ok();
    }
    if errors.len() > TOLD {
        write!(facts, "; and {} more", errors.len() - TOLD).ok();
    }
    Failure {
        code: FailureCode::InvalidInput,
        sentence: format!("The list of orders was not taken, none of them: {facts}"),
        remedy: "Correct the list where the message points and import it again".into(),
    }
}

/// Reads a list of orders (CSV with `,` or `;`, or JSON by its name) and checks all of it.
///
/// # Errors
/// Every fault with its row and column; nothing of such a list is taken.
pub fn read_list(path: &Path, known: &Known) -> Result<Vec<Checked>, Vec<ImportError>> {
    let whole = |what: String| vec![ImportError { row: 0, column: String::new(), what }];
    let size = std::fs::metadata(path).map_err(|e| whole(e.to_string()))?.len();
    if size > LONGEST_FILE {
        return Err(whole(format!("it has {size} bytes; a list of orders has at most {LONGEST_FILE}")));
    }
    let text = std::fs::read(path).map_err(|e| whole(e.to_string()))?;
    let text = String::from_utf8(text).map_err(|e| {
        whole(format!("it is not UTF-8 at byte {}; save it as UTF-8", e.utf8_error().valid_up_to() + 1))
    })?;
    let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let text = text.trim_start_matches('\u{feff}');
    let drafts = if json { json_drafts(text)? } else { csv_drafts(text)? };
    check_list(drafts, known)
}

fn check_list(drafts: Vec<(u64, Draft)>, known: &Known) -> Result<Vec<Checked>, Vec<ImportError>> {
    if drafts.is_empty() {
        return Err(vec![ImportError { row: 0, column: String::new(), what: "it has no orders".into() }]);
    }
    let mut known = known.clone();
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for (row, draft) in drafts {
        match check(&draft, &known) {
            Ok(checked) => {
                // What this row takes the next ones can't have.
                known.orders.push(shadow(&checked.order));
                if let Some(batch) = &checked.batch {
                    known.batches.push(shadow_batch(batch, known.now_ms));
                }
                all.push(checked);
            }
            Err(wrong) => errors.extend(wrong.into_iter().map(|e| ImportError {
                row,
                column: e.field.column().into(),
                what: e.what,
            })),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

/// An order that is not there yet, as far as names go.
fn shadow(new: &NewProductOrder) -> ProductOrder {
    ProductOrder {
        id: PoId(0),
        name: new.name.clone(),
        model: new.model.clone(),
        hw_revision: new.hw_revision.clone(),
        part_number: new.part_number.clone(),
        quantity: new.quantity,
        region: new.region,
        suite: new.suite,
        image_sha256: new.image_sha256.clone(),
        cloud_url: new.cloud_url.clone(),
        lock: new.lock,
        per_hour: new.per_hour,
        key_invalid_at_ms: None,
        label: new.label,
    }
}

fn shadow_batch(new: &NewBatch, now_ms: i64) -> Batch {
    let pattern = Pattern::parse(&new.serial_pattern, &new.name, Day::at(now_ms)).map(|p| p.to_string());
    Batch {
        id: crate::model::BatchId(0),
        name: new.name.clone(),
        po: PoId(0),
        quantity: new.quantity,
        state: crate::model::BatchState::Open,
        terms: crate::model::BatchTerms {
            serial_pattern: if new.serial_pattern.is_empty() {
                String::new()
            } else {
                pattern.unwrap_or_default()
            },
            ..crate::model::BatchTerms::default()
        },
    }
}

fn csv_drafts(text: &str) -> Result<Vec<(u64, Draft)>, Vec<ImportError>> {
    let first = text.lines().next().unwrap_or_default();
    let delimiter = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let told = |error: &csv::Error| {
        let row = error.position().map_or(0, csv::Position::line);
        let what = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("it has {len} fields, the first line has {expected_len}")
            }
            _ => error.to_string(),
        };
        ImportError { row, column: String::new(), what }
    };
    let header = reader.headers().map_err(|e| vec![told(&e)])?.clone();
    let columns = columns_of(header.iter())?;
    let (mut drafts, mut errors) = (Vec::new(), Vec::new());
    for record in reader.records() {
        match record {
            Ok(record) => {
                let row = record.position().map_or(0, csv::Position::line);
                let mut draft = Draft::default();
                for (field, text) in columns.iter().zip(&record) {
                    *draft.text(*field) = text.to_owned();
                }
                drafts.push((row, draft));
            }
            Err(error) => errors.push(told(&error)),
        }
    }
    if errors.is_empty() { Ok(drafts) } else { Err(errors) }
}

fn columns_of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Field>, Vec<ImportError>> {
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        let fault = |what: String| ImportError { row: 1, column: name.trim().into(), what };
        match Field::of_column(name.trim()) {
            Some(field) if columns.contains(&field) => errors.push(fault("it is there twice".into())),
            Some(field) => columns.push(field),
            None => {
                let known: Vec<_> = Field::ALL.iter().map(|f| f.column()).collect();
                errors.push(fault(format!("it is not known; there are {}", known.join(", "))));
            }
        }
    }
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

fn json_drafts(text: &str) -> Result<Vec<(u64, Draft)>, Vec<ImportError>> {
    let list: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(text).map_err(|e| {
        vec![ImportError { row: 0, column: String::new(), what: format!("expected a list of objects: {e}") }]
    })?;
    let (mut drafts, mut errors) = (Vec::new(), Vec::new());
    for (row, object) in (1..).zip(list) {
        let mut draft = Draft::default();
        for (name, value) in object {
            let mut fault = |what: String| errors.push(ImportError { row, column: name.clone(), what });
            let Some(field) = Field::of_column(&name) else {
                let known: Vec<_> = Field::ALL.iter().map(|f| f.column()).collect();
                fault(format!("it is not known; there are {}", known.join(", ")));
                continue;
            };
            *draft.text(field) = match value {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::Bool(yes) => (if yes { "yes" } else { "no" }).into(),
                _ => {
                    fault("expected a text, a number, true, false or null".into());
                    continue;
                }
            };
        }
        drafts.push((row, draft));
    }
    if errors.is_empty() { Ok(drafts) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::serial::format;

    fn known() -> Known {
        Known {
            regions: vec![7, 8],
            clouds: vec![
                ("local".into(), "mqtt://local".into()),
                ("plant".into(), "mqtts://plant:8883".into()),
            ],
            image: Some(StationImage {
                sha256: "ab".repeat(32),
                version: "0.1.0".into(),
                model: "KW-METER".into(),
            }),
            now_ms: 1_795_700_000_000,
            ..Known::default()
        }
    }

    fn draft() -> Draft {
        Draft::default()
            .with(Field::Name, " PO-1 ")
            .with(Field::Model, "KW-GATEWAY-429")
            .with(Field::Quantity, 500)
            .with(Field::Region, 7)
    }

    fn errors(draft: &Draft) -> Vec<(Field, String)> {
        check(draft, &known()).unwrap_err().into_iter().map(|e| (e.field, e.what)).collect()
    }

    fn list(name: &str, text: &str) -> Result<Vec<Checked>, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_list(&path, &known()).map_err(|all| all.iter().map(ImportError::to_string).collect())
    }

    #[test]
    fn what_is_left_empty_has_a_usual_value() {
        let Checked { order, batch } = check(&draft(), &known()).unwrap();
        assert_eq!((order.name.as_str(), order.part_number.as_str()), ("PO-1", "KW-GATEWAY-429"));
        assert_eq!((order.suite, order.lock, order.cloud_url.as_str()), (2, true, "mqtt://local"));
        assert!(batch.is_none() && order.image_sha256.is_none() && order.product_key.is_none());
        let with = draft().with(Field::Batch, "W1").with(Field::Label, "print+scan-back");
        let Checked { order, batch } = check(&with, &known()).unwrap();
        assert_eq!((order.label, batch.unwrap().quantity), (LabelPolicy::ScanBack, 500));
    }

    #[test]
    fn every_field_says_what_may_stand_there() {
        for (field, text, what) in [
            (Field::Name, "", "1 to 16"),
            (Field::Name, "a b", "1 to 16"),
            (Field::Model, "seventeen-letters", "1 to 16"),
            (Field::HwRevision, "a\tb", "printable"),
            (Field::Quantity, "0", "1 to 4294967295"),
            (Field::Quantity, "many", "1 to 4294967295"),
            (Field::Region, "9", "here are 7, 8"),
            (Field::Region, "", "choose one: 7, 8"),
            (Field::Suite, "3", "2 (hardened)"),
            (Field::Cloud, "sky", "it has local, plant"),
            (Field::Lock, "maybe", "yes or no"),
            (Field::PerHour, "-1", "0 to"),
            (Field::Label, "scan", "none, print"),
            (Field::Image, "abc", "64 hex"),
            (Field::SerialPattern, "KW-{n:5}", "no check character"),
            (Field::GrayRelease, "x", "0 to"),
        ] {
            let wrong = errors(&draft().with(Field::Batch, "W1").with(field, text));
            assert!(
                matches!(&wrong[..], [(f, w)] if *f == field && w.contains(what)),
                "{field:?}: {wrong:?}"
            );
        }
        let all = errors(&Draft::default());
        assert_eq!(all.len(), 4, "every fault at once: {all:?}");
        let other = draft().with(Field::Image, "AB".repeat(32));
        assert!(errors(&other)[0].1.contains("for model KW-METER"));
    }

    #[test]
    fn a_batch_fits_its_order_and_its_serials_are_its_own() {
        let mut known = known();
        let Checked { order, batch } =
            check(&draft().with(Field::Batch, "W1").with(Field::BatchQuantity, 400), &known).unwrap();
        known.orders.push(shadow(&order));
        known.batches.push(shadow_batch(&batch.unwrap(), known.now_ms));
        let order = known.orders[0].clone();
        let wrong = |draft: &Draft| check_batch(draft, &order, &known).unwrap_err()[0].what.clone();
        let next = Draft::like_batch(&known.batches[0]).with(Field::Batch, "W2");
        assert_eq!(wrong(&next), "the order has 100 units left");
        let next = next.with(Field::BatchQuantity, "");
        assert_eq!(check_batch(&next, &order, &known).unwrap().quantity, 100, "what is left");
        assert_eq!(wrong(&next.clone().with(Field::Batch, "W1")), "there is a batch W1 already");
        let case = next.clone().with(Field::Batch, "w1");
        assert_eq!(wrong(&case), "there is a batch W1 already, and names must differ in more than case");
        let refused = refusal(&check_batch(&case, &order, &known).unwrap_err());
        assert_eq!(refused.code, FailureCode::NameTaken);
        assert!(refused.sentence.contains("batch: there is a batch W1"), "{refused}");
        assert_eq!(first_serial(&next.clone().with(Field::Batch, "B-2"), &known).unwrap(), format("B-2", 1));
        let same = next.clone().with(Field::SerialPattern, "W1-{n:5}{c}");
        assert_eq!(wrong(&same), "its serials could be those of batch W1");
        assert!(
            wrong(&next.with(Field::SerialPattern, "W-{n:3}{c}").with(Field::BatchQuantity, 0))
                .contains("1 to")
        );
    }

    #[test]
    fn a_copy_of_an_order_whose_cloud_is_gone_says_so_and_takes_no_other() {
        let order = shadow(&check(&draft().with(Field::Cloud, "plant"), &known()).unwrap().order);
        let copy = |clouds: &[(String, String)]| Draft::like(&order, clouds).with(Field::Name, "PO-2");
        assert_eq!(check(&copy(&known().clouds), &known()).unwrap().order.cloud_url, "mqtts://plant:8883");
        let now = Known { clouds: known().clouds[..1].to_vec(), ..known() };
        let wrong = check(&copy(&now.clouds), &now).unwrap_err();
        assert_eq!((wrong.len(), wrong[0].field), (1, Field::Cloud));
        assert!(wrong[0].what.contains("no cloud mqtts://plant:8883; it has local"), "{wrong:?}");
    }

    #[test]
    fn the_samples_are_one_list_in_two_forms() {
        let csv = list("a.csv", include_str!("../../docs/formats/orders.sample.csv")).unwrap();
        let json = list("a.json", include_str!("../../docs/formats/orders.sample.json")).unwrap();
        assert_eq!(csv.len(), 3);
        for (a, b) in csv.iter().zip(&json) {
            assert_eq!(format!("{:?}", a.order), format!("{:?}", b.order));
            assert_eq!(format!("{:?}", a.batch), format!("{:?}", b.batch));
        }
        assert_eq!(csv[1].batch.as_ref().unwrap().serial_pattern, "KW-{yy}{ww}-{n:5}-{c}");
    }

    #[test]
    fn one_bad_row_refuses_the_list_and_is_named() {
        let head = "name,model,quantity,region,batch\n";
        let good = "PO-1,KW,5,7,W1\n";
        let told = |text: &str| list("a.csv", &format!("{head}{text}")).unwrap_err();
        assert_eq!(
            told(&format!("{good}PO-1,KW,5,7,W2\n")),
            ["row 3, column name: there is an order PO-1 already"]
        );
        assert_eq!(
            told(&format!("{good}PO-2,KW,5,7,W1\n"))[0],
            "row 3, column batch: there is a batch W1 already"
        );
        assert_eq!(told("PO-1,KW,x,9,W1\n").len(), 2, "quantity and region");
        assert_eq!(told("PO-1,KW,5\n"), ["row 2: it has 3 fields, the first line has 5"]);
        assert_eq!(told("\"PO\n1\",KW,5,7,\nPO-2,KW,0,7,\n").len(), 2, "a line inside a field counts");
        let unknown = list("a.csv", "name,modell\n").unwrap_err();
        assert!(
            unknown[0].starts_with("row 1, column modell: it is not known; there are name, model"),
            "{unknown:?}"
        );
        assert_eq!(list("a.csv", head).unwrap_err(), ["it has no orders"]);
        assert!(list("a.csv", "\u{feff}name;model;quantity;region\r\nPO-1;KW;5;7\r\n").is_ok());
        assert!(list("a.json", "{}").unwrap_err()[0].contains("expected a list of objects"));
        let nested =
            list("a.json", r#"[{"name": ["PO"], "model": "KW", "quantity": 5, "region": 7}]"#).unwrap_err();
        assert!(nested[0].starts_with("row 1, column name: expected a text"), "{nested:?}");
        let failure = import_failure(
            Path::new("x.csv"),
            &vec![ImportError { row: 2, column: String::new(), what: "w".into() }; 12],
        );
        assert!(failure.sentence.ends_with("and 2 more"), "{failure}");
    }
}
