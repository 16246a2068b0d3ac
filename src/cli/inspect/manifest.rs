//! `armilla inspect manifest`

use super::Printer;
use super::file::Contents;
use crate::engine::inspect::{
    self, Arcs, Edit, ManifestBlock, ManifestPart, ManifestState, ManifestSummary, NotRead,
};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn show(contents: &Contents, printer: &mut Printer) -> Result<(), NotRead> {
    let summary = inspect::manifest(&contents.bytes, &mut |part| match part {
        ManifestPart::Block(block) => printer.show(|| block_text(block), || block_json(block)),
        ManifestPart::Flaw(flaw) => printer.flaw(flaw),
    })?;
    printer.show(|| summary_text(&summary), || summary_json(&summary));
    Ok(())
}

/// What the manifests in a directory say, as far as they can be read.
pub(super) fn states(data: &Path) -> Vec<ManifestState> {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let manifests = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        name.starts_with("shard-") && name.contains(".manifest-") && !name.ends_with(".tmp")
    });
    let states = manifests.filter_map(|entry| {
        let bytes = std::fs::read(entry.path()).ok()?;
        let summary = inspect::manifest(&bytes, &mut |_| {}).ok()?;
        Some(summary.state)
    });
    states.collect()
}

fn count(arcs: &Arcs) -> u32 {
    arcs.iter().map(|word| word.count_ones()).sum()
}

/// What an edit says, in words.
fn words(edit: &Edit) -> String {
    match edit {
        Edit::Segment(segment) => {
            let (number, bytes) = (segment.number, segment.bytes);
            format!("segment {number} of {bytes} bytes is the next of the log")
        }
        Edit::ColdSegment(segment) => {
            let (number, bytes) = (segment.number, segment.bytes);
            format!("segment {number} of {bytes} bytes takes copies of what is collected")
        }
        Edit::Cut(cut) => format!(
            "the log ends in segment {} at byte {} behind group {}, for ever; the next group is {}",
            cut.segment, cut.offset, cut.last.number, cut.next_number
        ),
        Edit::Damaged(arcs) => format!("a group was lost: {} arc(s) answer 'unsure'", count(arcs)),
        Edit::HighestSegment(number) => {
            format!("no number of a segment up to {number} is used again")
        }
        Edit::FirstGroup(number) => format!("the first group of the first segment is {number}"),
        Edit::RemoveSegment(number) => format!("segment {number} is given back"),
        Edit::Replay(from) => format!(
            "replay begins in segment {} at byte {}, behind group {}, with group {} and record {}",
            from.segment, from.offset, from.last.number, from.next_number, from.next_sequence
        ),
        Edit::Table(table) => format!(
            "table {} of {} bytes is of run {}; the checksum of its footer is {:08x}",
            table.number, table.bytes, table.run, table.footer_crc
        ),
        Edit::RemoveTable(number) => format!("table {number} is given back"),
        Edit::HighestTable(number) => format!("no number of a table up to {number} is used again"),
        Edit::Sealed(sealed) => format!(
            "the groups of segment {} end at byte {} with group {}",
            sealed.segment, sealed.end, sealed.last
        ),
    }
}

fn block_text(block: &ManifestBlock) -> String {
    let ManifestBlock {
        offset,
        bytes,
        sequence,
        edits,
    } = block;
    let count = edits.len();
    let mut text = format!("block {sequence} at byte {offset}, {bytes} bytes: {count} edit(s)");
    for edit in edits {
        text += &format!("\n  {}", words(edit));
    }
    text
}

fn block_json(block: &ManifestBlock) -> Value {
    json!({
        "kind": "block",
        "sequence": block.sequence,
        "offset": block.offset,
        "bytes": block.bytes,
        "edits": block.edits.iter().map(words).collect::<Vec<_>>(),
    })
}

fn list(numbers: impl Iterator<Item = u32>) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    match numbers.is_empty() {
        true => "none".to_owned(),
        false => numbers.join(" "),
    }
}

fn summary_text(summary: &ManifestSummary) -> String {
    let state = &summary.state;
    let mut text = format!(
        "manifest {} of shard {} of {}, log {:016x}: {} whole block(s)\n\
         segments of the log: {}\ncold segments: {}\ntables: {}",
        summary.generation,
        state.shard,
        state.shards,
        state.identity,
        summary.blocks,
        list(state.segments.iter().map(|one| one.number)),
        list(state.cold.iter().map(|one| one.number)),
        list(state.tables.iter().map(|one| one.number)),
    );
    text += &match &state.replay {
        Some(from) => {
            let (segment, offset) = (from.segment, from.offset);
            format!("\nreplay begins in segment {segment} at byte {offset}")
        }
        None => "\nreplay begins with the first segment".to_owned(),
    };
    if count(&state.damaged) > 0 {
        let arcs = count(&state.damaged);
        text += &format!("\narcs that answer 'unsure' since a group was lost: {arcs}");
    }
    text + &match summary.flaws {
        0 => "\nAll of it is whole".to_owned(),
        flaws => format!("\nDAMAGED places: {flaws}"),
    }
}

fn summary_json(summary: &ManifestSummary) -> Value {
    let state = &summary.state;
    let segments = |all: &[_]| -> Vec<Value> {
        let all: &[inspect::Segment] = all;
        let row = |one: &inspect::Segment| {
            let sealed = state.sealed.iter().find(|end| end.segment == one.number);
            json!({ "number": one.number, "bytes": one.bytes, "sealed_end": sealed.map(|end| end.end) })
        };
        all.iter().map(row).collect()
    };
    let tables = state.tables.iter().map(|table| {
        json!({
            "number": table.number,
            "run": table.run,
            "bytes": table.bytes,
            "footer_checksum": format!("{:08x}", table.footer_crc),
        })
    });
    let replay = state.replay.map(|from| {
        json!({ "segment": from.segment, "offset": from.offset, "next_group": from.next_number })
    });
    json!({
        "kind": "manifest",
        "generation": summary.generation,
        "shard": state.shard,
        "shards": state.shards,
        "log": format!("{:016x}", state.identity),
        "blocks": summary.blocks,
        "segments": segments(&state.segments),
        "cold_segments": segments(&state.cold),
        "tables": tables.collect::<Vec<_>>(),
        "replay": replay,
        "arcs_unsure": count(&state.damaged),
        "damaged_places": summary.flaws,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_a_sentence() {
        let sealed = inspect::Sealed {
            segment: 7,
            end: 8192,
            last: 12,
        };
        assert_eq!(
            words(&Edit::Sealed(sealed)),
            "the groups of segment 7 end at byte 8192 with group 12"
        );
        let mut arcs = Arcs::default();
        arcs[0] = 5;
        assert!(words(&Edit::Damaged(arcs)).contains("2 arc(s)"));
    }
}
