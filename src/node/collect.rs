//! Collection: what still lives in a mostly dead segment is copied, and the segment is given back.
//!
//! The place of a value is changed by whoever holds the turn of its key, like any write: so nobody joins a state whose
//! values are moved away under it, and what the index says in the turn is still true when the place is changed.

use super::own;
use super::shard::SharedShard;
use super::writes;
use crate::base::limits::{
    COLLECT_BATCH_BYTES, COLLECT_LOOK_MS, COLLECT_MOVES_MAX, COLLECT_REST_MS_MAX, COLLECT_RETRY_MS,
};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::engine::{
    AppendRefused, Copied, Engine, Entry, Freed, GroupNumber, Location, Lookup, NotCopied, Stuck,
    Survivor, Unsure, Victim,
};
use crate::runtime::Runtime;
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
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

impl From<NotCopied> for Left {
    fn from(not_copied: NotCopied) -> Left {
        match not_copied {
            NotCopied::NoRoom => Left::NoRoom,
            NotCopied::Poisoned => Left::Poisoned,
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
        if !mover.engine.free_waiting().await {
            mover.pause(COLLECT_RETRY_MS).await;
            continue;
        }
        let Some(mut victim) = mover.engine.victim() else {
            mover.engine.victim_perhaps(COLLECT_LOOK_MS).await;
            continue;
        };
        match mover.empty(&mut victim).await {
            Ok(()) => match mover.engine.free(&victim).await {
                Ok(Freed::Now | Freed::Later) => {}
                Ok(Freed::NotNow) => mover.pause(COLLECT_RETRY_MS).await,
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

/// All of them run to their end: one that is dropped would keep the turn of its key.
async fn last_of(
    moves: impl Iterator<Item = impl Future<Output = Result<GroupNumber, Left>>>,
) -> Result<GroupNumber, Left> {
    let moves = stream::iter(moves).buffer_unordered(COLLECT_MOVES_MAX);
    let last = |so_far: Result<GroupNumber, Left>, moved: Result<GroupNumber, Left>| {
        let last = so_far.and_then(|last| moved.map(|group| last.max(group)));
        std::future::ready(last)
    };
    moves.fold(Ok(GroupNumber(0)), last).await
}

/// A place in the order of segments.
fn place(location: Location) -> (u32, u32) {
    (location.segment, location.offset_words)
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

    /// Moves all that lives; on return the copies are durable, and what superseded the rest.
    async fn empty(&self, victim: &mut Victim) -> Result<(), Left> {
        loop {
            let began = self.runtime.now();
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
            let last = match self.engine.copies_apart() {
                true => self.copy_all(&batch).await?,
                false => self.relocate_all(&batch).await?,
            };
            // A batch at a time, so that the log's room stays with the requests.
            self.until_durable(last).await?;
            self.rest(self.runtime.now().0 - began.0).await;
        }
    }

    /// So that the goal is met just in time: the farther away it is, the longer after work of so many nanoseconds.
    async fn rest(&self, worked: u64) {
        let haste = self.engine.haste();
        let rest = worked * (100 - haste) / haste;
        let rest = rest.min(COLLECT_REST_MS_MAX * 1_000_000);
        if rest > 0 {
            self.runtime.sleep(Duration::from_nanos(rest)).await;
        }
    }

    /// The last group that must be durable before the records may go.
    async fn relocate_all(&self, batch: &[Survivor]) -> Result<GroupNumber, Left> {
        last_of(batch.iter().map(|survivor| self.relocate(survivor))).await
    }

    /// The same, by copies apart from the log.
    async fn copy_all(&self, batch: &[Survivor]) -> Result<GroupNumber, Left> {
        let mut last = GroupNumber(0);
        let (mut living, mut seen) = (Vec::new(), BTreeMap::new());
        let newest = batch.iter().map(|survivor| self.newest(survivor));
        let newest: Vec<_> = stream::iter(newest)
            .buffered(COLLECT_MOVES_MAX)
            .collect()
            .await;
        for (survivor, newest) in batch.iter().zip(newest) {
            let newest = newest?;
            match survivor.relocated(&newest) {
                Some(object) => {
                    living.push((survivor, object));
                    seen.insert(place(survivor.location), (survivor, newest));
                }
                None => last = last.max(superseded_by(&newest)),
            }
        }
        if living.is_empty() {
            return Ok(last);
        }
        let copied = self.engine.copy(living).await?;
        let flips = copied.iter().map(|copy| {
            let (survivor, seen) = &seen[&place(copy.from)];
            self.flip(survivor, copy, seen)
        });
        Ok(last.max(last_of(flips).await?))
    }

    /// `seen`: what the index said when the copy was made.
    async fn flip(
        &self,
        survivor: &Survivor,
        copied: &Copied,
        seen: &Rc<Entry>,
    ) -> Result<GroupNumber, Left> {
        loop {
            // A key that is hot now may have gone elsewhere meanwhile: what nothing points at stays so.
            let newest = self.newest(survivor).await?;
            if !copied.is_named(&newest.object) {
                return Ok(superseded_by(&newest));
            }
            self.take_turn(survivor).await;
            let flipped = self.flip_in_turn(survivor, copied, seen).await;
            self.end_turn(survivor);
            match flipped {
                Ok(Some(group)) => return Ok(group),
                Ok(None) => self.pause(COLLECT_RETRY_MS).await,
                Err(left) => return Err(left),
            }
        }
    }

    /// `None`: memory has no room now.
    async fn flip_in_turn(
        &self,
        survivor: &Survivor,
        copied: &Copied,
        seen: &Rc<Entry>,
    ) -> Result<Option<GroupNumber>, Left> {
        let newest = match planted!(RelocateWithoutTurn) {
            true => seen.clone(),
            false => self.newest(survivor).await?,
        };
        if !copied.is_named(&newest.object) {
            return Ok(Some(superseded_by(&newest)));
        }
        match self.engine.flip(survivor.key(), &newest, copied) {
            Ok(()) => {
                mark!(Relocated);
                // What is in no table yet goes into one before the record goes.
                Ok(Some(GroupNumber(0)))
            }
            Err(AppendRefused::Unsure(unsure)) => Err(unsure.into()),
            // Flushes find no disk: others may be given back without any flip.
            Err(AppendRefused::MemoryFull) => Err(Left::NoRoom),
            Err(_) => Ok(None),
        }
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
        loop {
            // What nothing points at stays so, whoever has the key's turn.
            let newest = self.newest(survivor).await?;
            if survivor.relocated(&newest).is_none() {
                return Ok(superseded_by(&newest));
            }
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
        if self.runtime.should_yield() {
            self.runtime.yield_now().await;
        }
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

    /// Waits behind the writes of the key; behind all that may wait, if they are too many.
    async fn take_turn(&self, survivor: &Survivor) {
        if planted!(RelocateWithoutTurn) {
            return;
        }
        while own::take_turn(&self.shared, &survivor.key).await.is_err() {
            self.pause(COLLECT_RETRY_MS).await;
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
