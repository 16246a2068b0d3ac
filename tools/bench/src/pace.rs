//! When operations should begin: the clock of an open loop, without a clock.
//!
//! The n-th operation of a thread is due at a time that does not depend on how earlier ones went. One that begins late
//! keeps its due time: its wait counts as latency, which a closed loop would hide.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds between two operations of the thread.
    period: f64,
    /// Seconds of the first, so that threads take turns.
    offset: f64,
    begun: u64,
}

impl Pace {
    /// The share of thread `thread` of `threads` in `target` operations a second.
    pub fn new(target: f64, (thread, threads): (u16, u16)) -> Pace {
        assert!(
            target > 0.0 && thread < threads,
            "a target is positive, threads count from zero"
        );
        Pace {
            period: f64::from(threads) / target,
            offset: f64::from(thread) / target,
            begun: 0,
        }
    }

    /// When the next operation is due, from the start of the run.
    pub fn next(&self) -> Duration {
        Duration::from_secs_f64(self.offset + self.begun as f64 * self.period)
    }

    pub fn begin(&mut self) {
        self.begun += 1;
    }

    /// How many were due before `elapsed` and have not begun.
    pub fn behind(&self, elapsed: Duration) -> u64 {
        let due = ((elapsed.as_secs_f64() - self.offset) / self.period).ceil();
        (due.max(0.0) as u64).saturating_sub(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns_at_the_rate_in_all() {
        let (mut a, b) = (Pace::new(1000.0, (0, 2)), Pace::new(1000.0, (1, 2)));
        assert_eq!(
            (a.next(), b.next()),
            (Duration::ZERO, Duration::from_millis(1))
        );
        a.begin();
        assert_eq!(a.next(), Duration::from_millis(2));
        assert_eq!(a.behind(Duration::from_millis(2)), 0);
        assert_eq!(a.behind(Duration::from_secs(1)), 499);
        assert_eq!(b.behind(Duration::from_secs(1)), 500);
        assert_eq!(b.behind(Duration::ZERO), 0);
    }

    #[test]
    fn it_does_not_drift() {
        let mut pace = Pace::new(3.0, (0, 1));
        for _ in 0..3_000_000 {
            pace.begin();
        }
        assert_eq!(pace.next().as_secs_f64(), 1_000_000.0);
    }
}
