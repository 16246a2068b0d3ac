//! What a node says of itself: to `armilla status`, and to the admin port.

use super::damage;
use super::shard::Shard;
use crate::base::histogram::{BOUNDS_US, Histogram};
use crate::engine::{Scrub, Snapshot};
use crate::wire::message::{Op, Status};
use serde_json::{Map, Value, json};
use std::fmt::Debug;

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Replays its log.
    Starting,
    Serving,
    /// Answers what it has, takes nothing new.
    Stopping,
    /// Its log is closed for good after a failed write or sync.
    Poisoned,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
            Phase::Poisoned => "poisoned",
        }
    }

    /// Whether other nodes should ask this shard for anything of a key.
    pub fn is_of_use(self) -> bool {
        self == Phase::Serving
    }

    /// Why no read or write is taken now. A poisoned shard takes them: its engine answers "unsure".
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Phase::Starting => Some("this node replays its log; ask again in a moment"),
            Phase::Stopping => Some("this node is stopping; ask another node, or start it again"),
            Phase::Serving | Phase::Poisoned => None,
        }
    }
}

/// Above every number of a status, and of an op.
const STATUS_NUMBERS: usize = 64;
const OP_NUMBERS: usize = 11;
/// A hello is answered at once.
const TIMED: [Op; 9] = [
    Op::Get,
    Op::Put,
    Op::Delete,
    Op::Status,
    Op::Keys,
    Op::Flush,
    Op::Explain,
    Op::Scrub,
    Op::Snapshot,
];
const _: () = assert!((Status::OutcomeUnknown as usize) < STATUS_NUMBERS);
const _: () = assert!((Op::Snapshot as usize) < OP_NUMBERS);

/// Since start.
#[derive(Clone, Debug)]
pub struct Counters {
    pub connections_accepted: u64,
    pub connections_refused: u64,
    /// Closed because memory was short and they held some without moving it.
    pub connections_stalled: u64,
    pub frames_refused: u64,
    /// By the number of the op.
    pub requests: [u64; OP_NUMBERS],
    pub replies_done: u64,
    pub replies_retry: u64,
    pub replies_refused: u64,
    pub replies_unknown: u64,
    /// By the number of the status.
    pub replies_by: [u64; STATUS_NUMBERS],
    /// From a request to its reply, by the number of its op; of requests of this shard's connections.
    pub latency: [Histogram; OP_NUMBERS],
    /// Requests sent on to the shard that owns their key.
    pub crossed_out: u64,
    /// Requests that other shards sent here.
    pub crossed_in: u64,
    /// Requests sent on to another node, which holds their key; and those that other nodes sent here.
    pub forwarded: u64,
    pub forwarded_in: u64,
    /// States that other nodes gave to this replica, and asked it for.
    pub peer_stores: u64,
    pub peer_reads: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            connections_accepted: 0,
            connections_refused: 0,
            connections_stalled: 0,
            frames_refused: 0,
            requests: [0; OP_NUMBERS],
            replies_done: 0,
            replies_retry: 0,
            replies_refused: 0,
            replies_unknown: 0,
            replies_by: [0; STATUS_NUMBERS],
            latency: Default::default(),
            crossed_out: 0,
            crossed_in: 0,
            forwarded: 0,
            forwarded_in: 0,
            peer_stores: 0,
            peer_reads: 0,
        }
    }
}

impl Counters {
    pub fn on_reply(&mut self, status: Option<Status>) {
        use crate::wire::message::Advice;
        if let Some(status) = status {
            self.replies_by[status as usize] += 1;
        }
        match status.map(Status::advice) {
            Some(Advice::Done) | None => self.replies_done += 1,
            Some(Advice::Retry) => self.replies_retry += 1,
            Some(Advice::DoNotRetry) => self.replies_refused += 1,
            Some(Advice::Unknown) => self.replies_unknown += 1,
        }
    }
}

/// Where a whole node is: as its worst shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    Serving,
    /// A shard does not answer the others.
    Silent,
    Starting,
    Poisoned,
    Stopping,
}

impl NodeState {
    const WORST_FIRST: [NodeState; 5] = [
        NodeState::Stopping,
        NodeState::Poisoned,
        NodeState::Starting,
        NodeState::Silent,
        NodeState::Serving,
    ];

