//! A node that has joined a ring takes all of its keys from those that hold them: each of its shards scans the shards
//! of all full members, page by page, and joins what it finds. What is written meanwhile comes by itself.
//!
//! It may begin anew at any time: a join of what is there already stores nothing.

use super::coordinate::Coordinated;
use super::crossing;
use super::epochs::{Filled, full_members, plain};
use super::events;
use super::flights::{Answer, Carried, Refused, Stored};
use super::links::Remote;
use super::mend;
use super::own;
use super::shard::{Shard, SharedShard};
use crate::base::limits::{
    FILL_KEYS_AT_ONCE, FILL_LEFT_MAX, FILL_PAGE_KEYS, FILL_RETRY_MS, TIMEOUT_MS_MAX,
};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::Nanos;
use crate::causal::object::Object;
use crate::engine::key::Key;
use crate::ring::owners::RingEpoch;
use crate::ring::position::{Position, VirtualNode};
use crate::ring::shard_map::{ShardId, ShardMap};
use crate::runtime::{Queue, Runtime};
use crate::wire::codec;
use crate::wire::key_list;
use crate::wire::message::Status;
use crate::wire::peer::{Kind, Peer};
use futures_util::{StreamExt, stream};
use smallvec::smallvec;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Part of this shard's positions, and who holds them.
#[derive(Clone, Debug)]
struct Source {
    remote: Remote,
    positions: RangeInclusive<Position>,
}

/// A page of keys, and whether more come behind it.
struct Page {
    keys: Vec<Key>,
    more: bool,
}

/// Fills this shard under the ring that it has now.
pub fn begin(shard: &mut Shard, shared: &SharedShard) {
    if shard.store.is_none() {
        // It begins when the log is open.
        return;
    }
    let (epoch, shared) = (shard.ring.epoch(), shared.clone());
    let sources = sources(shard);
    let runtime = shard.runtime.clone();
    runtime.clone().spawn(Queue::Background, async move {
        let mut filling = Filling {
            shared,
            epoch,
            left: Vec::new(),
            told: false,
        };
        for source in sources.iter().filter(|_| !planted!(FilledTooEarly)) {
            let mut after = None;
            while let Err(why) = filling.from(source, &mut after).await {
                if !filling.waits(&runtime, &why).await {
                    return;
                }
            }
        }
        while let Err(why) = filling.take_left().await {
            if !filling.waits(&runtime, &why).await {
                return;
            }
        }
        report(&filling.shared, epoch);
    });
}

/// A shard that fills.
struct Filling {
    shared: SharedShard,
    epoch: RingEpoch,
    /// Keys that could not be taken from there yet: the others go first.
    left: Vec<(Remote, Key)>,
    /// An operator was told why it takes long.
    told: bool,
}

/// The ring has not changed since.
fn is_due(shared: &SharedShard, epoch: RingEpoch) -> bool {
    shared.borrow().ring.epoch() == epoch
}

/// The shards of full members whose positions are this shard's too.
fn sources(shard: &Shard) -> Vec<Source> {
    let ring = &shard.ring;
    let count = ring.virtual_nodes();
    let own = ShardMap::even(count, shard.mailbox.shards()).run(shard.own);
    let mut sources = Vec::new();
    for member in ring.full_members() {
        let map = ShardMap::even(count, member.shards);
        for other in (0..member.shards).map(ShardId) {
            let theirs = map.run(other);
            let (first, end) = (own.start.max(theirs.start), own.end.min(theirs.end));
            if first < end {
                let last = VirtualNode(end - 1).arc(count);
                sources.push(Source {
                    remote: Remote {
                        node: member.id,
                        shard: other,
                    },
                    positions: *VirtualNode(first).arc(count).start()..=*last.end(),
                });
            }
        }
    }
    sources
}

fn ring_has_changed() -> Refused {
    Refused::new(Status::NotReady, "the ring has changed")
}

impl Filling {
    /// Before it is tried again. False: the ring has changed, and this is of no more use.
    async fn waits(&mut self, runtime: &Runtime, why: &Refused) -> bool {
        if !is_due(&self.shared, self.epoch) {
            return false;
        }
        // That another node cannot be reached for a while is told elsewhere.
        if why.status == Status::Unsure && !std::mem::replace(&mut self.told, true) {
            runtime.log(events::fill_waits(self.shared.borrow().own.0, &why.message));
        }
        runtime.sleep(Duration::from_millis(FILL_RETRY_MS)).await;
        true
    }

