//! Mail between the shards of one process: asks that cross, and their answers.
//!
//! For each ordered pair of shards there is one bounded queue, and for each shard one doorbell. An ask takes a credit
//! of its pair, which its answer gives back. A queue holds as many asks as its pair has credits and as many answers
//! as the other direction has: so whoever may ask can be answered, no push ever meets a full queue, and two shards
//! that flood each other cannot wait for each other. Who has no credit left is told so, and asks for less.
//!
//! Bytes are copied once, into a box that crosses. What arrives shows among `Net::events`, each pair in the order in
//! which it was sent. The doorbell is a hint: an awake shard looks into its queues at every turn, and before it sleeps.

use crate::base::planted::planted;
use crate::base::units::Nanos;

/// Who asked, and the name under which the answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) shard: u16,
    pub(super) tag: u64,
}

impl Ticket {
    /// The shard that asked.
    pub fn shard(self) -> u16 {
        self.shard
    }
}

/// Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskRefused {
    /// As many asks as may be wait for that shard.
    NoCredit,
    /// That shard has ended.
    Ended,
}

/// What lies in a queue.
#[derive(Debug)]
pub(super) enum Letter {
    Ask {
        tag: u64,
        deadline: Nanos,
        bytes: Box<[u8]>,
    },
    Answer {
        tag: u64,
        bytes: Box<[u8]>,
    },
}

/// The place of one shard before it runs: handed to its thread, and given to `Runtime::mailbox` there. Dropped without
/// that, its shard has ended for the others.
pub enum Post {
    Glommio(super::glommio::Post),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Post),
}

impl From<super::glommio::Post> for Post {
    fn from(post: super::glommio::Post) -> Post {
        Post::Glommio(post)
    }
}

#[cfg(feature = "sim")]
impl From<super::simulated::Post> for Post {
    fn from(post: super::simulated::Post) -> Post {
        Post::Simulated(post)
    }
}

/// Places for `shards` real executors that can write to each other; `credits` of asks for each ordered pair.
pub fn posts(shards: u16, credits: u32) -> Vec<Post> {
    super::glommio::posts(shards, credits)
        .into_iter()
        .map(Post::from)
        .collect()
}

/// The mailbox of one shard; clones are the same one. None of the verbs blocks.
#[derive(Clone)]
pub enum Mailbox {
    Glommio(super::glommio::Mailbox),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Mailbox),
}

impl Mailbox {
    /// This shard's own number, counted from 0.
    pub fn shard(&self) -> u16 {
        match self {
            Mailbox::Glommio(x) => x.shard(),
            #[cfg(feature = "sim")]
            Mailbox::Simulated(x) => x.shard(),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        match self {
            Mailbox::Glommio(x) => x.shards(),
            #[cfg(feature = "sim")]
            Mailbox::Simulated(x) => x.shards(),
        }
    }

    /// Asks another shard. Answered by one `Answered` with this tag, or by `ShardEnded`. The deadline is only carried.
    pub fn ask(
        &self,
        shard: u16,
        tag: u64,
        deadline: Nanos,
        bytes: &[u8],
    ) -> Result<(), AskRefused> {
        match self {
            Mailbox::Glommio(x) => x.ask(shard, tag, deadline, bytes),
            #[cfg(feature = "sim")]
            Mailbox::Simulated(x) => x.ask(shard, tag, deadline, bytes),
        }
    }

    /// Answers an ask, once; goes nowhere if that shard has ended.
    pub fn answer(&self, ticket: Ticket, bytes: &[u8]) {
        match self {
            Mailbox::Glommio(x) => x.answer(ticket, bytes),
            #[cfg(feature = "sim")]
            Mailbox::Simulated(x) => x.answer(ticket, bytes),
        }
    }

    /// Asks of this shard that have no answer yet.
    pub fn unanswered(&self) -> u64 {
        match self {
            Mailbox::Glommio(x) => x.unanswered(),
            #[cfg(feature = "sim")]
            Mailbox::Simulated(x) => x.unanswered(),
        }
    }
}

/// What one shard may still ask each other one, and what it owes them. Both backends keep their books with it.
#[derive(Debug)]
pub(super) struct Ledger {
    credits: u32,
    accounts: Vec<Account>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    /// Asks of ours without an answer.
    asked: u32,
    /// Asks of theirs that we have not answered.
    owed: u32,
    ended: bool,
}

impl Ledger {
    pub(super) fn new(shards: u16, credits: u32) -> Ledger {
        assert!(shards >= 1 && credits >= 1);
        Ledger {
            credits,
            accounts: vec![Account::default(); usize::from(shards)],
        }
    }

