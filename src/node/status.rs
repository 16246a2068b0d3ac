//! What a node says of itself: to `armilla status`, and to the admin port.

use super::shard::Shard;
use crate::wire::message::Status;
use serde_json::{Value, json};

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

    /// Why no read or write is taken now. A poisoned shard takes them: its engine answers "unsure".
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Phase::Starting => Some("this node replays its log; ask again in a moment"),
            Phase::Stopping => Some("this node is stopping; ask another node, or start it again"),
            Phase::Serving | Phase::Poisoned => None,
        }
    }
}

/// Since start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub connections_accepted: u64,
    pub connections_refused: u64,
    /// Closed because memory was short and they held some without moving it.
    pub connections_stalled: u64,
    pub frames_refused: u64,
    pub requests: u64,
    pub replies_done: u64,
    pub replies_retry: u64,
    pub replies_refused: u64,
    pub replies_unknown: u64,
}

impl Counters {
    pub fn on_reply(&mut self, status: Option<Status>) {
        use crate::wire::message::Advice;
        match status.map(Status::advice) {
            Some(Advice::Done) | None => self.replies_done += 1,
            Some(Advice::Retry) => self.replies_retry += 1,
            Some(Advice::DoNotRetry) => self.replies_refused += 1,
            Some(Advice::Unknown) => self.replies_unknown += 1,
        }
    }
}

/// One JSON object; fields are only ever added.
pub fn report(shard: &Shard) -> Value {
    let uptime_ms = (shard.runtime.now().0 - shard.started.0) / 1_000_000;
    let counters = &shard.counters;
    let mut report = json!({
        "state": shard.phase.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": format!("{:032x}", shard.identity.cluster),
        "node": format!("{:032x}", shard.identity.node),
        "uptime_ms": uptime_ms,
        "virtual_nodes": shard.identity.virtual_nodes,
        "shards": shard.identity.shards,
        "listen": shard.ports.base.to_string(),
        "admin": shard.ports.admin.map(|a| a.to_string()),
        "connections": shard.connections.len(),
        "requests_in_flight": shard.in_flight,
        "requests": counters.requests,
        "replies": {
            "done": counters.replies_done,
            "retry": counters.replies_retry,
            "refused": counters.replies_refused,
            "unknown": counters.replies_unknown,
        },
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
    report["ring"] = json!({
        "enters": ring.enters,
        "entries": ring.entries,
        "sleeps": ring.sleeps,
        "stalls": ring.stalls,
        "overflows": ring.overflows,
    });
    if let Some(store) = &shard.store {
        let s = store.engine.statistics();
        report["engine"] = json!({
            "entries_in_memory": s.entries_in_memory,
            "entries_in_tables": s.entries_in_tables,
            "entry_bytes": s.entry_bytes,
            "table_memory_bytes": s.table_memory_bytes,
            "cached_bytes": s.cached_bytes,
            "log_bytes_written": s.log_bytes_written,
            "table_bytes_written": s.table_bytes_written,
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
            "flushes": s.flushes,
            "merges": s.merges,
            "segments_collected": s.segments_collected,
            "bytes_relocated": s.bytes_relocated,
        });
        if let Some(poisoned) = store.engine.poisoned() {
            report["poisoned"] = json!(poisoned.to_string());
        }
    }
    report
}
