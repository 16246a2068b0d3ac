//! A put or delete of a key with several replicas: ask what R replicas have seen if the write supersedes that, mint and
//! append here, give the new state to the others, answer at W durable votes.
//!
//! 1. What is refused was not minted. After the mint the outcome is ok or unknown.
//! 2. Exactly one replica mints; the others join what they are given.
//! 3. The state goes out when it is appended here: others may be durable first, and each votes for itself.

use super::away::Leave;
use super::coordinate::{Coordinated, Placement, Quorums, encoded, missed};
use super::flights::{Answer, FlightId, Refused, Replicas, Stored};
use super::forward;
use super::own;
use super::shard::{Shard, SharedShard, TOO_MANY};
use super::waiters::{Asker, ReplyTo};
use super::writes::{self, Written, write_in_turn};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::object::Object;
use crate::causal::object_codec::Given;
use crate::coordinator::get::Get;
use crate::coordinator::put::{Put, Verdict};
use crate::coordinator::tally::Outcome;
use crate::engine::key::{Key, KeyRef};
use crate::engine::{AppendRefused, GroupNumber, Lookup, NewValue, Place};
use crate::replica::write::{Refusal, Rule};
use crate::ring::owners::RingEpoch;
use crate::runtime::Queue;
use crate::wire::codec;
use crate::wire::message::{PutMode, Request, Status};

struct Writing {
    on: Coordinated,
    /// Of the ring that says who the replicas are.
    epoch: RingEpoch,
    asker: Asker,
    rule: Rule,
    /// The request as it came: its value is not copied again.
    frame: Vec<u8>,
    /// Another node has forwarded it: it goes no further.
    forwarded: bool,
}

pub fn on_write(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    key: KeyRef<'_>,
    request: &Request<'_>,
    frame: &[u8],
    (placement, quorums): (Placement, Quorums),
) {
    let rule = match writes::rule(shard, request) {
        Ok(rule) => rule,
        Err(message) => {
            return shard.reply_message(to, request.id, Status::ContextRefused, &message);
        }
    };
    let reads = request.mode != PutMode::ByContext;
    let needed = match reads {
        true => quorums.full.write.max(quorums.full.read),
        false => quorums.full.write,
    };
    let full = placement.full;
    let replicas = placement.all;
    let missing = shard.too_few(&replicas[..full], needed);
    let missing = missing.or_else(|| shard.too_few(&replicas, quorums.all.write));
    if let Some(message) = missing {
        return shard.reply_message(to, request.id, Status::QuorumUnavailable, &message);
    }
    let mut asker = shard.begin(to, request);
    if !shard.promise(&mut asker, frame.len()) {
        return;
    }
    let Some(flight) = open(shard, &replicas, asker) else {
        return;
    };
    let own = replicas.iter().position(|r| r.node == shard.node);
    let writing = Writing {
        on: Coordinated {
            shared: shared.clone(),
            flight,
            key: Key::from(key),
            replicas,
            own: own.expect("only a full replica coordinates"),
            full,
            quorums,
        },
        epoch: shard.ring.epoch(),
        asker,
        rule,
        frame: frame.to_vec(),
        forwarded: matches!(to, ReplyTo::Peer { .. }),
    };
    let runtime = shard.runtime.clone();
    runtime.spawn(Queue::Foreground, writing.run(reads));
}

/// `None`: there are too many, and it has been answered.
fn open(shard: &mut Shard, replicas: &Replicas, asker: Asker) -> Option<FlightId> {
    let now = shard.runtime.now();
    let flight = shard.flights.open(replicas.clone(), now, asker.deadline);
    if flight.is_none() {
        shard.finish_message(asker, Status::Overloaded, TOO_MANY);
    }
    flight
}

/// A write that is appended here, and the state to be given to the others.
struct Appended {
    group: GroupNumber,
    object: Vec<u8>,
}