    /// Takes all keys of a source. `Err`: it is to be tried again, from `after` on.
    async fn from(&mut self, source: &Source, after: &mut Option<Key>) -> Result<(), Refused> {
        loop {
            let mut page = scan(&self.shared, source, after.as_ref()).await?;
            if planted!(FillSkipsLast) && page.keys.len() > 1 {
                page.keys.pop();
            }
            let remotes = page.keys.iter().map(|key| (source.remote, key.clone()));
            let failed = self.take_all(remotes.collect()).await?;
            self.left.extend(failed);
            // Whatever comes now, this page is not to be noted again.
            *after = page.keys.last().cloned().or(after.take());
            if self.left.len() > FILL_LEFT_MAX {
                self.take_left().await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Takes what was left: from wherever it can be had.
    async fn take_left(&mut self) -> Result<(), Refused> {
        let left = std::mem::take(&mut self.left);
        self.left = self.take_all(left).await?;
        match self.left.first() {
            None => Ok(()),
            Some((_, key)) => {
                let key = String::from_utf8_lossy(&key.key);
                let count = self.left.len();
                let message =
                    format!("{count} keys cannot be taken from any full member, {key} among them");
                Err(Refused::new(Status::Unsure, message))
            }
        }
    }

    /// Those that could not be taken.
    async fn take_all(&self, keys: Vec<(Remote, Key)>) -> Result<Vec<(Remote, Key)>, Refused> {
        // All of them run to their end: one that is dropped would keep the turn of its key.
        let taken = stream::iter(keys).map(|(remote, key)| async move {
            let taken = take(&self.shared, remote, &key).await;
            taken.is_err().then_some((remote, key))
        });
        let failed: Vec<_> = taken.buffer_unordered(FILL_KEYS_AT_ONCE).collect().await;
        match is_due(&self.shared, self.epoch) {
            true => Ok(failed.into_iter().flatten().collect()),
            false => Err(ring_has_changed()),
        }
    }
}

fn ask(shared: &SharedShard, remote: Remote) -> Option<Coordinated> {
    let mut shard = shared.borrow_mut();
    let now = shard.runtime.now();
    // A background matter may take its time.
    let deadline = Nanos(now.0 + TIMEOUT_MS_MAX * 1_000_000);
    let flight = shard.flights.open(smallvec![remote], now, deadline)?;
    Some(plain(shared, flight, smallvec![remote]))
}

fn no_room() -> Refused {
    Refused::new(Status::Overloaded, "too many requests are under way")
}

async fn scan(shared: &SharedShard, source: &Source, after: Option<&Key>) -> Result<Page, Refused> {
    let on = ask(shared, source.remote).ok_or_else(no_room)?;
    let mut behind = Vec::new();
    if let Some(key) = after {
        key_list::encode(&key.bucket, &key.key, &mut behind);
    }
    let scan = Peer {
        kind: Kind::Scan,
        object: &behind,
        position: source.positions.start().0,
        position_last: source.positions.end().0,
        ..Peer::default()
    };
    let page = match on.ask(0, &scan) {
        false => Err(on.not_reached()),
        true => loop {
            match on.next().await {
                Some(Answer::Scanned { keys, more, .. }) => break Ok(Page { keys, more }),
                Some(Answer::Refused { why, .. }) => break Err(why),
                Some(_) => {}
                None => break Err(on.not_reached()),
            }
        },
    };
    on.close();
    page
}

/// Takes all that a full member holds of a key; values that cannot be read there come from others.
async fn take(shared: &SharedShard, remote: Remote, key: &Key) -> Result<(), Refused> {
    let Some(mut object) = held(shared, remote, key).await? else {
        return Ok(());
    };
    let others = {
        let shard = shared.borrow();
        let mut full = shard.placement(key.position).full().to_vec();
        full.retain(|&other| other != remote && other.node != shard.node);
        full
    };
    let mut others = others.into_iter();
    loop {
        match own::store(shared, key, &object).await? {
            Stored::Durable => return Ok(()),
            Stored::Needs => {}
        }
        let Some(other) = others.next() else {
            let message = "a value of it cannot be read there";
            return Err(Refused::new(Status::Unsure, message));
        };
        if let Ok(Some(theirs)) = held(shared, other, key).await {
            mark!(FilledElsewhere);
            object = mend::completed(&object, &theirs);
        }
    }
}

/// All that another node holds of a key.
async fn held(
    shared: &SharedShard,
    remote: Remote,
    key: &Key,
) -> Result<Option<Object<Carried>>, Refused> {
    let mut on = ask(shared, remote).ok_or_else(no_room)?;
    on.key = key.clone();
    let found = match on.ask_read(0, true) {
        false => Err(on.not_reached()),
        true => loop {
            match on.next().await {
                Some(Answer::Found { object, .. }) => break Ok(object.map(|object| *object)),
                Some(Answer::Refused { why, .. }) => break Err(why),
                Some(_) => {}
                None => break Err(on.not_reached()),
            }
        },
    };
    on.close();
    found
}

/// A page of the keys of this shard, for who fills.
pub async fn page(
    shared: &SharedShard,
    positions: RangeInclusive<Position>,
    after: Option<Key>,
) -> Result<(Vec<Key>, bool), Refused> {
    let engine = {
        let shard = shared.borrow();
        if let Some(why) = shard.phase.refusal() {
            return Err(Refused::new(Status::NotReady, why));
        }
        let store = shard.store.as_ref().expect("a serving shard has a store");
        store.engine.clone()
    };
    let after = after.or_else(|| Key::last_before(*positions.start()));
    let entries = engine.scan(after.as_ref(), FILL_PAGE_KEYS).await?;
    // A part of the log that is lost may have held keys that the scan cannot know of.
    if let Some(why) = engine.unsure(positions.clone()) {
        return Err(why.into());
    }
    let whole = entries.len() == FILL_PAGE_KEYS;
    let keys = entries.into_iter().map(|(key, _)| key);
    let keys: Vec<Key> = keys
        .take_while(|key| key.position <= *positions.end())
        .collect();
    let more = whole && keys.len() == FILL_PAGE_KEYS;
    Ok((keys, more))
}

/// This shard holds all of its keys: shard 0 is told.
fn report(shared: &SharedShard, epoch: RingEpoch) {
    let mut shard = shared.borrow_mut();
    let own = shard.own;
    if own == ShardId(0) {
        return on_shard_filled(&mut shard, shared, own.0, epoch);
    }
    let peer = Peer {
        kind: Kind::Filled,
        shards: own.0,
        ring_epoch: epoch.0,
        ..Peer::default()
    };
    let frame = codec::encode_peer(&mut codec::Builder::new(), &peer).to_vec();
    let noted = shard.noted();
    if crossing::ask(&mut shard, ShardId(0), noted, &frame).is_ok() {
        return;
    }
    let (runtime, shared) = (shard.runtime.clone(), shared.clone());
    runtime.clone().spawn(Queue::Background, async move {
        runtime.sleep(Duration::from_millis(FILL_RETRY_MS)).await;
        if is_due(&shared, epoch) {
            report(&shared, epoch);
        }
    });
}

/// Runs on shard 0: when all shards hold their keys, full members are asked to make this node one of them.
pub fn on_shard_filled(shard: &mut Shard, shared: &SharedShard, filled: u16, epoch: RingEpoch) {
    if shard.ring.epoch() != epoch || !shard.ring.is_filling(shard.node) {
        return;
    }
    if shard.filled.epoch != epoch {
        shard.filled = Filled {
            epoch,
            ..Filled::default()
        };
    }
    let new = shard.filled.shards.insert(filled);
    if !new || shard.filled.shards.len() < usize::from(shard.mailbox.shards()) {
        return;
    }
    mark!(RingFilled);
    let (runtime, shared) = (shard.runtime.clone(), shared.clone());
    runtime.clone().spawn(Queue::Background, async move {
        while is_due(&shared, epoch) {
            let members = full_members(&shared.borrow());
            for remote in members {
                tell_filled(&shared, remote, epoch).await;
            }
            runtime.sleep(Duration::from_millis(FILL_RETRY_MS)).await;
        }
    });
}

async fn tell_filled(shared: &SharedShard, remote: Remote, epoch: RingEpoch) {
    let Some(on) = ask(shared, remote) else {
        return;
    };
    let filled = Peer {
        kind: Kind::Filled,
        ring_epoch: epoch.0,
        ..Peer::default()
    };
    if on.ask(0, &filled) {
        while let Some(answer) = on.next().await {
            if matches!(answer, Answer::Noted { .. } | Answer::Refused { .. }) {
                break;
            }
        }
    }
    on.close();
}
