//! Orders and batches beyond making them: lists of orders, samples, timelines.

use super::output::{Done, Exit, Out};
use super::{cell, order_row, qa};
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::image::CommonImage;
use crate::model::{BatchId, PoId};
use crate::orders;
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
