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

/// A put after its mint. While members fill, it needs the votes of the full ones as if these were all, and those of
/// all: whichever ring counts afterwards, the write has its quorum there.
#[derive(Clone, Copy, Debug)]
pub struct Put {
    full: Tally,
    all: Tally,
}

impl Put {
    /// The key's replicas are all full.
    pub fn minted(quorum: Quorum) -> Put {
        Put::minted_jointly(quorum, quorum)
    }

    pub fn minted_jointly(full: Quorum, all: Quorum) -> Put {
        Put {
            full: Tally::new(full.write, full.replicas),
            all: Tally::new(all.write, all.replicas),
        }
    }

    /// A replica has the record on its medium.
    pub fn on_vote(&mut self, is_full: bool) -> Option<Verdict> {
        self.all.on_vote();
        if is_full || planted!(FillingVotes) {
            self.full.on_vote();
        }
        self.verdict()
    }

    /// A replica will not say: its log failed while the record was under way.
    pub fn on_unsure(&mut self, is_full: bool) -> Option<Verdict> {
        self.all.on_refusal();
        if is_full {
            self.full.on_refusal();
        }
        self.verdict()
    }

    pub fn on_deadline(&self) -> Verdict {
        Verdict {
            status: match planted!(TimeoutSaysNo) {
                true => Status::QuorumUnavailable,
                false => Status::Timeout,
            },
            receipt: Some(self.all.receipt()),
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        let status = match (self.full.outcome(), self.all.outcome()) {
            (Outcome::Lost, _) | (_, Outcome::Lost) => Status::OutcomeUnknown,
            (Outcome::Won, Outcome::Won) => Status::Ok,
            (Outcome::Pending, _) | (_, Outcome::Pending) => return None,
        };
        let receipt = Some(self.all.receipt());
        Some(Verdict { status, receipt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_ok_at_w_votes_and_unknown_when_they_cannot_come() {
        let quorum = Quorum::of(3, 3, 0, 2).unwrap();
        let mut put = Put::minted(quorum);
        assert_eq!(put.on_vote(true), None);
        assert_eq!(put.on_vote(true).unwrap().status, Status::Ok);

        let mut put = Put::minted(quorum);
        assert_eq!(put.on_unsure(true), None);
        assert_eq!(put.on_unsure(true).unwrap().status, Status::OutcomeUnknown);
    }

    #[test]
    fn while_members_fill_both_rings_must_have_their_votes() {
        let full = Quorum::of(2, 2, 0, 2).unwrap();
        let all = Quorum::of(3, 3, 0, 2).unwrap();
        let mut put = Put::minted_jointly(full, all);
        assert_eq!(put.on_vote(true), None);
        assert_eq!(put.on_vote(false), None, "one of the full ones is missing");
        assert_eq!(put.on_vote(true).unwrap().status, Status::Ok);

        let mut put = Put::minted_jointly(
            Quorum::of(1, 1, 0, 1).unwrap(),
            Quorum::of(2, 2, 0, 2).unwrap(),
        );
        assert_eq!(put.on_vote(true), None);
        assert_eq!(put.on_unsure(false).unwrap().status, Status::OutcomeUnknown);
    }

    #[test]
    fn a_deadline_after_the_mint_never_says_no() {
        let put = Put::minted(Quorum::of(3, 1, 0, 0).unwrap());
        assert_eq!(put.on_deadline().status, Status::Timeout);
    }
}