/// What came of the key's turn.
enum Appending {
    Appended(Appended),
    /// It was refused, and answered.
    Answered,
    /// The own replica cannot say what it holds, or has no room.
    NotHere(Refused),
    /// This tells of a state that may not be durable yet.
    Refused {
        why: Refusal,
        group: GroupNumber,
    },
}

impl Writing {
    async fn run(mut self, reads: bool) {
        if reads
            && self.on.quorums.full.read > 1
            && !planted!(OverwriteLocalOnly)
            && let Err(why) = self.learn().await
        {
            return self.on.refuse(self.asker, &why);
        }
        // What was asked so far has its answers, or is of no more interest.
        self.on.close();
        let flight = open(
            &mut self.on.shared.borrow_mut(),
            &self.on.replicas,
            self.asker,
        );
        let Some(flight) = flight else {
            return;
        };
        self.on.flight = flight;
        if let Some(appended) = self.append().await {
            self.fan_out(appended).await;
        }
        self.on.close();
    }

    /// What R replicas have seen of the key, for a write that supersedes that.
    async fn learn(&mut self) -> Result<(), Refused> {
        let mut get = Get::new(self.on.quorums.full);
        let mut others = Object::<()>::default();
        // The own replica's part is what the mint meets.
        get.on_answer(self.on.own, Default::default());
        let mut spared = self.on.others_up();
        spared.reverse();
        let mut open = 0;
        while get.outcome() == Outcome::Pending {
            let wanted = usize::from(self.on.quorums.full.read) - usize::from(get.receipt().votes);
            while open < wanted
                && let Some(replica) = spared.pop()
            {
                open += usize::from(self.on.ask_read(replica, false));
            }
            if open == 0 {
                break;
            }
            match self.on.next().await {
                Some(Answer::Found { replica, object }) => {
                    open -= 1;
                    let object = object.map_or_else(Object::default, |o| without_values(*o));
                    get.on_answer(replica, object.vector.clone());
                    others.join(&object);
                }
                Some(Answer::Refused { .. }) => {
                    open -= 1;
                    get.on_refusal();
                }
                Some(Answer::Hedge) => {
                    while let Some(replica) = spared.pop() {
                        mark!(Hedged);
                        open += usize::from(self.on.ask_read(replica, false));
                    }
                }
                Some(Answer::Crowded) => {}
                // Only reads were asked for: a node that answers something else has not answered.
                Some(_) => {
                    open -= 1;
                    get.on_refusal();
                }
                None => break,
            }
        }
        if get.outcome() != Outcome::Won {
            let missing = self.on.shared.borrow().unreachable(&self.on.replicas);
            let message = missed(get.receipt(), &missing, "nothing was changed; ask again");
            return Err(Refused::new(Status::QuorumUnavailable, message));
        }
        match &mut self.rule {
            Rule::Overwrite(seen) => *seen = others.vector,
            Rule::IfAbsent(held) => *held = others,
            Rule::Seen(_) => unreachable!("a context says by itself what was seen"),
        }
        Ok(())
    }

    /// Mints and appends in the key's turn. `None`: it was refused, and answered.
    async fn append(&self) -> Option<Appended> {
        let on = &self.on;
        // Until the mint nothing has happened: a disk that does not answer in time is answered for so.
        let leave = on.shared.borrow_mut().leave(self.asker)?;
        if let Err(why) = own::take_turn(&on.shared, &on.key).await {
            return self.refused(leave, why);
        }
        let engine = {
            let shard = on.shared.borrow();
            let store = shard.store.as_ref().expect("a serving shard has a store");
            store.engine.clone()
        };
        let mut found = engine.lookup(on.key.as_ref());
        if let Lookup::MustRead = found {
            found = engine.lookup_slow(on.key.as_ref()).await;
        }
        match self.append_in_turn(leave, found) {
            Appending::Appended(appended) => Some(appended),
            Appending::Answered => None,
            Appending::NotHere(why) => {
                self.hand_on(&why);
                None
            }
            Appending::Refused { why, group } => {
                self.refuse_when_durable(why, group).await;
                None
            }
        }
    }

