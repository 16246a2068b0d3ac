//! Which replicas of a key were asked, and which of them still owe an answer: each answer counts once.

use crate::base::limits::REPLICAS_MAX;

/// Sets of replicas, by their place in the preference list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    ever: u8,
    open: u8,
}

const _: () = assert!(REPLICAS_MAX as u32 <= u8::BITS);

impl Asked {
    /// The replica owes nothing, and is asked now.
    pub fn ask(&mut self, replica: usize) {
        let bit = 1 << replica;
        assert_eq!(self.open & bit, 0, "a replica is asked one thing at a time");
        self.ever |= bit;
        self.open |= bit;
    }

    /// Whether the replica owed this answer. One that comes twice, or late on a link that broke, counts for nothing.
    pub fn take(&mut self, replica: usize) -> bool {
        let bit = 1u8.checked_shl(replica as u32).unwrap_or(0);
        let owed = self.open & bit != 0;
        self.open &= !bit;
        owed
    }

    pub fn was_asked(&self, replica: usize) -> bool {
        self.ever & (1 << replica) != 0
    }

    /// Nobody owes an answer.
    pub fn is_settled(&self) -> bool {
        self.open == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once() {
        let mut asked = Asked::default();
        asked.ask(0);
        asked.ask(2);
        assert!(!asked.take(1), "nobody asked it");
        assert!(!asked.take(200), "nor what is no replica");
        assert!(asked.take(2));
        assert!(!asked.take(2), "a second time");
        assert!(!asked.is_settled());
        assert!(asked.take(0) && asked.is_settled());
        asked.ask(2);
        assert!(asked.take(2), "asked anew");
        assert!(asked.was_asked(2) && !asked.was_asked(1));
    }
}
