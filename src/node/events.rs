//! What a node tells its operator. Names and fields are frozen: scripts rely on them.

use super::config::Ports;
use crate::base::units::{HumanBytes, Nanos, UnixMillis};
use crate::engine::{AppendRefused, Bad, Poisoned, Recovery};
use crate::runtime::disk::DiskError;
use crate::runtime::log::{Event, Level, Seldom};
use crate::runtime::net::Door;
use std::net::SocketAddr;
use std::time::Duration;

/// The ports are bound.
pub fn listening(ports: &Ports) -> Event {
    let shards: Vec<String> = ports.shards.iter().map(SocketAddr::to_string).collect();
    let shards = shards.join(",");
    let mut message = format!("serves clients on {}, shards on {shards}", ports.base);
    if let Some(admin) = ports.admin {
        message += &format!(", admin on http://{admin}/readyz");
    }
    let event = Event::new(Level::Info, "listening", message)
        .with("clients", ports.base.to_string())
        .with("shards", shards);
    match ports.admin {
        Some(admin) => event.with("admin", admin.to_string()),
        None => event,
    }
}

/// There is no ring yet.
pub fn forming(missing: &[SocketAddr]) -> Event {
    let missing: Vec<String> = missing.iter().map(SocketAddr::to_string).collect();
    let missing = missing.join(",");
    let message = match missing.as_str() {
        "" => "waits for the node at the lowest address to form the ring".to_owned(),
        missing => format!("waits for the other nodes of its ring: {missing}; start them"),
    };
    Event::new(Level::Info, "forming", message).with("missing", missing)
}

/// The log of a shard is read back: bytes done, bytes in all.
pub fn replaying(shard: u16, done: u64, all: u64) -> Event {
    let (done_text, all_text) = (HumanBytes(done), HumanBytes(all));
    let message = format!("replaying {done_text} of {all_text} of shard {shard}");
    Event::new(Level::Info, "replaying", message)
        .with("shard", u64::from(shard))
        .with("bytes_done", done)
        .with("bytes", all)
}

/// The data directory is a snapshot that is started for the first time; `taken`: when it was made.
pub fn restored(taken: Option<UnixMillis>) -> Event {
    let when = taken.map_or("it does not say when".to_owned(), |taken| {
        format!("{} ms after 1970", taken.0)
    });
    let message = format!(
        "RESTORED: this data directory is a snapshot, taken at {when}: what was written since is not in it. To clients it \
         is the node that it was taken of: do not run both"
    );
    Event::new(Level::Warn, "restored", message).with("taken_ms", taken.map_or(0, |taken| taken.0))
}

/// What the logs of all shards held.
pub fn recovered(recovery: &Recovery) -> Event {
    let mut message = format!(
        "recovered {}: {} record(s) in {} group(s)",
        HumanBytes(recovery.bytes),
        recovery.records,
        recovery.groups
    );
    if recovery.cut_groups > 0 {
        let cut = recovery.cut_groups;
        message += &format!("; cut {cut} torn group(s) that were never acked");
    }
    Event::new(Level::Info, "recovered", message)
        .with("bytes", recovery.bytes)
        .with("groups", recovery.groups)
        .with("records", recovery.records)
        .with("cut_groups", recovery.cut_groups)
        .with("damaged_groups", recovery.damaged_groups)
}

/// What is wrong with the log of a shard, if anything is.
pub fn damaged(shard: u16, recovery: &Recovery) -> Option<Event> {
    let groups = recovery.damaged_groups;
    if groups == 0 {
        return None;
    }
    let message = format!(
        "DAMAGED: {groups} group(s) of the log of shard {shard} fail their checksum; keys that may have been in them \
         answer 'unsure'; check the disk (run: dmesg)"
    );
    let event = Event::new(Level::Error, "damaged", message);
    Some(event.with("shard", u64::from(shard)).with("groups", groups))
}

/// A place of a file cannot be read; `unnoted`: why it could not be noted; `places`: how many since this was told last.
pub fn unreadable(shard: u16, bad: &Bad, unnoted: Option<DiskError>, places: u64) -> Event {
    let spot = bad.spot;
    let (file, offset, bytes) = (spot.file.name(), spot.offset, HumanBytes(spot.bytes));
    let mut message = format!(
        "UNREADABLE: shard {shard}: {file}, {bytes} at byte {offset}: {}; what needs it answers an error, the rest is \
         served; check the disk (run: dmesg), then see 'armilla status'",
        bad.what
    );
    if let Some(error) = unnoted {
        message += &format!("; a restart will not know of it before it is met again: {error}");
    }
    let event = Event::new(Level::Error, "unreadable", message)
        .with("shard", u64::from(shard))
        .with("file", file)
        .with("offset", offset)
        .with("bytes", spot.bytes)
        .with("what", bad.what.clone())
        .with("places", places);
    match bad.sums {
        Some(sums) => event
            .with("checksum_stated", format!("{:08x}", sums.stated))
            .with("checksum_found", format!("{:08x}", sums.found)),
        None => event,
    }
}

/// A segment is not given back in this life; `segments`: how many since this was told last.
pub fn segment_stuck(shard: u16, segment: u32, why: &str, segments: u64) -> Event {
    let file = crate::engine::segment_name(segment);
    let message = format!(
        "shard {shard} cannot collect {file}: {why}; it keeps its disk space until a restart tries again"
    );
    Event::new(Level::Error, "segment_stuck", message)
        .with("shard", u64::from(shard))
        .with("file", file)
        .with("why", why.to_owned())
        .with("segments", segments)
}

