//! `armilla status`

use super::Exit;
use super::node::{Node, Output, print_all};
use super::table;
use crate::base::units::HumanBytes;
use clap::Args;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  armilla status
  armilla status --output json | jq '.by_shard[] | {shard, state}'

Exit codes: 0 the node serves, 3 it does not, or cannot be reached.";

/// Tell how a node is
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    #[command(flatten)]
    node: Node,
}

impl Status {
    pub fn run(self) -> Exit {
        self.node.with(|client| {
            let report = client.status()?;
            let text = match self.node.output {
                Output::Json => format!("{}\n", report.json),
                Output::Text => lines(&report.json),
            };
            let printed = print_all(text.as_bytes());
            if report.serving {
                return Ok(printed);
            }
            eprintln!("armilla: the node does not serve: {}", report.message);
            Ok(Exit::Failed)
        })
    }
}

/// The shards as a table, a row each, and one other member a line, for eyes; what is no object is shown as it came.
fn lines(json: &str) -> String {
    let Ok(Value::Object(mut report)) = serde_json::from_str(json) else {
        return format!("{json}\n");
    };
    let rows = report.remove("by_shard");
    let damage = report.remove("damage").unwrap_or_default();
    let scrub = report.remove("scrub").map(|scrub| scrubbed(&scrub));
    // For programs: too long for eyes.
    for long in ["latency", "log_write", "replies_by", "snapshot"] {
        report.remove(long);
    }
    let mut text = String::new();
    for (name, value) in &report {
        text += &match value {
            Value::String(text) => format!("{name}: {text}\n"),
            other => format!("{name}: {other}\n"),
        };
    }
    text += &scrub.unwrap_or_default();
    match rows {
        Some(Value::Array(rows)) => text + "\n" + &table(&rows) + &damaged(&damage),
        _ => text + &damaged(&damage),
    }
}

/// How far the look for rot is.
fn scrubbed(scrub: &Value) -> String {
    let count = |name: &str| scrub[name].as_u64().unwrap_or(0);
    let mut text = match count("completed_s") {
        0 => "scrub: not all was looked at since the start".to_owned(),
        seconds => {
            let when = UNIX_EPOCH + Duration::from_secs(seconds);
            format!(
                "scrub: all was looked at up to {}, bad places: {}",
                humantime::format_rfc3339_seconds(when),
                count("bad_at_last")
            )
        }
    };
    if count("running") > 0 {
        let (done, bytes) = (HumanBytes(count("bytes_done")), HumanBytes(count("bytes")));
        let bad = count("bad");
        text += &format!("; {done} of {bytes} of the pass under way, bad places: {bad}");
    }
    text + "\n"
}

/// What cannot be read, and the way out; nothing if all is well.
fn damaged(damage: &Value) -> String {
    let count = |name: &str| damage[name].as_u64().unwrap_or(0);
    let list = |name: &str| damage[name].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut lines = Vec::new();
    for place in list("places") {
        let bytes = HumanBytes(place["bytes"].as_u64().unwrap_or(0));
        let mut line = format!(
            "  {}, {bytes} at byte {}: {} (met {} times since the start)",
            text(&place["file"]),
            place["offset"],
            text(&place["what"]),
            place["met"],
        );
        if let Some(note) = place["note"].as_str() {
            line += &format!(", noted in {note}");
        }
        lines.push(line);
    }
    if count("unreadable_reads_unlisted") > 0 {
        let more = count("unreadable_reads_unlisted");
        lines.push(format!("  and {more} reads at places that are not listed"));
    }
    for stuck in list("stuck") {
        let (file, why) = (text(&stuck["file"]), text(&stuck["why"]));
        lines.push(format!("  {file} is not collected until a restart: {why}"));
    }
    for (name, what) in [
        (
            "runs_stuck",
            "run(s) of tables are not merged until a restart",
        ),
        (
            "arcs_unsure",
            "arc(s) answer 'unsure': a group of the log was lost",
        ),
    ] {
        if count(name) > 0 {
            lines.push(format!("  {} {what}", count(name)));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "\nDAMAGED: what cannot be read answers an error, and is kept.\n{}\n\
         What to do: check the disk (run: dmesg). Stop this node, copy its data directory, put back a sound copy of\n\
         each file, remove its note in quarantine/, start the node. Without a copy, a put replaces a lost value;\n\
         keys of a bad block of a table go on answering 'unsure'.\n",
        lines.join("\n")
    )
}

/// Head of a column, and where its cell stands in a row.
const COLUMNS: &[(&str, &[&str])] = &[
    ("SHARD", &["shard"]),
    ("STATE", &["state"]),
    ("LISTEN", &["listen"]),
    ("CONNECTIONS", &["connections"]),
    ("REQUESTS", &["requests"]),
    ("IN FLIGHT", &["requests_in_flight"]),
    ("CROSSED OUT", &["crossed_out"]),
    ("CROSSED IN", &["crossed_in"]),
    ("ENTRIES", &["engine", "entries"]),
    ("LOG WRITTEN", &["engine", "log_bytes_written"]),
];

fn table(rows: &[Value]) -> String {
    let cell = |row: &Value, path: &[&str]| {
        let value = path.iter().fold(row, |value, name| &value[*name]);
        match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(bytes) if path.ends_with(&["log_bytes_written"]) => {
                HumanBytes(bytes.as_u64().unwrap_or(0)).to_string()
            }
            other => other.to_string(),
        }
    };
    let head: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let cells = |row| COLUMNS.iter().map(|(_, path)| cell(row, path)).collect();
    table::table(&head, rows.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_shard() {
        let json = r#"{"state":"poisoned","shards":2,"by_shard":[
            {"shard":0,"state":"serving","listen":"127.0.0.1:7701","requests":12,
             "engine":{"entries":3,"log_bytes_written":4096}},
            {"shard":1,"state":"silent"}]}"#;
        let text = lines(json);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip_while(|line| !line.starts_with("SHARD"))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(text.contains("state: poisoned\n"), "{text}");
        let full = [
            "0",
            "serving",
            "127.0.0.1:7701",
            "-",
            "12",
            "-",
            "-",
            "-",
            "3",
            "4",
            "KiB",
        ];
        assert_eq!(rows[1], full);
        assert_eq!(rows[2][..3], ["1", "silent", "-"]);
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn scrub_is_a_sentence() {
        let json = r#"{"scrub":{"completed_s":1800000000,"bad_at_last":0,"running":1,"bytes_done":1024,"bytes":4096}}"#;
        let text = lines(json);
        let told =
            "scrub: all was looked at up to 2027-01-15T08:00:00Z, bad places: 0; 1 KiB of 4 KiB";
        assert!(text.starts_with(told), "{text}");
        assert!(lines(r#"{"scrub":{"completed_s":0}}"#).contains("not all was looked at"));
    }

    #[test]
    fn what_is_no_object_is_shown_as_it_came() {
        assert_eq!(lines("nonsense"), "nonsense\n");
    }
}
