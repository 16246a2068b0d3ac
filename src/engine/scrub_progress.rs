//! How far scrub is.

use crate::base::units::UnixMillis;

/// Counts are of this life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// A pass is under way.
    pub running: bool,
    /// Somebody has asked for a pass that is not done.
    pub asked: bool,
    /// It has not even begun: what is under way ends for it.
    pub(super) again: bool,
    /// Of the pass that is under way, or else of the last one: bytes looked at, and to be looked at in all.
    pub bytes_done: u64,
    pub bytes: u64,
    /// Bad places met in it.
    pub bad: u64,
    /// Of all passes.
    pub bytes_read: u64,
    /// Passes that came to their end, when the last one did, and the bad places that it met.
    pub passes: u64,
    pub completed: UnixMillis,
    pub bad_at_last: u64,
}

impl Scrub {
    pub(super) fn ask(&mut self) {
        self.asked = true;
        self.again = true;
    }

    pub(super) fn begin(&mut self, asked: bool) {
        self.running = true;
        self.again = self.again && !asked;
        (self.bytes_done, self.bad) = (0, 0);
    }

    pub(super) fn on_read(&mut self, bytes: u64) {
        self.bytes_done += bytes;
        self.bytes_read += bytes;
    }

    pub(super) fn complete(&mut self, now: UnixMillis) {
        self.running = false;
        // Asked for while this one came to its end, it is still to come.
        self.asked = self.again;
        self.passes += 1;
        self.completed = now;
        self.bad_at_last = self.bad;
        // What was given back meanwhile is as good as looked at.
        self.bytes_done = self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_during_a_pass_is_a_pass_of_its_own() {
        let mut scrub = Scrub::default();
        scrub.begin(false);
        scrub.ask();
        scrub.complete(UnixMillis(1));
        assert!(scrub.asked && !scrub.running);
        scrub.begin(true);
        scrub.bytes = 10;
        scrub.bad += 2;
        scrub.on_read(4);
        scrub.complete(UnixMillis(2));
        assert!(!scrub.asked);
        assert_eq!((scrub.bytes_done, scrub.bytes_read), (10, 4));
        assert_eq!((scrub.passes, scrub.bad_at_last), (2, 2));
    }
}
