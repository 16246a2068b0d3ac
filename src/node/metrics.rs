//! The admin port's `/metrics`, in Prometheus' text format: the rows of `armilla status` under other names, so that
//! both say the same. Names are frozen, and only ever added to; times in seconds, sizes in bytes.

use crate::base::histogram::BOUNDS_US;
use serde_json::Value;
use std::fmt::{Display, Write};

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// One name: what it means, and the members of a row that it is made of, each with a label of its own or none.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    series: &'static [(&'static str, &'static [&'static str])],
}

const fn counter(
    name: &'static str,
    help: &'static str,
    series: &'static [(&'static str, &'static [&'static str])],
) -> Family {
    let kind = Kind::Counter;
    Family {
        name,
        kind,
        help,
        series,
    }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    series: &'static [(&'static str, &'static [&'static str])],
) -> Family {
    let kind = Kind::Gauge;
    Family {
        name,
        kind,
        help,
        series,
    }
}

const FAMILIES: &[Family] = &[
    gauge(
        "armilla_connections",
        "Open connections of clients.",
        &[("", &["connections"])],
    ),
    gauge(
        "armilla_connections_max",
        "Connections of clients that are taken.",
        &[("", &["connections_max"])],
    ),
    gauge(
        "armilla_admin_connections",
        "Open connections of the admin port.",
        &[("", &["admin_connections"])],
    ),
    counter(
        "armilla_connections_accepted_total",
        "Connections taken.",
        &[("", &["connections_accepted"])],
    ),
    counter(
        "armilla_connections_refused_total",
        "Connections refused beyond the limit.",
        &[("", &["connections_refused"])],
    ),
    counter(
        "armilla_connections_stalled_total",
        "Connections closed because memory was short and they held some without moving it.",
        &[("", &["connections_stalled"])],
    ),
    counter(
        "armilla_frames_refused_total",
        "Frames that were no request.",
        &[("", &["frames_refused"])],
    ),
    gauge(
        "armilla_requests_in_flight",
        "Requests under way.",
        &[("", &["requests_in_flight"])],
    ),
    gauge(
        "armilla_disk_tasks",
        "Requests that wait for a read of the disk.",
        &[("", &["disk_tasks"])],
    ),
    counter(
        "armilla_crossings_sent_total",
        "Requests that went to the shard that owns their key.",
        &[("", &["crossed_out"])],
    ),
    counter(
        "armilla_crossings_received_total",
        "Requests that other shards sent.",
        &[("", &["crossed_in"])],
    ),
    gauge(
        "armilla_buffer_bytes",
        "Memory that connections and requests hold.",
        &[("", &["buffers", "bytes"])],
    ),
    gauge(
        "armilla_buffer_max_bytes",
        "Memory that they may hold.",
        &[("", &["buffers", "bytes_max"])],
    ),
    counter(
        "armilla_ring_enters_total",
        "System calls of the shard's ring.",
        &[("", &["ring", "enters"])],
    ),
    counter(
        "armilla_ring_entries_total",
        "Operations handed to the shard's ring.",
        &[("", &["ring", "entries"])],
    ),
    counter(
        "armilla_ring_sleeps_total",
        "Times that a shard had nothing to do.",
        &[("", &["ring", "sleeps"])],
    ),
    counter(
        "armilla_ring_overflows_total",
        "Completions that found the queue full; a bug.",
        &[("", &["ring", "overflows"])],
    ),
    counter(
        "armilla_doorbells_total",
        "Other shards that were woken for their mail.",
        &[("", &["ring", "doorbells"])],
    ),
    counter(
        "armilla_stalls_total",
        "Executors that slept through work and were woken.",
        &[("", &["ring", "stalls"])],
    ),
    counter(
        "armilla_log_groups_total",
        "Commit groups written, a sync each.",
        &[("", &["engine", "groups_written"])],
    ),
    counter(
        "armilla_user_written_bytes_total",
        "Bytes of keys and values that puts brought.",
        &[("", &["engine", "user_bytes_written"])],
    ),
    counter(
        "armilla_disk_written_bytes_total",
        "Bytes written to the disk; those of the log hold what collection copied.",
        &[
            ("cause=\"log\"", &["engine", "log_bytes_written"]),
            ("cause=\"flush\"", &["engine", "flush_bytes_written"]),
            ("cause=\"merge\"", &["engine", "merge_bytes_written"]),
            ("cause=\"manifest\"", &["engine", "manifest_bytes_written"]),
        ],
    ),
    counter(
        "armilla_relocated_bytes_total",
        "Bytes of records that collection copied.",
        &[("", &["engine", "bytes_relocated"])],
    ),
    counter(
        "armilla_cache_hits_total",
        "Values found in memory.",
        &[("", &["engine", "cache_hits"])],
    ),
    counter(
        "armilla_cache_misses_total",
        "Values that had to be read.",
        &[("", &["engine", "cache_misses"])],
    ),
    gauge(
        "armilla_cache_bytes",
        "Values and blocks of tables in memory.",
        &[("", &["engine", "cached_bytes"])],
    ),
    gauge(
        "armilla_memtable_bytes",
        "Entries that are in no table yet.",
        &[("", &["engine", "entry_bytes"])],
    ),
    gauge(
        "armilla_entries",
        "Entries in memory and in tables; a key may have one in each run.",
        &[
            ("place=\"memory\"", &["engine", "entries_in_memory"]),
            ("place=\"table\"", &["engine", "entries_in_tables"]),
        ],
    ),
    gauge(
        "armilla_table_memory_bytes",
        "Block indexes and filters.",
        &[("", &["engine", "table_memory_bytes"])],
    ),
    gauge(
        "armilla_disk_bytes",
        "Bytes that segments and tables take.",
        &[
            ("kind=\"log\"", &["engine", "log_bytes"]),
            ("kind=\"table\"", &["engine", "table_bytes"]),
        ],
    ),
    gauge(
        "armilla_live_bytes",
        "Bytes of the log that something points at; zero until a start has counted them.",
        &[("", &["engine", "live_bytes"])],
    ),
    gauge(
        "armilla_replay_bytes",
        "Bytes of log that a start would replay.",
        &[("", &["engine", "replay_bytes"])],
    ),
    gauge(
        "armilla_segments",
        "Files of the log.",
        &[("", &["engine", "segments"])],
    ),
    gauge(
        "armilla_runs",
        "Runs of tables.",
        &[("", &["engine", "runs"])],
    ),
    gauge(
        "armilla_tables",
        "Tables of all runs.",
        &[("", &["engine", "tables"])],
    ),
    counter(
        "armilla_flushes_total",
        "Tables made of memory.",
        &[("", &["engine", "flushes"])],
    ),
    counter(
        "armilla_merges_total",
        "Merges of runs.",
        &[("", &["engine", "merges"])],
    ),
    gauge(
        "armilla_deferred_entries",
        "Entries on their way from memory into a table.",
        &[("", &["engine", "deferred", "entries"])],
    ),
    gauge(
        "armilla_deferred_shards",
        "Shards that have runs to merge, or segments to collect.",
        &[
            ("work=\"merge\"", &["engine", "deferred", "merges"]),
            (
                "work=\"collection\"",
                &["engine", "deferred", "collections"],
            ),
        ],
    ),
    counter(
        "armilla_segments_collected_total",
        "Files of the log given back.",
        &[("", &["engine", "segments_collected"])],
    ),
    gauge(
        "armilla_scrub_bytes",
        "Of the pass that looks for rot, or of the last one: bytes looked at, and bytes in all.",
        &[
            ("part=\"done\"", &["scrub", "bytes_done"]),
            ("part=\"all\"", &["scrub", "bytes"]),
        ],
    ),
    counter(
        "armilla_scrub_read_bytes_total",
        "Bytes read to find what has rotted.",
        &[("", &["scrub", "bytes_read"])],
    ),
    counter(
        "armilla_scrub_passes_total",
        "Times that all was looked at.",
        &[("", &["scrub", "passes"])],
    ),
    gauge(
        "armilla_scrub_completed_timestamp_seconds",
        "When all had been looked at last; zero if not since the start.",
        &[("", &["scrub", "completed_s"])],
    ),
    gauge(
        "armilla_scrub_bad_places",
        "Bad places that the last whole pass met.",
        &[("", &["scrub", "bad_at_last"])],
    ),
    gauge(
        "armilla_unreadable_places",
        "Places of files that cannot be read.",
        &[("", &["damage", "unreadable_places"])],
    ),
    counter(
        "armilla_unreadable_reads_total",
        "Reads that met one of them.",
        &[("", &["damage", "unreadable_reads"])],
    ),
    gauge(
        "armilla_segments_stuck",
        "Files of the log that cannot be collected.",
        &[("", &["damage", "segments_stuck"])],
    ),
    gauge(
        "armilla_runs_stuck",
        "Runs that cannot be merged.",
        &[("", &["damage", "runs_stuck"])],
    ),
    gauge(
        "armilla_arcs_unsure",
        "Arcs that answer 'unsure' since a group was lost.",
        &[("", &["damage", "arcs_unsure"])],
    ),
];

