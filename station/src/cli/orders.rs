//! Orders and batches beyond making them: lists of orders, samples, timelines.

use super::output::{CliError, Done, Exit, Out};
use super::{args, cell, order_row, qa};
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::image::CommonImage;
use crate::model::{Batch, BatchId, PoId, ProductOrder};
use crate::orders::{self, Draft, Field, Known};
use crate::records::Records;
use crate::station::Station;
use serde_json::json;
use std::path::Path;

/// Units of a sample that are named.
const SAMPLE: u32 = 3;

/// What an order is bound to: a file's hash, or a hash as it is.
pub fn image_hash(image: &str, model: &str) -> Result<String, Failure> {
    if image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(image.to_owned());
    }
    let seen = CommonImage::glance(Path::new(image))?;
    if seen.model == model {
        Ok(seen.sha256)
    } else {
        Err(Failure::new(
            FailureCode::ImageWrongProduct,
            format!("{image} is for {}, not for {model}", seen.model),
        ))
    }
}

/// Enters an order that was checked as the window checks it.
fn enter(
    station: &Station,
    draft: &Draft,
    product_key: Option<&Path>,
    clone_of: Option<&str>,
    out: Out,
) -> Done {
    let mut order = orders::check(draft, &station.known_orders()?).map_err(|e| orders::refusal(&e))?.order;
    order.product_key = product_key.map(|file| station.read_product_key(file)).transpose()?;
    order.operator.clone_from(&station.operator);
    let order = station.records.create_product_order(order)?;
    let like = clone_of.map_or_else(String::new, |other| format!(", like {other}"));
    out.say(
        &order_row(&order).1,
        format_args!(
            "product order {}: {} × {}, region {}{like}",
            order.name, order.quantity, order.model, order.region
        ),
    );
    Ok(Exit::Pass)
}

pub fn new(station: &Station, new: &args::PoNew, out: Out) -> Done {
    let image = new.image.as_deref().map(|image| image_hash(image, &new.model)).transpose()?;
    let draft = Draft::default()
        .with(Field::Name, &new.name)
        .with(Field::Model, &new.model)
        .with(Field::HwRevision, &new.hw_revision)
        .with(Field::PartNumber, new.part_number.as_deref().unwrap_or_default())
        .with(Field::Quantity, new.quantity)
        .with(Field::Region, new.region)
        .with(Field::Suite, new.suite)
        .with(Field::Cloud, &new.cloud)
        .with(Field::Lock, if new.no_lock { "no" } else { "yes" })
        .with(Field::PerHour, new.per_hour)
        .with(Field::Label, new.label.as_str())
        .with(Field::Image, image.unwrap_or_default());
    enter(station, &draft, new.product_key.as_deref(), None, out)
}

pub fn clone(station: &Station, args: &args::PoClone, out: Out) -> Done {
    let old = station.records.product_order_by_name(&args.from)?;
    let mut draft = Draft::like(&old, &Known::of(&station.config).clouds).with(Field::Name, &args.name);
    let given = [
        (Field::Quantity, args.quantity.map(|n| n.to_string())),
        (Field::Region, args.region.map(|n| n.to_string())),
        (Field::Cloud, args.cloud.clone()),
    ];
    for (field, text) in given {
        if let Some(text) = text {
            *draft.text(field) = text;
        }
    }
    enter(station, &draft, args.product_key.as_deref(), Some(&args.from), out)
}

/// A batch that was checked as the window checks it.
pub fn batch(
    station: &Station,
    draft: &Draft,
    order: &ProductOrder,
    clone_of: Option<&str>,
) -> Result<Batch, CliError> {
    let mut new =
        orders::check_batch(draft, order, &station.known_orders()?).map_err(|e| orders::refusal(&e))?;
    (new.operator, new.clone_of) = (station.operator.clone(), clone_of.map(str::to_owned));
    Ok(station.records.new_batch(new)?)
}

pub fn import(station: &Station, file: &Path, dry_run: bool, out: Out) -> Done {
    let known = station.known_orders()?;
    let list = orders::read_list(file, &known).map_err(|errors| orders::import_failure(file, &errors))?;
    let batches = list.iter().filter(|c| c.batch.is_some()).count();
    if !dry_run {
        let operator = &station.operator;
        let all = list.into_iter().map(|mut checked| {
            checked.order.operator.clone_from(operator);
            if let Some(batch) = &mut checked.batch {
                batch.operator.clone_from(operator);
            }
            (checked.order, checked.batch)
        });
        let made = station.records.create_orders(all.collect())?;
        let rows: Vec<_> = made.iter().map(|(order, _)| order_row(order)).collect();
        out.table(&["ORDER", "MODEL", "QUANTITY", "REGION", "SUITE", "PART", "LOCK", "CLOUD"], &rows);
        out.say(
            &json!({ "event": "import", "file": file, "orders": rows.len(), "batches": batches, "taken": true }),
            format_args!("{} orders and {batches} batches were taken", rows.len()),
        );
        return Ok(Exit::Pass);
    }
    out.say(
        &json!({ "event": "import", "file": file, "orders": list.len(), "batches": batches, "taken": false }),
        format_args!("{} orders and {batches} batches are right; nothing was taken", list.len()),
    );
    Ok(Exit::Pass)
}

pub fn approve(station: &Station, name: &str, note: &str, yes: bool, out: Out) -> Done {
    let records = &station.records;
    let batch = records.batch_by_name(name)?;
    let sample = records.sample(batch.id, SAMPLE)?;
    let serials: Vec<_> = sample.iter().map(|u| u.serial.clone()).collect();
    let waiting = batch.terms.passed.saturating_sub(batch.terms.approved);
    out.say(
        &json!({ "event": "sample", "batch": name, "waiting": waiting, "serials": serials }),
        format_args!(
            "{waiting} units of batch {name} passed since the last sample; look at {}",
            serials.join(", ")
        ),
    );
    if waiting > 0
        && !qa::confirm(yes, out, &format!("The sample stands for {waiting} units of batch {name}."))?
    {
        return Err(qa::cancelled());
    }
    records.approve_sample(batch.id, &station.operator, note)?;
    out.say(
        &json!({ "event": "sample-approved", "batch": name, "units": waiting }),
        format_args!("the sample of {waiting} units is approved; batch {name} goes on"),
    );
    Ok(Exit::Pass)
}

pub fn timeline(station: &Station, po: PoId, batch: Option<BatchId>, out: Out) -> Done {
    let rows: Vec<_> = station
        .records
        .order_events(po, batch)?
        .into_iter()
        .map(|e| {
            let object = json!({
                "event": "order-event", "seq": e.seq, "at": Stamp(e.at_ms), "batch": e.batch, "kind": e.kind,
                "operator": e.operator, "reason": e.reason, "detail": e.detail,
            });
            (
                ["at", "batch", "kind", "operator", "reason", "detail"]
                    .iter()
                    .map(|k| cell(&object, k))
                    .collect(),
                object,
            )
        })
        .collect();
    out.table(&["AT", "BATCH", "WHAT", "OPERATOR", "REASON", "DETAIL"], &rows);
    Ok(Exit::Pass)
}