    /// The key's turn, and its end.
    fn append_in_turn(&self, leave: Leave, found: Lookup) -> Appending {
        let (shared, key) = (&self.on.shared, self.on.key.as_ref());
        let mut shard = shared.borrow_mut();
        let Some(asker) = shard.back(leave) else {
            writes::end_turn(&mut shard, shared, key);
            return Appending::Answered;
        };
        // It has come back: what was promised is the same.
        assert_eq!(asker, self.asker);
        // Who joins a ring is given what is appended from now on, and finds what was appended before: a write that is
        // in between would be neither.
        if shard.ring.epoch() != self.epoch {
            mark!(RingChangedUnderWrite);
            writes::end_turn(&mut shard, shared, key);
            let message = "the ring has just changed; nothing was changed of the key; ask again";
            shard.finish_message(self.asker, Status::NotReady, message);
            shard.flush();
            return Appending::Answered;
        }
        let (written, object) = self.write(&mut shard, found);
        writes::end_turn(&mut shard, shared, key);
        match written {
            Written::Done { group, .. } => Appending::Appended(Appended { group, object }),
            Written::Failed(
                why @ (AppendRefused::Unsure(_)
                | AppendRefused::DiskFull
                | AppendRefused::MemoryFull),
            ) => Appending::NotHere(why.into()),
            Written::Failed(why) => {
                let why = Refused::from(why);
                shard.finish_message(self.asker, why.status, &why.message);
                shard.flush();
                Appending::Answered
            }
            Written::Refused { why, group } => Appending::Refused { why, group },
        }
    }

    /// Writes in the key's turn; the bytes are what is given to the others.
    fn write(&self, shard: &mut Shard, found: Lookup) -> (Written, Vec<u8>) {
        let request = codec::decode_request(&self.frame, shard.request_limits);
        let request = request.expect("it was verified at the door");
        let write = writes::write_of(&request, &self.rule);
        let held = match &found {
            Lookup::Found(entry) => Some(entry.object.clone()),
            _ => None,
        };
        let mut bytes = Vec::new();
        let written = write_in_turn(shard, self.on.key.as_ref(), write, found, |object| {
            bytes = encoded(object, new_value);
        });
        if let (Written::Done { minted: false, .. }, Some(held)) = (&written, held) {
            mark!(OperationHeld);
            bytes = encoded(&held, inline_value);
        }
        (written, bytes)
    }

    fn refused(&self, leave: Leave, why: Refused) -> Option<Appended> {
        self.on.with(|shard| {
            if let Some(asker) = shard.back(leave) {
                shard.finish_message(asker, why.status, &why.message);
            }
        });
        None
    }

    /// Nothing was changed, and another replica may coordinate.
    fn hand_on(&self, why: &Refused) {
        let others: Replicas = self
            .on
            .others_up()
            .into_iter()
            .map(|replica| self.on.replicas[replica])
            .collect();
        let shared = &self.on.shared;
        let mut shard = shared.borrow_mut();
        if self.forwarded || others.is_empty() {
            shard.finish_message(self.asker, why.status, &why.message);
            return shard.flush();
        }
        mark!(HandedOn);
        forward::go_on(&mut shard, shared, self.asker, self.frame.clone(), others);
    }

    /// A refusal that tells of a state waits until that is durable.
    async fn refuse_when_durable(&self, why: Refusal, group: GroupNumber) {
        let told = own::until_durable(&self.on.shared, group).await;
        self.on.with(|shard| match told {
            Ok(()) => writes::refuse(shard, self.asker, why),
            Err(why) => shard.finish_message(self.asker, why.status, &why.message),
        });
    }

