//! One get: what the answers of R replicas show together.

use super::quorum::Quorum;
use super::tally::{Outcome, Tally};
use crate::causal::object::{Object, Sibling};
use crate::wire::message::Receipt;
use std::rc::Rc;

/// A get under way; `V` says where a replica's value is. A single answer is shared, never copied.
#[derive(Debug)]
pub struct Get<V> {
    tally: Tally,
    joined: Option<Rc<Object<V>>>,
}

/// What the replicas know together.
#[derive(Debug, PartialEq)]
pub struct Answer<V> {
    /// `None`: none of them holds anything of the key.
    pub object: Option<Rc<Object<V>>>,
    pub receipt: Receipt,
}

/// How an answer changed the get.
#[derive(Debug, PartialEq)]
pub enum Step<V> {
    Pending,
    Done(Answer<V>),
    /// Too few replicas can say what they hold.
    Lost(Receipt),
}

impl<V: Clone> Get<V> {
    pub fn new(quorum: Quorum) -> Get<V> {
        let tally = Tally::new(quorum.read, quorum.replicas);
        Get {
            tally,
            joined: None,
        }
    }

    /// A replica's durable state of the key; `None`: it holds nothing of it.
    pub fn on_answer(&mut self, object: Option<Rc<Object<V>>>) -> Step<V> {
        match (&mut self.joined, object) {
            (_, None) => {}
            (Some(joined), Some(object)) => Rc::make_mut(joined).join(&object),
            (joined @ None, object) => *joined = object,
        }
        let outcome = self.tally.on_vote();
        self.step(outcome)
    }

    /// A replica cannot say what it holds: no vote.
    pub fn on_unsure(&mut self) -> Step<V> {
        let outcome = self.tally.on_refusal();
        self.step(outcome)
    }

    fn step(&mut self, outcome: Outcome) -> Step<V> {
        let receipt = self.tally.receipt();
        match outcome {
            Outcome::Pending => Step::Pending,
            Outcome::Won => Step::Done(Answer {
                object: self.joined.take(),
                receipt,
            }),
            Outcome::Lost => Step::Lost(receipt),
        }
    }
}

/// The siblings that a client is shown: no tombstones, and of several that one operation made (its retries met
/// different coordinators) only the first by dot.
pub fn shown<V>(siblings: &[Sibling<V>]) -> impl Iterator<Item = &Sibling<V>> {
    siblings
        .iter()
        .enumerate()
        .filter_map(move |(index, sibling)| {
            let repeated = sibling.operation.0 != 0
                && siblings[..index]
                    .iter()
                    .any(|s| s.operation == sibling.operation);
            (sibling.is_shown() && !repeated).then_some(sibling)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::UnixMillis;
    use crate::causal::dot::{Actor, Dot, Incarnation};
    use crate::causal::object::{Kind, OperationId};
    use crate::causal::version_vector::VersionVector;

    fn sibling(incarnation: u64, operation: u128, kind: Kind) -> Sibling<()> {
        let actor = Actor {
            incarnation: Incarnation(incarnation),
            birth: 0,
        };
        Sibling {
            dot: Dot { actor, counter: 1 },
            operation: OperationId(operation),
            kind,
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: 0,
            value: (),
        }
    }

    fn object(siblings: Vec<Sibling<()>>) -> Rc<Object<()>> {
        let mut vector = VersionVector::default();
        siblings.iter().for_each(|s| vector.add(s.dot));
        Rc::new(Object { vector, siblings })
    }

    #[test]
    fn answers_of_r_replicas_are_joined() {
        let quorum = Quorum::of(3, 3, 2, 0).unwrap();
        let mut get = Get::new(quorum);
        let one = object(vec![sibling(1, 1, Kind::Value)]);
        let two = object(vec![sibling(2, 2, Kind::Value)]);
        assert_eq!(get.on_answer(Some(one)), Step::Pending);
        let Step::Done(answer) = get.on_answer(Some(two)) else {
            panic!("two of two have answered")
        };
        assert_eq!(answer.object.unwrap().siblings.len(), 2);
        assert_eq!(answer.receipt.votes, 2);
    }

    #[test]
    fn an_answer_of_nothing_is_a_vote_and_an_unsure_one_is_not() {
        let quorum = Quorum::of(3, 3, 2, 0).unwrap();
        let mut get = Get::<()>::new(quorum);
        assert_eq!(get.on_unsure(), Step::Pending);
        assert_eq!(get.on_answer(None), Step::Pending);
        assert!(matches!(
            get.on_answer(None),
            Step::Done(Answer { object: None, .. })
        ));
        let mut get = Get::<()>::new(quorum);
        get.on_unsure();
        assert!(matches!(get.on_unsure(), Step::Lost(_)));
    }

    #[test]
    fn tombstones_and_repeated_operations_are_not_shown() {
        let siblings = [
            sibling(1, 7, Kind::Value),
            sibling(2, 8, Kind::Tombstone),
            sibling(3, 7, Kind::Value),
            sibling(4, 0, Kind::ValueLost),
            sibling(5, 0, Kind::Value),
        ];
        let dots: Vec<u64> = shown(&siblings)
            .map(|s| s.dot.actor.incarnation.0)
            .collect();
        assert_eq!(dots, [1, 4, 5]);
    }
}