    fn account(&mut self, shard: u16) -> &mut Account {
        &mut self.accounts[usize::from(shard)]
    }

    /// Takes a credit for an ask to `shard`.
    pub(super) fn ask(&mut self, shard: u16) -> Result<(), AskRefused> {
        let credits = self.credits;
        let account = self.account(shard);
        if account.ended {
            return Err(AskRefused::Ended);
        }
        if account.asked == credits {
            return Err(AskRefused::NoCredit);
        }
        account.asked += 1;
        Ok(())
    }

    /// An answer of `shard` is taken: its credit is free again.
    pub(super) fn on_answered(&mut self, shard: u16) {
        let account = self.account(shard);
        assert!(account.asked > 0, "an answer that nobody asked for");
        if !planted!(CreditLeaked) {
            account.asked -= 1;
        }
    }

    /// An ask of `shard` is taken.
    pub(super) fn on_asked(&mut self, shard: u16) {
        let credits = self.credits;
        let account = self.account(shard);
        assert!(account.owed < credits, "an ask without a credit");
        account.owed += 1;
    }

    /// Whether an answer to `shard` is to be sent: nobody takes it if that has ended.
    pub(super) fn answer(&mut self, shard: u16) -> bool {
        let account = self.account(shard);
        assert!(account.owed > 0, "an ask is answered once");
        account.owed -= 1;
        !account.ended
    }

    /// `shard` has ended and all it sent is taken. True for the first time.
    pub(super) fn on_ended(&mut self, shard: u16) -> bool {
        let account = self.account(shard);
        account.asked = 0;
        !std::mem::replace(&mut account.ended, true)
    }

    pub(super) fn has_ended(&self, shard: u16) -> bool {
        self.accounts[usize::from(shard)].ended
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.accounts.iter().map(|a| u64::from(a.asked)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_is_taken_and_comes_back() {
        let mut ledger = Ledger::new(3, 2);
        assert_eq!(
            [ledger.ask(1), ledger.ask(1), ledger.ask(1)],
            [Ok(()), Ok(()), Err(AskRefused::NoCredit)]
        );
        assert_eq!(ledger.ask(2), Ok(()), "each pair has its own");
        assert_eq!(ledger.unanswered(), 3);
        ledger.on_answered(1);
        assert_eq!(ledger.ask(1), Ok(()));
    }

    #[test]
    fn an_ended_shard_is_asked_and_answered_no_more() {
        let mut ledger = Ledger::new(2, 2);
        ledger.on_asked(1);
        ledger.on_asked(1);
        assert!(ledger.answer(1));
        assert_eq!(ledger.ask(1), Ok(()));
        assert!(ledger.on_ended(1) && !ledger.on_ended(1));
        assert!(!ledger.answer(1));
        assert_eq!(ledger.ask(1), Err(AskRefused::Ended));
        assert_eq!(ledger.unanswered(), 0);
    }

    #[test]
    #[should_panic(expected = "answered once")]
    fn a_second_answer_is_a_bug_of_the_caller() {
        let mut ledger = Ledger::new(2, 2);
        ledger.on_asked(0);
        ledger.answer(0);
        ledger.answer(0);
    }
}
