//! A get of a key with several replicas: ask R of them, this shard's own among them; bring the own one up to date;
//! answer from it. A strict get brings those behind up to date before it answers, others do it afterwards.

use super::coordinate::{Coordinated, Placement, Quorums, missed};
use super::flights::{Answer, Carried, Refused, Replicas, Stored};
use super::forward;
use super::mend;
use super::reads;
use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo};
use crate::base::limits::REPAIRS_MAX;
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::object::Object;
use crate::causal::version_vector::VersionVector;
use crate::coordinator::get::Get;
use crate::coordinator::tally::Outcome;
use crate::engine::Entry;
use crate::engine::key::{Key, KeyRef};
use crate::runtime::Queue;
use crate::wire::message::{Request, Status};
use std::rc::Rc;

/// What a get needs of its request.
struct Reading {
    on: Coordinated,
    asker: Asker,
    strict: bool,
    /// The request's frame, should another replica have to run it; none if one has forwarded it already.
    frame: Option<Vec<u8>>,
}

pub fn on_get(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    key: KeyRef<'_>,
    request: &Request<'_>,
    frame: &[u8],
    (placement, quorums): (Placement, Quorums),
) {
    // Who fills is not asked.
    let replicas: Replicas = placement.full().into();
    if let Some(message) = shard.too_few(&replicas, quorums.full.read) {
        return shard.reply_message(to, request.id, Status::QuorumUnavailable, &message);
    }
    let asker = shard.begin(to, request);
    let now = shard.runtime.now();
    let Some(flight) = shard.flights.open(replicas.clone(), now, asker.deadline) else {
        return shard.finish_message(asker, Status::Overloaded, super::shard::TOO_MANY);
    };
    let own = replicas.iter().position(|r| r.node == shard.node);
    let reading = Reading {
        on: Coordinated {
            shared: shared.clone(),
            flight,
            key: Key::from(key),
            full: replicas.len(),
            replicas,
            own: own.expect("only a full replica coordinates"),
            quorums,
        },
        asker,
        strict: request.strict,
        frame: (!matches!(to, ReplyTo::Peer { .. })).then(|| frame.to_vec()),
    };
    let runtime = shard.runtime.clone();
    runtime.spawn(Queue::Foreground, reading.run());
}

fn vector(entry: &Option<Rc<Entry>>) -> VersionVector {
    let nothing = VersionVector::default;
    entry
        .as_ref()
        .map_or_else(nothing, |entry| entry.object.vector.clone())
}

/// Why a get goes no further.
enum Ended {
    Refused(Refused),
    /// The own replica cannot say what it holds: another one may coordinate.
    OwnUnsure(Refused),
}

impl From<Refused> for Ended {
    fn from(why: Refused) -> Ended {
        Ended::Refused(why)
    }
}

/// The own replica could not store what another one has seen. A get is told what a get can be told: that the disk of
/// one node is full, say, is no answer to a read.
fn not_taken_in(why: Refused) -> Ended {
    match why.status {
        Status::NotReady | Status::Overloaded | Status::TooManySiblings => Ended::Refused(why),
        _ => {
            let message = format!(
                "this node cannot take in what another replica has seen of the key: {}",
                why.message
            );
            Ended::OwnUnsure(Refused::new(Status::Unsure, message))
        }
    }
}

fn value_not_found() -> Ended {
    let message = "no replica that can be reached can read a value of the key; ask again when more of them are up";
    Ended::Refused(Refused::new(Status::Unsure, message))
}

impl Reading {
    async fn run(self) {
        let mut get = Get::new(self.on.quorums.full);
        match self.gather(&mut get).await {
            Ok(entry) => self.answer(get, entry).await,
            Err(Ended::Refused(why)) => self.on.refuse(self.asker, &why),
            Err(Ended::OwnUnsure(why)) => self.hand_on(why),
        }
    }