    pub fn name(self) -> &'static str {
        match self {
            NodeState::Serving => "serving",
            NodeState::Silent => "silent",
            NodeState::Starting => "starting",
            NodeState::Poisoned => "poisoned",
            NodeState::Stopping => "stopping",
        }
    }

    pub fn is_serving(self) -> bool {
        self == NodeState::Serving
    }

    /// Why it does not serve all of its keys, and what to do.
    pub fn message(self) -> &'static str {
        match self {
            NodeState::Serving => "",
            NodeState::Silent => {
                "a shard does not answer the others; if that stays, restart this node"
            }
            NodeState::Starting => "this node replays its log; ask again in a moment",
            NodeState::Poisoned => "its log is poisoned by a failed write or sync; restart it",
            NodeState::Stopping => "this node is stopping; ask another node, or start it again",
        }
    }
}

/// The state of the node that these rows are of.
pub fn state(rows: &[Value]) -> NodeState {
    let is = |state: &NodeState| rows.iter().any(|row| row["state"] == state.name());
    let worst = NodeState::WORST_FIRST.into_iter().find(is);
    worst.expect("a row has a state")
}

/// The row of a shard that does not answer.
pub fn silent(shard: u16) -> Value {
    json!({ "shard": shard, "state": NodeState::Silent.name() })
}

/// What one shard says of itself; fields are only ever added. All its numbers but its own are counts: the node's are
/// their sums.
pub fn row(shard: &Shard) -> Value {
    let counters = &shard.counters;
    let own = shard.mailbox.shard();
    let mut row = json!({
        "shard": own,
        "state": shard.phase.name(),
        "listen": shard.ports.shards[usize::from(own)].to_string(),
        "connections": shard.connections.len(),
        "requests_in_flight": shard.in_flight,
        "requests": counters.requests.iter().sum::<u64>(),
        "requests_by": by_name(Op::ALL, |op| json!(counters.requests[op as usize])),
        "crossed_out": counters.crossed_out,
        "crossed_in": counters.crossed_in,
        "forwarded": counters.forwarded,
        "forwarded_in": counters.forwarded_in,
        "peer_stores": counters.peer_stores,
        "peer_reads": counters.peer_reads,
        "flights": shard.flights.len(),
        "links_up": shard.links.count_up().0,
        "links": shard.links.count_up().1,
        "replies": {
            "done": counters.replies_done,
            "retry": counters.replies_retry,
            "refused": counters.replies_refused,
            "unknown": counters.replies_unknown,
        },
        "replies_by": by_name(Status::ALL, |status| json!(counters.replies_by[status as usize])),
        "latency": by_name(TIMED, |op| histogram(&counters.latency[op as usize])),
        "frames_refused": counters.frames_refused,
        "connections_accepted": counters.connections_accepted,
        "connections_refused": counters.connections_refused,
        "connections_stalled": counters.connections_stalled,
        "connections_max": shard.connections_max,
        "admin_connections": shard.connections.admins(),
        "disk_tasks": shard.away.len(),
        "buffers": {
            "bytes": shard.connections.budget.used(),
            "bytes_max": shard.connections.budget.bytes_max(),
        },
        "replay": { "bytes_done": shard.replayed.0, "bytes": shard.replayed.1 },
    });
    let ring = shard.runtime.ring_statistics();
    row["ring"] = json!({
        "enters": ring.enters,
        "entries": ring.entries,
        "sleeps": ring.sleeps,
        "doorbells": ring.doorbells,
        "stalls": ring.stalls,
        "overflows": ring.overflows,
    });
    if let Some(store) = &shard.store {
        let s = store.engine.statistics();
        row["engine"] = json!({
            "entries": s.entries_in_memory + s.entries_in_tables,
            "entries_in_memory": s.entries_in_memory,
            "entries_in_tables": s.entries_in_tables,
            "entry_bytes": s.entry_bytes,
            "table_memory_bytes": s.table_memory_bytes,
            "cached_bytes": s.cached_bytes,
            "log_bytes_written": s.log_bytes_written,
            "table_bytes_written": s.flush_bytes_written + s.merge_bytes_written,
            "flush_bytes_written": s.flush_bytes_written,
            "merge_bytes_written": s.merge_bytes_written,
            "manifest_bytes_written": s.manifest_bytes_written,
            "user_bytes_written": s.user_bytes_written,
            "groups_written": s.groups_written,
            "cache_hits": s.cache_hits,
            "cache_misses": s.cache_misses,
            "disk_bytes": s.disk_bytes,
            "log_bytes": s.log_bytes,
            "table_bytes": s.table_bytes,
            "live_bytes": s.live_bytes,
            "replay_bytes": s.replay_bytes,
            "segments": s.segments,
            "runs": s.runs,
            "tables": s.tables,
            "flushes": s.flushes,
            "merges": s.merges,
            "segments_collected": s.segments_collected,
            "bytes_relocated": s.bytes_relocated,
            "deferred": {
                "entries": s.deferred_entries,
                "merges": s.deferred_merges,
                "collections": s.deferred_collections,
            },
        });
        row["log_write"] = histogram(&s.log_write);
        row["damage"] = damage::report(&store.engine.damage());
        row["snapshot"] = snapshot(&store.engine.snapshotted());
        row["scrub"] = scrub(store.engine.scrubbed());
        if let Some(poisoned) = store.engine.poisoned() {
            row["poisoned"] = json!(poisoned.to_string());
        }
    }
    row
}

