//! One put or delete, from its admission to its reply.
//!
//! `failed` is only what was refused before the mint. After the mint the outcome is ok or unknown: a timeout never says
//! "no", because the record may be on a disk already.

use super::quorum::Quorum;
use super::tally::{Outcome, Tally};
use crate::base::planted::planted;
use crate::wire::message::{Receipt, Status};

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: Status,
    pub receipt: Option<Receipt>,
}

/// A put after its mint.
#[derive(Clone, Copy, Debug)]
pub struct Put {
    tally: Tally,
}

impl Put {
    pub fn minted(quorum: Quorum) -> Put {
        Put {
            tally: Tally::new(quorum.write, quorum.replicas),
        }
    }

    /// A replica has the record on its medium.
    pub fn on_vote(&mut self) -> Option<Verdict> {
        let outcome = self.tally.on_vote();
        self.verdict(outcome)
    }

    /// A replica will not say: its log failed while the record was under way.
    pub fn on_unsure(&mut self) -> Option<Verdict> {
        let outcome = self.tally.on_refusal();
        self.verdict(outcome)
    }

    pub fn on_deadline(&self) -> Verdict {
        Verdict {
            status: match planted!(TimeoutSaysNo) {
                true => Status::QuorumUnavailable,
                false => Status::Timeout,
            },
            receipt: Some(self.tally.receipt()),
        }
    }

    fn verdict(&self, outcome: Outcome) -> Option<Verdict> {
        let receipt = Some(self.tally.receipt());
        match outcome {
            Outcome::Pending => None,
            Outcome::Won => Some(Verdict {
                status: Status::Ok,
                receipt,
            }),
            Outcome::Lost => Some(Verdict {
                status: Status::OutcomeUnknown,
                receipt,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_ok_at_w_votes_and_unknown_when_they_cannot_come() {
        let quorum = Quorum::of(3, 3, 0, 2).unwrap();
        let mut put = Put::minted(quorum);
        assert_eq!(put.on_vote(), None);
        assert_eq!(put.on_vote().unwrap().status, Status::Ok);

        let mut put = Put::minted(quorum);
        assert_eq!(put.on_unsure(), None);
        assert_eq!(put.on_unsure().unwrap().status, Status::OutcomeUnknown);
    }

    #[test]
    fn a_deadline_after_the_mint_never_says_no() {
        let put = Put::minted(Quorum::of(3, 1, 0, 0).unwrap());
        assert_eq!(put.on_deadline().status, Status::Timeout);
    }
}
