//! `armilla inspect log`

use super::file::Contents;
use super::{Printer, dot, number, put_bytes, readable};
use crate::causal::object::{Kind, Sibling};
use crate::engine::inspect::{
    self, Found, Group, LogPart, LogSummary, ManifestState, NotRead, Record,
};
use crate::engine::parse_segment_name;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn show(
    path: &Path,
    contents: &Contents,
    records: bool,
    printer: &mut Printer,
) -> Result<(), NotRead> {
    let number = number(path, parse_segment_name);
    let manifest = number.and_then(|number| sealed(path, number));
    let summary = inspect::log(&contents.bytes, number, manifest, &mut |part| match part {
        LogPart::Group(group) => printer.show(|| group_text(group), || group_json(group)),
        LogPart::Record {
            offset,
            record,
            bad_values,
        } if records => printer.show(
            || record_text(offset, record, bad_values),
            || record_json(offset, record, bad_values),
        ),
        LogPart::Record { .. } => {}
        LogPart::Flaw(flaw) => printer.flaw(flaw),
    })?;
    printer.show(
        || summary_text(&summary, manifest),
        || summary_json(&summary, manifest),
    );
    Ok(())
}

/// Where the manifest beside the segment says that its groups end, if there is one and it says it.
fn sealed(path: &Path, number: u32) -> Option<u64> {
    let data = path.parent()?.parent()?;
    let states = super::manifest::states(data).into_iter();
    let ends = states.filter_map(|state: ManifestState| {
        let sealed = state.sealed.iter().find(|one| one.segment == number);
        sealed.map(|sealed| sealed.end)
    });
    ends.max()
}

fn group_text(group: &Group) -> String {
    let Group {
        number,
        offset,
        pages,
        records,
        durable_up_to,
        whole,
        ..
    } = group;
    let bad = if *whole { "" } else { ", NOT WHOLE" };
    format!(
        "group {number} at byte {offset}: {pages} page(s), {records} record(s), durable up to {durable_up_to}{bad}"
    )
}

fn group_json(group: &Group) -> Value {
    json!({
        "kind": "group",
        "number": group.number,
        "previous": group.previous,
        "offset": group.offset,
        "pages": group.pages,
        "used_bytes": group.used_bytes,
        "records": group.records,
        "first_sequence": group.first_sequence,
        "durable_up_to": group.durable_up_to,
        "whole": group.whole,
    })
}

fn place(value: &Found<'_>) -> (String, Value) {
    match value {
        Found::Nowhere => ("no value".to_owned(), Value::Null),
        Found::Here(value) => (
            format!("{} bytes here", value.len()),
            json!({ "bytes": value.len() }),
        ),
        Found::At {
            location,
            sibling,
            bytes,
        } => (
            format!(
                "{bytes} bytes in segment {} at byte {}",
                location.segment,
                location.offset()
            ),
            json!({
                "bytes": bytes,
                "segment": location.segment,
                "offset": location.offset(),
                "record_bytes": location.bytes,
                "sibling": sibling,
            }),
        ),
    }
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Value => "value",
        Kind::Tombstone => "tombstone",
        Kind::ValueLost => "lost",
    }
}

fn record_text(offset: u64, record: &Record<'_>, bad_values: usize) -> String {
    let key = &record.key;
    let mut text = format!(
        "  record at byte {offset}, {} bytes: key {}, bucket {}",
        record.bytes,
        readable(key.key),
        readable(key.bucket)
    );
    if bad_values > 0 {
        text += &format!(", BAD VALUES: {bad_values}");
    }
    for sibling in &record.object.siblings {
        let (dot, what) = (dot(sibling.dot), kind(sibling.kind));
        text += &format!("\n    {dot} {what}: {}", place(&sibling.value).0);
    }
    text
}

/// All of a sibling but where its value is.
pub(super) fn sibling_json<V>(sibling: &Sibling<V>, place: Value) -> Value {
    json!({
        "dot": dot(sibling.dot),
        "kind": kind(sibling.kind),
        "operation": format!("{:032x}", sibling.operation.0),
        "written_ms": sibling.written.0,
        "expires_ms": sibling.expires.0,
        "value_hash": format!("{:016x}", sibling.value_hash),
        "value": place,
    })
}

fn record_json(offset: u64, record: &Record<'_>, bad_values: usize) -> Value {
    let mut json = Map::new();
    json.insert("kind".to_owned(), "record".into());
    put_bytes(&mut json, "key", record.key.key);
    put_bytes(&mut json, "bucket", record.key.bucket);
    let siblings = record.object.siblings.iter();
    let siblings = siblings.map(|one| sibling_json(one, place(&one.value).1));
    let rest = json!({
        "offset": offset,
        "bytes": record.bytes,
        "position": format!("{:016x}", record.key.position.0),
        "bad_values": bad_values,
        "siblings": siblings.collect::<Vec<_>>(),
    });
    if let Value::Object(rest) = rest {
        json.extend(rest);
    }
    Value::Object(json)
}

fn summary_text(summary: &LogSummary, sealed: Option<u64>) -> String {
    let LogSummary {
        groups,
        records,
        end,
        durable_up_to,
        flaws,
        ..
    } = summary;
    let segment = summary.segment.map_or("?".to_owned(), |n| n.to_string());
    let log = summary.log.map_or("of no known log".to_owned(), |log| {
        format!("log {:016x} of shard {}", log.identity, log.shard)
    });
    let numbers = match summary.first.zip(summary.last) {
        Some((first, last)) => format!(" ({first} to {last})"),
        None => String::new(),
    };
    let mut text = format!(
        "segment {segment}, {log}: {groups} whole group(s){numbers} with {records} record(s) up to byte {end}, durable up \
         to {durable_up_to}"
    );
    text += &match (summary.tail, sealed) {
        (Some(tail), None) => format!(
            "\nUp to byte {tail} stands what is no whole group: a group being written, or one that was torn and never \
             acked. Only the manifest can tell whether more was there"
        ),
        (Some(tail), Some(_)) => {
            format!("\nUp to byte {tail} stands a torn group, which was never acked")
        }
        (None, _) => String::new(),
    };
    text + &match flaws {
        0 => "\nAll of it is whole".to_owned(),
        flaws => format!("\nDAMAGED places: {flaws}"),
    }
}

fn summary_json(summary: &LogSummary, sealed: Option<u64>) -> Value {
    json!({
        "kind": "segment",
        "segment": summary.segment,
        "shard": summary.log.map(|log| log.shard),
        "log": summary.log.map(|log| format!("{:016x}", log.identity)),
        "bytes": summary.bytes,
        "groups": summary.groups,
        "records": summary.records,
        "first_group": summary.first,
        "last_group": summary.last,
        "durable_up_to": summary.durable_up_to,
        "end": summary.end,
        "sealed_end": sealed,
        "tail_end": summary.tail,
        "damaged_places": summary.flaws,
    })
}