/// What has become of the last snapshot.
fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "name": snapshot.name,
        "running": u64::from(snapshot.running),
        "failed": u64::from(snapshot.error.is_some()),
        "errors": Vec::from_iter(&snapshot.error),
    })
}

/// How far the look for rot is.
fn scrub(scrub: Scrub) -> Value {
    json!({
        "running": u64::from(scrub.running),
        "asked": u64::from(scrub.asked),
        "bytes_done": scrub.bytes_done,
        "bytes": scrub.bytes,
        "bad": scrub.bad,
        "bytes_read": scrub.bytes_read,
        "passes": scrub.passes,
        "completed_s": scrub.completed.0 / 1000,
        "bad_at_last": scrub.bad_at_last,
    })
}

/// Each under its name in lower case; those that never came too, so that nothing appears later.
fn by_name<T: Copy + Debug, const N: usize>(all: [T; N], of: impl Fn(T) -> Value) -> Value {
    let members = all.map(|one| (snake_case(&format!("{one:?}")), of(one)));
    Value::Object(members.into_iter().collect())
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// How many took longer than the bound before and up to each bound, in microseconds.
fn histogram(histogram: &Histogram) -> Value {
    let mut up_to = Map::new();
    let bounds = BOUNDS_US.iter().map(u64::to_string);
    let bounds = bounds.chain(["more".to_owned()]);
    for (bound, &count) in bounds.zip(histogram.counts()) {
        if count > 0 {
            up_to.insert(bound, json!(count));
        }
    }
    json!({ "sum_us": histogram.sum_us(), "up_to_us": up_to })
}

/// The node, by the shard that was asked and the rows of all: one JSON object; fields are only ever added.
pub fn report(shard: &Shard, rows: Vec<Value>) -> Value {
    let uptime_ms = (shard.runtime.now().0 - shard.started.0) / 1_000_000;
    let mut report = json!({
        "state": state(&rows).name(),
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": format!("{:032x}", shard.identity.cluster),
        "node": format!("{:032x}", shard.identity.node),
        "uptime_ms": uptime_ms,
        "virtual_nodes": shard.identity.virtual_nodes,
        "shards": shard.identity.shards,
        "listen": shard.ports.base.to_string(),
        "ring": ring(shard),
        "data": shard.data,
        "admin": shard.ports.admin.map(|a| a.to_string()),
    });
    for row in &rows {
        add(&mut report, row);
    }
    // A point of time is no count: the node has been looked at since its last shard was.
    let completed = rows
        .iter()
        .filter_map(|row| row["scrub"]["completed_s"].as_u64());
    if let Some(oldest) = completed.min() {
        report["scrub"]["completed_s"] = json!(oldest);
    }
    report["by_shard"] = Value::Array(rows);
    report
}

fn ring(shard: &Shard) -> Value {
    let ring = &shard.ring;
    let members = ring.members().iter().map(|member| {
        json!({
            "node": member.id.to_string(),
            "address": member.address.to_string(),
            "shards": member.shards,
            "zone": member.zone,
            "filling": ring.is_filling(member.id),
        })
    });
    json!({
        "epoch": ring.epoch().0,
        "digest": format!("{:016x}", ring.digest()),
        "replicas": ring.value().replicas,
        "members": members.collect::<Vec<_>>(),
    })
}

/// Adds the counts of a row, and its lists; texts that the node has not are taken over, those of its own stay.
fn add(total: &mut Value, row: &Value) {
    let Some(members) = row.as_object() else {
        return;
    };
    for (name, value) in members.iter().filter(|(name, _)| *name != "shard") {
        match value {
            Value::Number(count) => {
                let before = total[name].as_u64().unwrap_or(0);
                total[name] = json!(before + count.as_u64().unwrap_or(0));
            }
            Value::Array(more) => {
                let mut all = total[name].as_array().cloned().unwrap_or_default();
                all.extend(more.iter().cloned());
                total[name] = Value::Array(all);
            }
            Value::Object(_) => add(&mut total[name], value),
            other if total[name].is_null() => total[name] = other.clone(),
            _ => {}
        }
    }
}