/// A shard cannot take all of its keys from the ring's full members.
pub fn fill_waits(shard: u16, why: &str) -> Event {
    let message = format!(
        "shard {shard} is not filled yet: {why}; `armilla status` of the other nodes lists what they cannot read; it goes on trying"
    );
    let event = Event::new(Level::Warn, "fill_waits", message);
    event
        .with("shard", u64::from(shard))
        .with("why", why.to_owned())
}

/// Tables that are not merged in this life.
pub fn merge_stuck(shard: u16, runs: u64) -> Event {
    let message = format!(
        "shard {shard} leaves {runs} run(s) of tables unmerged: a block of them cannot be read; lookups get slower"
    );
    Event::new(Level::Error, "merge_stuck", message)
        .with("shard", u64::from(shard))
        .with("runs", runs)
}

/// All shards serve.
pub fn ready(took: Duration, records: u64) -> Event {
    let ms = took.as_millis() as u64;
    let message = format!(
        "ready after {ms} ms: {records} record(s) replayed; try 'armilla put greeting hello'"
    );
    Event::new(Level::Info, "ready", message)
        .with("took_ms", ms)
        .with("records", records)
}

/// The log of a shard is closed for good.
pub fn poisoned(shard: u16, poisoned: &Poisoned) -> Event {
    let cause = &poisoned.cause;
    let message = format!(
        "POISONED: shard {shard}: {cause}; it answers 'unsure' until this node is restarted and has replayed its log; \
         check the disk first (run: dmesg)"
    );
    Event::new(Level::Error, "poisoned", message)
        .with("shard", u64::from(shard))
        .with("cause", cause.to_string())
}

pub fn stopping() -> Event {
    let message = "stopping: finishing what is under way";
    Event::new(Level::Info, "stopping", message)
}

/// Each connection, for who asks for it.
pub fn connected(peer: SocketAddr, door: Door) -> Event {
    let door = match door {
        Door::Client => "clients",
        Door::Admin => "admin",
    };
    let message = format!("a connection of {peer} ({door})");
    Event::new(Level::Debug, "connected", message).with("peer", peer.to_string())
}

/// `refused`: how many since this was told last.
pub fn connection_limit(refused: u64, limit: usize) -> Event {
    let message = format!(
        "connection limit reached: refused {refused} connection(s) beyond {limit}; close idle ones, or add nodes"
    );
    Event::new(Level::Warn, "connection_limit", message)
        .with("refused", refused)
        .with("limit", limit as u64)
}

/// Whether a shard has room for puts: told when it changes, not for each refusal.
#[derive(Debug, Default)]
pub struct Room {
    full: bool,
    refused: u64,
    seldom: Seldom,
    /// `full` was told, so its end is told too.
    told: bool,
}

impl Room {
    /// A put was refused; `None` where that is no news, or not for want of room.
    pub fn on_refused(&mut self, why: AppendRefused, now: Nanos) -> Option<Event> {
        let (name, what) = match why {
            AppendRefused::DiskFull => (
                "disk_full",
                "the disk budget is used up; delete keys, or restart with a larger --disk",
            ),
            AppendRefused::MemoryFull => (
                "memory_full",
                "the memory budget is used up; delete keys, or restart with a larger --memory",
            ),
            AppendRefused::Overloaded
            | AppendRefused::RecordTooLarge
            | AppendRefused::Unsure(_) => return None,
        };
        self.full = true;
        self.refused += 1;
        // What flutters is told now and then, but what stays full is told.
        if self.told || self.seldom.due(now).is_none() {
            return None;
        }
        self.told = true;
        let message = format!("puts are refused: {what}; reads and deletes go on");
        Some(Event::new(Level::Error, name, message))
    }

    /// A put was taken.
    pub fn on_taken(&mut self) -> Option<Event> {
        if !std::mem::take(&mut self.full) || !std::mem::take(&mut self.told) {
            return None;
        }
        let refused = std::mem::take(&mut self.refused);
        let message = format!("puts are taken again, after {refused} were refused");
        Some(Event::new(Level::Info, "room_again", message).with("refused", refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shard_is_told_once_and_so_is_its_end() {
        let mut room = Room::default();
        let second = |n: u64| Nanos(n * 1_000_000_000);
        assert_eq!(room.on_taken(), None);
        assert_eq!(room.on_refused(AppendRefused::Overloaded, second(1)), None);
        let full = room.on_refused(AppendRefused::DiskFull, second(1));
        assert_eq!(full.expect("news").name, "disk_full");
        assert_eq!(room.on_refused(AppendRefused::DiskFull, second(2)), None);
        let again = room.on_taken().expect("news");
        assert_eq!((again.name, &again.fields[0].1), ("room_again", &2.into()));
        // It flutters: no line for each change.
        assert_eq!(room.on_refused(AppendRefused::MemoryFull, second(3)), None);
        assert_eq!(room.on_taken(), None);
        assert_eq!(room.on_refused(AppendRefused::MemoryFull, second(4)), None);
        // It stays full: that is news, though late.
        let full = room.on_refused(AppendRefused::MemoryFull, second(20));
        assert_eq!(full.expect("news").name, "memory_full");
    }

    #[test]
    fn damage_is_an_error_of_its_own() {
        let recovery = Recovery {
            records: 3,
            cut_groups: 1,
            damaged_groups: 2,
            ..Recovery::default()
        };
        let told = recovered(&recovery);
        assert_eq!((told.name, told.level), ("recovered", Level::Info));
        assert!(told.message.contains("cut 1 torn group(s)"));
        let told = damaged(3, &recovery).expect("news");
        assert_eq!((told.name, told.level), ("damaged", Level::Error));
        assert!(told.message.contains("shard 3"), "{}", told.message);
        assert_eq!(damaged(3, &Recovery::default()), None);
    }
}
