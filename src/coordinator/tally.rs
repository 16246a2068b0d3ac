//! Counting votes until a request is won or can no longer be.

use crate::base::planted::planted;
use crate::wire::message::Receipt;

/// How a count stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pending,
    Won,
    Lost,
}

/// Votes of the replicas of one request. Each replica answers once: with a vote, or with a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    replicas: u8,
    needed: u8,
    votes: u8,
    refusals: u8,
}

impl Tally {
    /// `needed` of `replicas`, both at least 1.
    pub fn new(needed: u8, replicas: u8) -> Tally {
        assert!(needed >= 1);
        assert!(needed <= replicas);
        Tally {
            replicas,
            needed,
            votes: 0,
            refusals: 0,
        }
    }

    pub fn on_vote(&mut self) -> Outcome {
        assert!(
            self.votes + self.refusals < self.replicas,
            "a replica answered twice"
        );
        self.votes += 1;
        self.outcome()
    }

    pub fn on_refusal(&mut self) -> Outcome {
        assert!(
            self.votes + self.refusals < self.replicas,
            "a replica answered twice"
        );
        self.refusals += 1;
        self.outcome()
    }

    pub fn outcome(&self) -> Outcome {
        let one_too_few = u8::from(planted!(QuorumOffByOne));
        if self.votes + one_too_few >= self.needed {
            Outcome::Won
        } else if self.replicas - self.refusals < self.needed {
            Outcome::Lost
        } else {
            Outcome::Pending
        }
    }

    /// What the client is told of who voted. There are no fallbacks yet, so every count is strict.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            votes: self.votes,
            needed: self.needed,
            replicas: self.replicas,
            strict: true,
            hints: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dumb twin: replay every answer from the start.
    fn twin(needed: usize, replicas: usize, answers: &[bool]) -> Outcome {
        let yes = answers.iter().filter(|a| **a).count();
        let possible = yes + (replicas - answers.len());
        if yes >= needed {
            Outcome::Won
        } else if possible < needed {
            Outcome::Lost
        } else {
            Outcome::Pending
        }
    }

    #[test]
    fn every_order_of_answers_agrees_with_the_twin() {
        for replicas in 1..=5u8 {
            for needed in 1..=replicas {
                for pattern in 0..(1u32 << replicas) {
                    let mut tally = Tally::new(needed, replicas);
                    let mut answers = Vec::new();
                    for i in 0..replicas {
                        let vote = pattern & (1 << i) != 0;
                        answers.push(vote);
                        let got = if vote {
                            tally.on_vote()
                        } else {
                            tally.on_refusal()
                        };
                        assert_eq!(got, twin(needed.into(), replicas.into(), &answers));
                    }
                    assert_ne!(tally.outcome(), Outcome::Pending);
                }
            }
        }
    }
}
