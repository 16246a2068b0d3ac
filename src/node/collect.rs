//! Collection: what still lives in a mostly dead segment is written anew, key by key, and the segment is given back.
//!
//! A value is moved by whoever holds the turn of its key, like any write: so nobody joins a state whose values are
//! moved away under it, and what the index says in the turn is still true when the copy is appended.

use super::shard::SharedShard;
use super::writes;
use crate::base::limits::{COLLECT_LOOK_MS, COLLECT_RETRY_MS};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::engine::{AppendRefused, Engine, GroupNumber, Lookup, Survivor, Unsure, Victim};
use crate::runtime::Runtime;
use std::time::Duration;

/// Why a segment was left before its end.
enum Left {
    /// Something in it cannot be read, or the index cannot say whether a record lives.
    Stuck,
    /// The log is poisoned.
    Poisoned,
}

/// Until the log is poisoned.
pub async fn collect(shared: SharedShard, engine: Engine, runtime: Runtime) {
    let mover = Mover {
        shared,
        engine,
        runtime,
    };
    while mover.engine.poisoned().is_none() {
        let Some(mut victim) = mover.engine.victim() else {
            mover.engine.victim_perhaps(COLLECT_LOOK_MS).await;
            continue;
        };
        match mover.empty(&mut victim).await {
            Ok(()) => match mover.engine.free(&victim).await {
                Ok(true) => {}
                Ok(false) => mover.pause(COLLECT_RETRY_MS).await,
                Err(_) => mover.engine.leave(&victim),
            },
            Err(Left::Stuck) => mover.engine.leave(&victim),
            Err(Left::Poisoned) => return,
        }
    }
}

struct Mover {
    shared: SharedShard,
    engine: Engine,
    runtime: Runtime,
}

impl Mover {
    async fn pause(&self, ms: u64) {
        self.runtime.sleep(Duration::from_millis(ms)).await;
    }

    /// Moves all that lives; on return the copies are durable.
    async fn empty(&self, victim: &mut Victim) -> Result<(), Left> {
        let mut last = GroupNumber(0);
        while let Some(survivors) = victim.next().await.map_err(|_| Left::Stuck)? {
            for survivor in &survivors {
                if let Some(group) = self.relocate(survivor).await? {
                    last = last.max(group);
                }
                if self.runtime.should_yield() {
                    self.runtime.yield_now().await;
                }
            }
        }
        while self.engine.durable_group() < last && !planted!(FreedBeforeDurable) {
            if self.engine.poisoned().is_some() {
                return Err(Left::Poisoned);
            }
            self.pause(1).await;
        }
        Ok(())
    }

    /// The group that must be durable before the record may go: of its copy, or of what superseded it.
    async fn relocate(&self, survivor: &Survivor) -> Result<Option<GroupNumber>, Left> {
        loop {
            self.take_turn(survivor).await;
            let mut found = self.engine.lookup(survivor.key());
            if let Lookup::MustRead = found {
                found = self.engine.lookup_slow(survivor.key()).await;
            }
            let moved = match found {
                Lookup::Absent => Ok(None),
                Lookup::Unsure(Unsure::Poisoned) => Err(Left::Poisoned),
                Lookup::Unsure(_) => Err(Left::Stuck),
                Lookup::MustRead => unreachable!("lookup_slow answers"),
                Lookup::Found(entry) => match survivor.relocated(&entry) {
                    // What superseded the record may not be durable yet: until then a crash would need it.
                    None => Ok(Some(entry.group)),
                    Some(object) => {
                        let key = survivor.key();
                        match self.engine.relocate(key, &entry, object) {
                            Ok(group) => {
                                mark!(Relocated);
                                Ok(Some(group))
                            }
                            Err(AppendRefused::Unsure(Unsure::Poisoned)) => Err(Left::Poisoned),
                            Err(AppendRefused::Unsure(_)) => Err(Left::Stuck),
                            Err(_) => {
                                self.end_turn(survivor);
                                self.pause(COLLECT_RETRY_MS).await;
                                continue;
                            }
                        }
                    }
                },
            };
            self.end_turn(survivor);
            return moved;
        }
    }

    async fn take_turn(&self, survivor: &Survivor) {
        loop {
            {
                let mut shard = self.shared.borrow_mut();
                let store = shard.store.as_mut().expect("a serving shard has a store");
                if planted!(RelocateWithoutTurn) {
                    return;
                }
                if !store.key_queue.is_busy(survivor.key()) {
                    store.key_queue.begin(survivor.key());
                    return;
                }
            }
            self.pause(1).await;
        }
    }

    /// Goes on with the writes of the key that came meanwhile.
    fn end_turn(&self, survivor: &Survivor) {
        if planted!(RelocateWithoutTurn) {
            return;
        }
        let mut shard = self.shared.borrow_mut();
        writes::end_turn(&mut shard, &self.shared, survivor.key());
    }
}
