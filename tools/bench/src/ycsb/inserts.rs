//! The numbers of records that are inserted while a run goes on (`AcknowledgedCounterGenerator`), for all threads.
//!
//! A record is asked for once its insert, and every one before it, has ended. An insert that was refused has ended
//! too, as in YCSB: else one refusal would hide all that come after it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub struct Inserts {
    next: AtomicU64,
    /// Records below it are there.
    ended: AtomicU64,
    /// Those that ended before one with a smaller number did.
    early: Mutex<BTreeSet<u64>>,
}

impl Inserts {
    /// Records below `first` are there already.
    pub fn new(first: u64) -> Inserts {
        Inserts {
            next: AtomicU64::new(first),
            ended: AtomicU64::new(first),
            early: Mutex::default(),
        }
    }

    pub fn take(&self) -> u64 {
        self.next.fetch_add(1, SeqCst)
    }

    /// The greatest number that may be asked for; there is always one.
    pub fn last(&self) -> u64 {
        self.ended.load(SeqCst).saturating_sub(1)
    }

    pub fn end(&self, number: u64) {
        let mut early = self
            .early
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        early.insert(number);
        let mut ended = self.ended.load(SeqCst);
        while early.remove(&ended) {
            ended += 1;
        }
        self.ended.store(ended, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_shows_once_all_before_it_ended() {
        let inserts = Inserts::new(1000);
        assert_eq!(inserts.last(), 999);
        assert_eq!(
            [inserts.take(), inserts.take(), inserts.take()],
            [1000, 1001, 1002]
        );
        inserts.end(1001);
        assert_eq!(inserts.last(), 999);
        inserts.end(1000);
        assert_eq!(inserts.last(), 1001);
        inserts.end(1002);
        assert_eq!(inserts.last(), 1002);
    }
}
