//! What gets and puts of several replicas have in common: whom to ask, how to ask, what a client is told.

use super::flights::{Answer, Carried, FlightId, Refused, Replicas, Stored, Taken};
use super::links::Remote;
use super::own;
use super::shard::{Shard, SharedShard};
use super::waiters::Asker;
use crate::base::units::Nanos;
use crate::causal::object::Object;
use crate::causal::object_codec;
use crate::coordinator::quorum::Quorum;
use crate::engine::key::Key;
use crate::ring::owners::MemberIndex;
use crate::ring::position::Position;
use crate::runtime::Queue;
use crate::wire::codec;
use crate::wire::message::{Receipt, Request, Status};
use crate::wire::peer::{Kind, Peer};

/// A request that is put to the replicas of its key, of which this shard is one.
#[derive(Clone)]
pub struct Coordinated {
    pub shared: SharedShard,
    pub flight: FlightId,
    pub key: Key,
    pub replicas: Replicas,
    /// This shard's place among them.
    pub own: usize,
    /// How many of them hold all of their keys: the first ones.
    pub full: usize,
    pub quorums: Quorums,
}

/// The shards that should hold a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Those that hold all of their keys, in the order of the preference list; then those that fill.
    pub all: Replicas,
    /// How many hold all of their keys.
    pub full: usize,
}

impl Placement {
    /// Those that may be asked for reads, and may coordinate.
    pub fn full(&self) -> &[Remote] {
        &self.all[..self.full]
    }
}

/// The votes that a request needs: of the full replicas, and of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    pub full: Quorum,
    pub all: Quorum,
}

impl Quorums {
    /// As a request asks; the error says that there can never be so many.
    pub fn of(placement: &Placement, request: &Request<'_>) -> Result<Quorums, String> {
        let count = |replicas: usize| (replicas as u8, replicas);
        let (full, full_members) = count(placement.full);
        let (all, all_members) = count(placement.all.len());
        let (read, write) = (request.read_quorum, request.write_quorum);
        let all = Quorum::of(all, all_members, 0, write).map_err(|why| why.to_string())?;
        // As many of the full ones as there are, where a member that fills has to make up the number.
        let full = Quorum::of(full, full_members, read, write.min(full));
        let full = full.map_err(|why| why.to_string())?;
        Ok(Quorums { full, all })
    }
}

impl Shard {
    /// The shards that should hold a position.
    pub fn placement(&self, position: Position) -> Placement {
        let ring = &self.ring;
        let virtual_node = ring.virtual_node(position);
        let list = ring.preference_list(virtual_node, ring.value().replicas);
        let remote = |&member: &MemberIndex| Remote {
            node: ring.member(member).id,
            shard: self.maps[usize::from(member.0)].owner(virtual_node),
        };
        let mut all: Replicas = list.iter().map(remote).collect();
        if ring.value().filling.is_empty() {
            let full = all.len();
            return Placement { all, full };
        }
        all.sort_by_key(|remote| ring.is_filling(remote.node));
        let full = all.iter().filter(|r| !ring.is_filling(r.node)).count();
        Placement { all, full }
    }

    pub fn is_up(&self, remote: Remote) -> bool {
        remote.node == self.node || self.links.is_up(remote)
    }

    /// How many of these can be reached now, as far as this shard can tell.
    pub fn reachable(&self, replicas: &[Remote]) -> usize {
        replicas.iter().filter(|&&r| self.is_up(r)).count()
    }

    /// Names those that cannot be reached, and why.
    pub fn unreachable(&self, replicas: &[Remote]) -> String {
        let down = replicas.iter().filter(|&&r| !self.is_up(r));
        let named: Vec<String> = down
            .map(|&remote| {
                let member = self.ring.index_of(remote.node);
                let address = member.map(|member| self.ring.member(member).address.to_string());
                let address = address.unwrap_or_else(|| remote.node.to_string());
                format!("{address} ({})", self.links.why_down(remote))
            })
            .collect();
        named.join(", ")
    }

    /// Why a request for so many votes is not begun; `None`: as many replicas can be reached.
    pub fn too_few(&self, replicas: &[Remote], needed: u8) -> Option<String> {
        let reachable = self.reachable(replicas);
        if reachable >= usize::from(needed) {
            return None;
        }
        let down = self.unreachable(replicas);
        Some(format!(
            "{needed} of {} replicas are needed and {reachable} can be reached; missing: {down}; nothing was changed; \
             start the missing nodes, or ask for fewer votes",
            replicas.len()
        ))
    }
}

/// What a client is told whose request ended before it had its votes. `changed`: what may have happened.
pub fn missed(receipt: Receipt, missing: &str, changed: &str) -> String {
    let Receipt {
        votes,
        needed,
        replicas,
        ..
    } = receipt;
    let missing = match missing {
        "" => String::new(),
        missing => format!("; not reachable: {missing}"),
    };
    format!(
        "{votes} of {replicas} replicas had voted, and {needed} were needed{missing}; {changed}"
    )
}

impl Coordinated {
    pub fn with<T>(&self, work: impl FnOnce(&mut Shard) -> T) -> T {
        let mut shard = self.shared.borrow_mut();
        let done = work(&mut shard);
        shard.flush();
        done
    }

