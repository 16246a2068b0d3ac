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

/// The siblings that a client is shown: no tombstones, and of several that one operation made (its retries met different
/// coordinators) only the first by dot.
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