/// Names whose series are the members of a member of a row: that member, and the label of their names.
const BY_NAME: &[(&str, &str, &str, &str)] = &[
    (
        "armilla_requests_total",
        "Requests read from connections.",
        "requests_by",
        "op",
    ),
    (
        "armilla_replies_total",
        "Replies made; those to requests of other shards are counted at the owner of the key.",
        "replies_by",
        "status",
    ),
];

/// The page, by the node's report, which holds the rows of all shards.
pub fn page(report: &Value) -> String {
    let mut out = String::new();
    let out = &mut out;
    let name = "armilla_build_info";
    head(out, name, "gauge", "Which program this is.");
    let version = report["version"].as_str().unwrap_or_default();
    line(out, name, &format!("version=\"{version}\""), 1);
    let name = "armilla_uptime_seconds";
    head(out, name, "gauge", "Since the node was started.");
    let uptime = report["uptime_ms"].as_u64().unwrap_or(0) as f64 / 1e3;
    line(out, name, "", uptime);
    let rows: Vec<(String, &Value)> = report["by_shard"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| (format!("shard=\"{}\"", row["shard"]), row))
        .collect();
    let name = "armilla_shard_serving";
    head(out, name, "gauge", "Whether a shard serves its keys.");
    for (shard, row) in &rows {
        line(out, name, shard, u64::from(row["state"] == "serving"));
    }
    for (name, help, member, label) in BY_NAME {
        head(out, name, "counter", help);
        for (shard, row) in &rows {
            for (value, count) in members(&row[*member]) {
                line(out, name, &format!("{label}=\"{value}\",{shard}"), count);
            }
        }
    }
    for family in FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        head(out, family.name, kind, family.help);
        for (shard, row) in &rows {
            for (label, path) in family.series {
                let value = path.iter().fold(*row, |value, name| &value[*name]);
                // A shard that replays has no engine yet.
                if value.is_number() {
                    line(out, family.name, &joined(label, shard), value);
                }
            }
        }
    }
    let name = "armilla_request_duration_seconds";
    let help = "From a request to its reply, at the shard that read it.";
    head(out, name, "histogram", help);
    for (shard, row) in &rows {
        for (op, histogram) in members(&row["latency"]) {
            buckets(out, name, &format!("op=\"{op}\",{shard}"), histogram);
        }
    }
    let name = "armilla_log_sync_duration_seconds";
    head(out, name, "histogram", "Writing a commit group durably.");
    for (shard, row) in &rows {
        if row["log_write"].is_object() {
            buckets(out, name, shard, &row["log_write"]);
        }
    }
    std::mem::take(out)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn joined(label: &str, shard: &str) -> String {
    match label {
        "" => shard.to_owned(),
        label => format!("{label},{shard}"),
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// The series of a histogram as `status` writes it.
fn buckets(out: &mut String, name: &str, labels: &str, histogram: &Value) {
    let count = |bound: &str| histogram["up_to_us"][bound].as_u64().unwrap_or(0);
    let bucket = format!("{name}_bucket");
    let mut sum = 0;
    for bound in BOUNDS_US {
        sum += count(&bound.to_string());
        let le = format!("{labels},le=\"{}\"", bound as f64 / 1e6);
        line(out, &bucket, &le, sum);
    }
    sum += count("more");
    line(out, &bucket, &format!("{labels},le=\"+Inf\""), sum);
    let seconds = histogram["sum_us"].as_u64().unwrap_or(0) as f64 / 1e6;
    line(out, &format!("{name}_sum"), labels, seconds);
    line(out, &format!("{name}_count"), labels, sum);
}
