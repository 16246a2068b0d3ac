//! Collection: what still lives in a mostly dead segment is written anew, key by key, and the segment is given back.
//!
//! A value is moved by whoever holds the turn of its key, like any write: so nobody joins a state whose values are
//! moved away under it, and what the index says in the turn is still true when the copy is appended.

use super::shard::SharedShard;
use super::writes;
use crate::base::limits::{
    COLLECT_BATCH_BYTES, COLLECT_LOOK_MS, COLLECT_MOVES_MAX, COLLECT_RETRY_MS,
};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::engine::{
    AppendRefused, Engine, Entry, GroupNumber, Lookup, Stuck, Survivor, Unsure, Victim,
};
use crate::runtime::Runtime;
use futures_util::{StreamExt, stream};
use std::rc::Rc;
use std::time::Duration;

/// Why a segment was left before its end.
enum Left {
    /// Something in it cannot be read, or the index cannot say whether a record lives.
    Stuck(Stuck),
    /// The disk or memory is full: others may need no copies.
    NoRoom,
    /// The log is poisoned.
    Poisoned,
}

impl From<Unsure> for Left {
    fn from(unsure: Unsure) -> Left {
        match unsure {
            Unsure::Poisoned => Left::Poisoned,
            _ => Left::Stuck(Stuck::Index),
        }
    }
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
                Err(why) => mover.engine.leave(&victim, &why),
            },
            Err(Left::Stuck(why)) => mover.engine.leave(&victim, &why),
            Err(Left::NoRoom) => {
                mover.engine.postpone(&victim);
                mover.pause(COLLECT_RETRY_MS).await;
            }
            Err(Left::Poisoned) => return,
        }
    }
}

/// What superseded a record may not be durable yet: until then a crash would need it.
fn superseded_by(newest: &Entry) -> GroupNumber {
    match planted!(SupersededNotAwaited) {
        true => GroupNumber(0),
        false => newest.group,
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
        loop {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while bytes < COLLECT_BATCH_BYTES
                && let Some(survivors) = victim.next().await.map_err(Left::Stuck)?
            {
                bytes += survivors.iter().map(Survivor::bytes).sum::<usize>();
                batch.extend(survivors);
            }
            if bytes == 0 {
                return Ok(());
            }
            let last = self.relocate_all(&batch).await?;
            // A batch at a time, so that the log's room stays with the requests.
            self.until_durable(last).await?;
        }
    }

    /// The last group that must be durable before the records may go.
    async fn relocate_all(&self, batch: &[Survivor]) -> Result<GroupNumber, Left> {
        // All of them run to their end: one that is dropped would keep the turn of its key.
        let moves = stream::iter(batch).map(|survivor| self.relocate(survivor));
        let moves = moves.buffer_unordered(COLLECT_MOVES_MAX);
        let last = |so_far: Result<GroupNumber, Left>, moved: Result<GroupNumber, Left>| {
            let last = so_far.and_then(|last| moved.map(|group| last.max(group)));
            std::future::ready(last)
        };
        moves.fold(Ok(GroupNumber(0)), last).await
    }

    async fn until_durable(&self, last: GroupNumber) -> Result<(), Left> {
        while self.engine.durable_group() < last && !planted!(FreedBeforeDurable) {
            if self.engine.poisoned().is_some() {
                return Err(Left::Poisoned);
            }
            self.pause(1).await;
        }
        Ok(())
    }

    /// The group that must be durable before the record may go: of its copy, or of what superseded it.
    async fn relocate(&self, survivor: &Survivor) -> Result<GroupNumber, Left> {
        if self.runtime.should_yield() {
            self.runtime.yield_now().await;
        }
        // What nothing points at stays so, whoever has the key's turn.
        let newest = self.newest(survivor).await?;
        if survivor.relocated(&newest).is_none() {
            return Ok(superseded_by(&newest));
        }
        loop {
            self.take_turn(survivor).await;
            let moved = self.relocate_in_turn(survivor, &newest).await;
            self.end_turn(survivor);
            match moved {
                Ok(Some(group)) => return Ok(group),
                Ok(None) => self.pause(COLLECT_RETRY_MS).await,
                Err(left) => return Err(left),
            }
        }
    }

    /// `None`: the log has no room now. `seen`: what the index said before the turn.
    async fn relocate_in_turn(
        &self,
        survivor: &Survivor,
        seen: &Rc<Entry>,
    ) -> Result<Option<GroupNumber>, Left> {
        let newest = match planted!(RelocateWithoutTurn) {
            true => seen.clone(),
            false => self.newest(survivor).await?,
        };
        let Some(object) = survivor.relocated(&newest) else {
            return Ok(Some(superseded_by(&newest)));
        };
        match self.engine.relocate(survivor.key(), &newest, object) {
            Ok(group) => {
                mark!(Relocated);
                Ok(Some(group))
            }
            Err(AppendRefused::Unsure(unsure)) => Err(unsure.into()),
            // Segments were larger when it was written.
            Err(AppendRefused::RecordTooLarge) => Err(Left::Stuck(Stuck::TooLarge)),
            Err(AppendRefused::DiskFull | AppendRefused::MemoryFull) => Err(Left::NoRoom),
            Err(AppendRefused::Overloaded) => Ok(None),
        }
    }

    async fn newest(&self, survivor: &Survivor) -> Result<Rc<Entry>, Left> {
        let mut found = self.engine.lookup(survivor.key());
        if let Lookup::MustRead = found {
            found = self.engine.lookup_slow(survivor.key()).await;
        }
        match found {
            Lookup::Found(entry) => Ok(entry),
            // No key is ever forgotten: an index that does not know it is not believed.
            Lookup::Absent => Err(Left::Stuck(Stuck::Index)),
            Lookup::Unsure(unsure) => Err(unsure.into()),
            Lookup::MustRead => unreachable!("lookup_slow answers"),
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