    async fn fan_out(&self, appended: Appended) {
        let on = &self.on;
        let mut put = Put::minted_jointly(on.quorums.full, on.quorums.all);
        let mut verdict = None;
        self.vote_when_durable(appended.group);
        let mut open = 1;
        let mut sent_whole = vec![false; on.replicas.len()];
        for replica in (0..on.replicas.len()).filter(|&replica| replica != on.own) {
            match on.ask_store(replica, &appended.object) {
                true => open += 1,
                false => {
                    mark!(StoreNotSent);
                    self.settle(&mut verdict, put.on_unsure(replica < on.full));
                }
            }
        }
        while open > 0 {
            match on.next().await {
                None => break,
                Some(Answer::Crowded) if verdict.is_some() => break,
                Some(Answer::OwnStored(Ok(Stored::Durable))) => {
                    open -= 1;
                    self.settle(&mut verdict, put.on_vote(true));
                }
                Some(Answer::Stored {
                    replica,
                    what: Stored::Durable,
                }) => {
                    open -= 1;
                    self.settle(&mut verdict, put.on_vote(replica < on.full));
                }
                Some(Answer::Stored {
                    replica,
                    what: Stored::Needs,
                }) if !sent_whole[replica] => {
                    mark!(StoreNeeded);
                    sent_whole[replica] = true;
                    if !self.send_whole(replica).await {
                        open -= 1;
                        self.settle(&mut verdict, put.on_unsure(replica < on.full));
                    }
                }
                Some(Answer::OwnStored(_)) => {
                    open -= 1;
                    self.settle(&mut verdict, put.on_unsure(true));
                }
                Some(Answer::Stored { replica, .. } | Answer::Refused { replica, .. }) => {
                    mark!(StoreRefused);
                    open -= 1;
                    let is_full = replica < on.full;
                    let told = match planted!(RefusalVotes) {
                        true => put.on_vote(is_full),
                        false => put.on_unsure(is_full),
                    };
                    self.settle(&mut verdict, told);
                }
                Some(_) => {}
            }
        }
        if verdict.is_none() {
            self.settle(&mut verdict, Some(put.on_deadline()));
        }
    }

    /// The own replica's vote is its synced record.
    fn vote_when_durable(&self, group: GroupNumber) {
        let on = self.on.clone();
        let runtime = on.shared.borrow().runtime.clone();
        runtime.spawn(Queue::Foreground, async move {
            let durable = own::until_durable(&on.shared, group).await;
            let stored = Answer::OwnStored(durable.map(|()| Stored::Durable));
            on.shared.borrow_mut().flights.on_own(on.flight, stored);
        });
    }

    /// A replica lacks values that were left out. What is sent may be newer than the write: it holds it, or has
    /// superseded it.
    async fn send_whole(&self, replica: usize) -> bool {
        match own::read_whole(&self.on.shared, &self.on.key).await {
            Ok(Some(whole)) => {
                let bytes = encoded(&whole, |value| value.as_deref());
                self.on.ask_store(replica, &bytes)
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// The first verdict is the client's; what comes later only ends the flight.
    fn settle(&self, told: &mut Option<Verdict>, verdict: Option<Verdict>) {
        let Some(verdict) = verdict.filter(|_| told.is_none()) else {
            return;
        };
        *told = Some(verdict);
        let on = &self.on;
        on.with(|shard| {
            let message = match verdict.receipt {
                Some(receipt) if verdict.status != Status::Ok => {
                    let missing = shard.unreachable(&on.replicas);
                    missed(receipt, &missing, "the write may or may not be there")
                }
                _ => String::new(),
            };
            shard.finish(self.asker, verdict.status, &message, verdict.receipt);
        });
    }
}

fn without_values<V>(object: Object<V>) -> Object<()> {
    let siblings = object.siblings.into_iter();
    Object {
        vector: object.vector,
        siblings: siblings.map(|sibling| sibling.with_value(())).collect(),
    }
}

/// What travels with a write: its own value, and those that stand in entries.
fn new_value<'v>(value: &'v NewValue<'_>) -> Given<'v> {
    match value {
        NewValue::Put(bytes) => Some(bytes),
        NewValue::Keep(place) => inline_value(place),
    }
}

fn inline_value(place: &Place) -> Given<'_> {
    match place {
        Place::Inline(bytes) => Some(bytes),
        Place::Nowhere | Place::At { .. } => None,
    }
}