    /// Lets another replica run it, if one can be reached and none has forwarded it here.
    fn hand_on(self, why: Refused) {
        let others: Replicas = self
            .on
            .others_up()
            .into_iter()
            .map(|replica| self.on.replicas[replica])
            .collect();
        match self.frame {
            Some(frame) if !others.is_empty() => {
                self.on.close();
                mark!(HandedOn);
                let shared = &self.on.shared;
                forward::go_on(&mut shared.borrow_mut(), shared, self.asker, frame, others);
            }
            _ => self.on.refuse(self.asker, &why),
        }
    }

    /// What the own replica holds once it has all that R replicas have answered, and those behind have it too if they
    /// must.
    async fn gather(&self, get: &mut Get) -> Result<Option<Rc<Entry>>, Ended> {
        let mut own = self.ask_enough(get).await?;
        let ahead = get.ahead_of(&vector(&own));
        if !ahead.is_empty() && !planted!(GetNotJoined) {
            mark!(ReadMetNews);
            self.catch_up(&ahead).await?;
            self.on.ask_own();
            own = self.own_again().await?;
            if !get.ahead_of(&vector(&own)).is_empty() {
                return Err(self.on.not_reached().into());
            }
        }
        let behind = self.behind(get, &own);
        if self.strict && !behind.is_empty() && !planted!(StrictNotWrittenBack) {
            mark!(ReadWroteBack);
            self.on.bring_up_to_date(&behind).await?;
        }
        Ok(own)
    }

    fn behind(&self, get: &Get, own: &Option<Rc<Entry>>) -> Vec<usize> {
        let mut behind = get.behind(&vector(own));
        behind.retain(|&replica| replica != self.on.own);
        behind
    }

    /// Until R replicas have answered, the own one among them.
    async fn ask_enough(&self, get: &mut Get) -> Result<Option<Rc<Entry>>, Ended> {
        let on = &self.on;
        on.ask_own();
        let mut spared = on.others_up();
        spared.reverse();
        let mut own = None;
        let mut open = 1;
        let ask_one = |spared: &mut Vec<usize>| {
            while let Some(replica) = spared.pop() {
                if on.ask_read(replica, false) {
                    return 1;
                }
            }
            0
        };
        for _ in 1..on.quorums.full.read {
            open += ask_one(&mut spared);
        }
        loop {
            if get.outcome() == Outcome::Won && own.is_some() {
                return Ok(own.flatten());
            }
            if open == 0 {
                return Err(self.too_few_answers(get).into());
            }
            let Some(answer) = on.next().await else {
                return Err(self.too_few_answers(get).into());
            };
            match answer {
                Answer::OwnFound(Ok(entry)) => {
                    open -= 1;
                    get.on_answer(on.own, vector(&entry));
                    own = Some(entry);
                }
                Answer::OwnFound(Err(why)) => return Err(Ended::OwnUnsure(why)),
                Answer::Found { replica, object } => {
                    open -= 1;
                    let nothing = VersionVector::default;
                    let vector = object.map_or_else(nothing, |object| object.vector);
                    get.on_answer(replica, vector);
                }
                Answer::Refused { .. } => {
                    open -= 1;
                    get.on_refusal();
                    open += ask_one(&mut spared);
                }
                Answer::Hedge => {
                    while !spared.is_empty() {
                        mark!(Hedged);
                        open += ask_one(&mut spared);
                    }
                }
                Answer::Crowded => {}
                // Only reads were asked for: a node that answers something else has not answered.
                _ => {
                    open -= 1;
                    get.on_refusal();
                }
            }
        }
    }

    fn too_few_answers(&self, get: &Get) -> Refused {
        let missing = self.on.shared.borrow().unreachable(&self.on.replicas);
        let message = missed(get.receipt(), &missing, "nothing was changed; ask again");
        Refused::new(Status::QuorumUnavailable, message)
    }

