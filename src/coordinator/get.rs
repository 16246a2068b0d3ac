//! One get: what the answers of R replicas show together.
//!
//! Replicas answer with what they have seen of the key, without values. The vectors alone tell who lacks what: a state
//! follows from its vector. Whoever coordinates holds the key too; it is brought up to date first, and answers from
//! what it holds then.

use super::quorum::Quorum;
use super::tally::{Outcome, Tally};
use crate::causal::object::Sibling;
use crate::causal::version_vector::VersionVector;
use crate::wire::message::Receipt;

/// A get under way. Replicas are named by their place in the preference list.
#[derive(Debug)]
pub struct Get {
    tally: Tally,
    answers: Vec<(usize, VersionVector)>,
}

impl Get {
    pub fn new(quorum: Quorum) -> Get {
        Get {
            tally: Tally::new(quorum.read, quorum.replicas),
            answers: Vec::new(),
        }
    }

    /// What a replica durably holds of the key; the empty vector: nothing.
    pub fn on_answer(&mut self, replica: usize, vector: VersionVector) -> Outcome {
        self.answers.push((replica, vector));
        self.tally.on_vote()
    }

    /// A replica cannot say what it holds: no vote.
    pub fn on_refusal(&mut self) -> Outcome {
        self.tally.on_refusal()
    }

    pub fn outcome(&self) -> Outcome {
        self.tally.outcome()
    }

    pub fn receipt(&self) -> Receipt {
        self.tally.receipt()
    }

    /// The replicas that have seen something which `own` has not.
    pub fn ahead_of(&self, own: &VersionVector) -> Vec<usize> {
        let ahead = |(_, vector): &&(usize, VersionVector)| !own.descends(vector);
        self.answers.iter().filter(ahead).map(|(r, _)| *r).collect()
    }

    /// The replicas that have not seen all that `own` has.
    pub fn behind(&self, own: &VersionVector) -> Vec<usize> {
        let behind = |(_, vector): &&(usize, VersionVector)| !vector.descends(own);
        self.answers
            .iter()
            .filter(behind)
            .map(|(r, _)| *r)
            .collect()
    }

    /// All that the replicas have seen together.
    pub fn seen(&self) -> VersionVector {
        let mut seen = VersionVector::default();
        self.answers
            .iter()
            .for_each(|(_, vector)| seen.join(vector));
        seen
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

    fn dot(incarnation: u64, counter: u64) -> Dot {
        let actor = Actor {
            incarnation: Incarnation(incarnation),
            birth: 0,
        };
        Dot { actor, counter }
    }

    fn vector(dots: &[Dot]) -> VersionVector {
        let mut vector = VersionVector::default();
        dots.iter().for_each(|&dot| vector.add(dot));
        vector
    }

    #[test]
    fn vectors_tell_who_is_ahead_and_who_is_behind() {
        let mut get = Get::new(Quorum::of(3, 3, 3, 0).unwrap());
        let own = vector(&[dot(1, 2)]);
        assert_eq!(get.on_answer(0, own.clone()), Outcome::Pending);
        assert_eq!(
            get.on_answer(1, vector(&[dot(1, 1), dot(2, 1)])),
            Outcome::Pending
        );
        assert_eq!(get.on_answer(2, VersionVector::default()), Outcome::Won);
        assert_eq!(get.ahead_of(&own), [1]);
        assert_eq!(get.behind(&own), [1, 2]);
        let all = get.seen();
        assert_eq!(all, vector(&[dot(1, 2), dot(2, 1)]));
        assert!(get.ahead_of(&all).is_empty());
        assert_eq!(get.behind(&all), [0, 1, 2]);
    }

    #[test]
    fn an_answer_of_nothing_is_a_vote_and_an_unsure_one_is_not() {
        let quorum = Quorum::of(3, 3, 2, 0).unwrap();
        let mut get = Get::new(quorum);
        assert_eq!(get.on_refusal(), Outcome::Pending);
        assert_eq!(get.on_answer(1, VersionVector::default()), Outcome::Pending);
        assert_eq!(get.on_answer(2, VersionVector::default()), Outcome::Won);
        assert_eq!(get.receipt().votes, 2);
        let mut get = Get::new(quorum);
        get.on_refusal();
        assert_eq!(get.on_refusal(), Outcome::Lost);
    }

    #[test]
    fn tombstones_and_repeated_operations_are_not_shown() {
        let sibling = |incarnation, operation, kind| Sibling {
            dot: dot(incarnation, 1),
            operation: OperationId(operation),
            kind,
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: 0,
            value: (),
        };
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