    /// The next answer; `None` once the deadline has passed.
    pub async fn next(&self) -> Option<Answer> {
        loop {
            let taken = self.shared.borrow_mut().flights.take(self.flight);
            match taken {
                Taken::Answer(answer) => return Some(answer),
                Taken::Late => return None,
                Taken::Wait(wake) => wake.notified().await,
            }
        }
    }

    pub fn close(&self) {
        self.shared.borrow_mut().flights.close(self.flight);
    }

    /// Asks another replica. False: it cannot be reached, and owes no answer.
    pub fn ask(&self, replica: usize, peer: &Peer<'_>) -> bool {
        self.with(|shard| {
            let peer = Peer {
                id: self.flight.0,
                timeout_ms: remaining_ms(shard, self.flight),
                bucket: &self.key.bucket,
                key: &self.key.key,
                ..peer.clone()
            };
            let now = shard.runtime.now();
            let frame = codec::encode_peer(&mut shard.builder, &peer);
            let asked = shard.links.ask(self.replicas[replica], frame, now).is_ok();
            if asked {
                shard.flights.on_asked(self.flight, replica);
            }
            asked
        })
    }

    /// Asks another replica what it holds.
    pub fn ask_read(&self, replica: usize, values: bool) -> bool {
        let read = Peer {
            kind: Kind::Read,
            values,
            ..Peer::default()
        };
        self.ask(replica, &read)
    }

    /// Gives another replica a state.
    pub fn ask_store(&self, replica: usize, object: &[u8]) -> bool {
        let store = Peer {
            kind: Kind::Store,
            object,
            ..Peer::default()
        };
        self.ask(replica, &store)
    }

    /// Asks this shard's own replica what it holds; the answer comes among the others.
    pub fn ask_own(&self) {
        let now = own::read_now(&self.shared.borrow(), self.key.as_ref());
        if let Some(found) = now {
            let mut shard = self.shared.borrow_mut();
            return shard.flights.on_own(self.flight, Answer::OwnFound(found));
        }
        let this = self.clone();
        self.spawn(async move {
            let found = own::read(&this.shared, &this.key).await;
            let mut shard = this.shared.borrow_mut();
            shard.flights.on_own(this.flight, Answer::OwnFound(found));
        });
    }

    /// Gives this shard's own replica a state.
    pub fn store_own(&self, object: Object<Carried>) {
        let this = self.clone();
        self.spawn(async move {
            let stored = own::store(&this.shared, &this.key, &object).await;
            let mut shard = this.shared.borrow_mut();
            shard.flights.on_own(this.flight, Answer::OwnStored(stored));
            shard.flush();
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let runtime = self.shared.borrow().runtime.clone();
        runtime.spawn(Queue::Foreground, task);
    }

    /// The other full replicas that can be reached, in the order of the preference list.
    pub fn others_up(&self) -> Vec<usize> {
        let shard = self.shared.borrow();
        let others = (0..self.full).filter(|&replica| replica != self.own);
        others
            .filter(|&replica| shard.is_up(self.replicas[replica]))
            .collect()
    }

    /// Gives replicas all that this one holds, and waits for their votes. `Err`: who did not take it, and why.
    pub async fn bring_up_to_date(&self, behind: &[usize]) -> Result<(), Refused> {
        let Some(whole) = own::read_whole(&self.shared, &self.key).await? else {
            return Ok(());
        };
        let bytes = encoded(&whole, |value| value.as_deref());
        let mut open = Vec::new();
        let mut failed = None;
        for &replica in behind {
            match self.ask_store(replica, &bytes) {
                true => open.push(replica),
                false => failed = Some(self.not_reached()),
            }
        }
        // Others may still owe answers to what they were asked before.
        while !open.is_empty() {
            match self.next().await {
                Some(Answer::Stored { replica, what }) if open.contains(&replica) => {
                    open.retain(|&other| other != replica);
                    if what == Stored::Needs {
                        failed = Some(self.not_reached());
                    }
                }
                Some(Answer::Refused { replica, why }) if open.contains(&replica) => {
                    open.retain(|&other| other != replica);
                    failed = Some(Refused::new(Status::QuorumUnavailable, why.message));
                }
                Some(_) => {}
                None => return Err(self.not_reached()),
            }
        }
        match failed {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }

    pub fn not_reached(&self) -> Refused {
        let down = self.shared.borrow().unreachable(&self.replicas);
        let message = match down.as_str() {
            "" => "a replica did not answer in time; ask again".to_owned(),
            down => format!("not reachable: {down}; ask again, or for fewer votes"),
        };
        Refused::new(Status::QuorumUnavailable, message)
    }

    /// Ends a request with a refusal.
    pub fn refuse(&self, asker: Asker, why: &Refused) {
        self.with(|shard| shard.finish_message(asker, why.status, &why.message));
        self.close();
    }
}

fn remaining_ms(shard: &mut Shard, flight: FlightId) -> u32 {
    let Nanos(deadline) = shard.flights.deadline(flight);
    let left = deadline.saturating_sub(shard.runtime.now().0) / 1_000_000;
    u32::try_from(left.max(1)).unwrap_or(u32::MAX)
}

/// The bytes of an object with those of its values that `value` gives.
pub fn encoded<'v, V: 'v>(
    object: &'v Object<V>,
    value: impl Fn(&'v V) -> object_codec::Given<'v>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    object_codec::encode(object, value, &mut bytes);
    bytes
}