    /// Takes what these replicas have and the own one lacks. Others may still owe answers: those say nothing new.
    async fn catch_up(&self, ahead: &[usize]) -> Result<(), Ended> {
        let on = &self.on;
        let mut fetching = ahead.to_vec();
        let mut storing = 0;
        // Those that may have a value which the one ahead cannot read.
        let mut others = on.others_up();
        others.retain(|replica| !ahead.contains(replica));
        let mut news: Vec<Object<Carried>> = Vec::new();
        for &replica in ahead {
            if !on.ask_read(replica, true) {
                return Err(on.not_reached().into());
            }
        }
        while !fetching.is_empty() || storing > 0 {
            match on.next().await {
                Some(Answer::Found { replica, object }) if fetching.contains(&replica) => {
                    fetching.retain(|&other| other != replica);
                    if ahead.contains(&replica) {
                        // It had something: a replica forgets nothing.
                        let object = object.ok_or_else(|| on.not_reached())?;
                        on.store_own((*object).clone());
                        news.push(*object);
                        storing += 1;
                        continue;
                    }
                    let object = object.unwrap_or_default();
                    for known in &mut news {
                        *known = mend::completed(known, &object);
                        on.store_own(known.clone());
                        storing += 1;
                    }
                }
                Some(Answer::OwnStored(Ok(Stored::Durable))) => storing -= 1,
                Some(Answer::OwnStored(Ok(Stored::Needs))) => {
                    mark!(CaughtUpElsewhere);
                    storing -= 1;
                    // One at a time: what it sends may be all that is needed.
                    if fetching.iter().all(|replica| ahead.contains(replica)) {
                        let next = others.pop().filter(|&other| on.ask_read(other, true));
                        fetching.push(next.ok_or_else(value_not_found)?);
                    }
                }
                Some(Answer::OwnStored(Err(why))) => return Err(not_taken_in(why)),
                Some(Answer::Refused { replica, why }) if fetching.contains(&replica) => {
                    let status = Status::QuorumUnavailable;
                    return Err(Refused::new(status, why.message).into());
                }
                Some(_) => {}
                None => return Err(on.not_reached().into()),
            }
        }
        Ok(())
    }

    async fn own_again(&self) -> Result<Option<Rc<Entry>>, Refused> {
        loop {
            match self.on.next().await {
                Some(Answer::OwnFound(found)) => return found,
                Some(_) => {}
                None => return Err(self.on.not_reached()),
            }
        }
    }

    async fn answer(self, get: Get, own: Option<Rc<Entry>>) {
        let behind = self.behind(&get, &own);
        let on = &self.on;
        let repairs = on.with(|shard| {
            let (shared, key) = (&on.shared, on.key.as_ref());
            reads::answer(shard, shared, self.asker, key, own, get.receipt());
            let repairs = !self.strict && !behind.is_empty() && shard.repairs < REPAIRS_MAX;
            shard.repairs += usize::from(repairs);
            repairs
        });
        if repairs {
            mark!(ReadRepaired);
            // What is not repaired now is met again by the next get.
            let _ = on.bring_up_to_date(&behind).await;
            on.with(|shard| shard.repairs -= 1);
        }
        on.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A get is never told of what a store met.
    #[test]
    fn a_get_that_cannot_store_is_told_what_a_get_can_be_told() {
        let statuses = [
            (Status::Full, None),
            (Status::ValueTooLarge, None),
            (Status::BadRequest, None),
            (Status::Unsure, None),
            (Status::Overloaded, Some(Status::Overloaded)),
            (Status::NotReady, Some(Status::NotReady)),
            (Status::TooManySiblings, Some(Status::TooManySiblings)),
        ];
        for (met, told) in statuses {
            match (not_taken_in(Refused::new(met, "why")), told) {
                (Ended::Refused(why), Some(told)) => assert_eq!(why.status, told),
                // Another replica may have room: it is asked to run the get.
                (Ended::OwnUnsure(why), None) => {
                    assert_eq!(why.status, Status::Unsure);
                    assert!(why.message.ends_with(": why"), "{}", why.message);
                }
                (_, told) => panic!("{met:?} ends otherwise than in {told:?}"),
            }
        }
    }
}
