//! `armilla inspect table`

use super::file::Contents;
use super::log::{kind, sibling_json};
use super::{Printer, dot, number, put_bytes, readable};
use crate::engine::Place;
use crate::engine::inspect::{self, NotRead, TableBlock, TableEntry, TablePart, TableSummary};
use crate::engine::key::KeyRef;
use crate::engine::parse_table_name;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn show(
    path: &Path,
    contents: &Contents,
    entries: bool,
    printer: &mut Printer,
) -> Result<(), NotRead> {
    let number = number(path, parse_table_name);
    let summary = inspect::table(&contents.bytes, number, &mut |part| match part {
        TablePart::Block(block) if entries => {
            printer.show(|| block_text(&block), || block_json(&block));
        }
        TablePart::Entry { key, entry } if entries => {
            printer.show(|| entry_text(key, entry), || entry_json(key, entry));
        }
        TablePart::Block(_) | TablePart::Entry { .. } => {}
        TablePart::Flaw(flaw) => printer.flaw(flaw),
    })?;
    printer.show(|| summary_text(&summary), || summary_json(&summary));
    Ok(())
}

fn block_text(block: &TableBlock) -> String {
    let TableBlock {
        offset,
        pages,
        entries,
    } = block;
    format!("block at byte {offset}: {pages} page(s), {entries} entries")
}

fn block_json(block: &TableBlock) -> Value {
    json!({
        "kind": "block",
        "offset": block.offset,
        "pages": block.pages,
        "entries": block.entries,
    })
}

fn place(place: &Place) -> (String, Value) {
    match place {
        Place::Nowhere => ("no value".to_owned(), Value::Null),
        Place::Inline(value) => (
            format!("{} bytes here", value.len()),
            json!({ "bytes": value.len() }),
        ),
        Place::At {
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

fn entry_text(key: KeyRef<'_>, entry: Option<&TableEntry>) -> String {
    let (name, bucket) = (readable(key.key), readable(key.bucket));
    let mut text = format!("  {:016x} key {name}, bucket {bucket}", key.position.0);
    match entry {
        Some(entry) => {
            for sibling in &entry.object.siblings {
                let (dot, what) = (dot(sibling.dot), kind(sibling.kind));
                text += &format!("\n    {dot} {what}: {}", place(&sibling.value).0);
            }
        }
        None => text += ": its state cannot be read",
    }
    text
}

fn entry_json(key: KeyRef<'_>, entry: Option<&TableEntry>) -> Value {
    let mut json = Map::new();
    json.insert("kind".to_owned(), "entry".into());
    put_bytes(&mut json, "key", key.key);
    put_bytes(&mut json, "bucket", key.bucket);
    let position = format!("{:016x}", key.position.0);
    json.insert("position".to_owned(), position.into());
    let siblings = entry.map(|entry| {
        let siblings = entry.object.siblings.iter();
        let siblings = siblings.map(|one| sibling_json(one, place(&one.value).1));
        siblings.collect::<Vec<_>>()
    });
    json.insert("siblings".to_owned(), json!(siblings));
    Value::Object(json)
}

fn summary_text(summary: &TableSummary) -> String {
    let TableSummary {
        id,
        bytes,
        entries,
        blocks,
        incarnations,
        flaws,
        ..
    } = summary;
    let mut text = format!(
        "table {} of log {:016x}, shard {}: {bytes} bytes, {entries} entries in {blocks} block(s), positions {:016x} to \
         {:016x}, {incarnations} incarnation(s), footer checksum {:08x}",
        id.number, id.identity, id.shard, summary.first.0, summary.last.0, summary.footer_crc
    );
    for section in &summary.sections {
        let bad = if section.whole { "" } else { ", NOT WHOLE" };
        text += &format!(
            "\n{} at byte {}: {} bytes{bad}",
            section.name, section.offset, section.bytes
        );
    }
    text + &match flaws {
        0 => "\nAll of it is whole".to_owned(),
        flaws => format!(
            "\nDAMAGED places: {flaws}; whole are {} block(s) with {} entries",
            summary.blocks_found, summary.entries_found
        ),
    }
}

fn summary_json(summary: &TableSummary) -> Value {
    let sections = summary.sections.iter().map(|section| {
        json!({
            "name": section.name,
            "offset": section.offset,
            "bytes": section.bytes,
            "whole": section.whole,
        })
    });
    json!({
        "kind": "table",
        "table": summary.id.number,
        "shard": summary.id.shard,
        "log": format!("{:016x}", summary.id.identity),
        "bytes": summary.bytes,
        "entries": summary.entries,
        "blocks": summary.blocks,
        "incarnations": summary.incarnations,
        "first_position": format!("{:016x}", summary.first.0),
        "last_position": format!("{:016x}", summary.last.0),
        "footer_checksum": format!("{:08x}", summary.footer_crc),
        "sections": sections.collect::<Vec<_>>(),
        "blocks_whole": summary.blocks_found,
        "entries_whole": summary.entries_found,
        "damaged_places": summary.flaws,
    })
}
