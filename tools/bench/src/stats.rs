//! What was measured: a recorder a thread, which hands over what it has once a second, and the sum of all.

use crate::plan::Times;
use crate::ycsb::mix::Kind;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Latencies are kept in nanoseconds, to three digits, up to a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

pub fn histogram() -> Histogram<u64> {
    // These bounds are constants, and valid.
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("constant bounds")
}

/// What one kind of operation did.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From when it was sent; of those that ended well, as the next.
    pub sent: Option<Histogram<u64>>,
    /// From when it should have been.
    pub intended: Option<Histogram<u64>>,
    /// Of those that did not end well.
    pub failed: Option<Histogram<u64>>,
    /// How they failed: how often.
    pub failures: BTreeMap<String, u64>,
}

impl Measured {
    pub fn count(&self) -> u64 {
        self.sent.as_ref().map_or(0, Histogram::len)
    }

    pub fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn add(&mut self, other: &Measured) {
        for (mine, others) in [
            (&mut self.sent, &other.sent),
            (&mut self.intended, &other.intended),
            (&mut self.failed, &other.failed),
        ] {
            if let Some(others) = others {
                let mine = mine.get_or_insert_with(histogram);
                // Same bounds: nothing is out of range.
                mine.add(others).expect("histograms of the same bounds");
            }
        }
        for (why, count) in &other.failures {
            *self.failures.entry(why.clone()).or_default() += count;
        }
    }
}

/// Of one second, or of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub kinds: BTreeMap<Kind, Measured>,
    /// Operations that ended well; a read-modify-write is one.
    pub operations: u64,
}

impl Interval {
    pub fn add(&mut self, other: &Interval) {
        for (kind, measured) in &other.kinds {
            self.kinds.entry(*kind).or_default().add(measured);
        }
        self.operations += other.operations;
    }

    pub fn failures(&self) -> u64 {
        self.kinds.values().map(Measured::failure_count).sum()
    }
}

/// The interval of one thread that ended in this second of the run.
#[derive(Clone, Debug)]
pub struct Second {
    pub thread: u16,
    pub second: u64,
    pub interval: Interval,
}

/// Of one thread.
pub struct Recorder {
    thread: u16,
    /// Operations that should have begun before it are of the warm-up: they do not count.
    from: Instant,
    /// Whether operations have times at which they should begin.
    open_loop: bool,
    second: u64,
    current: Interval,
    to: Option<Sender<Second>>,
    /// Values read that no put of this key made.
    pub foreign_values: u64,
    /// Gets that showed less than what was acknowledged before they were sent.
    pub stale_gets: u64,
    pub connections_lost: u64,
}

impl Recorder {
    pub fn new(
        thread: u16,
        from: Instant,
        open_loop: bool,
        to: Option<Sender<Second>>,
    ) -> Recorder {
        Recorder {
            thread,
            from,
            open_loop,
            second: 0,
            current: Interval::default(),
            to,
            foreign_values: 0,
            stale_gets: 0,
            connections_lost: 0,
        }
    }

    /// A request, or an operation of several, that ended; `since` is when it was sent.
    pub fn request(&mut self, kind: Kind, result: Result<(), &str>, since: Instant, times: &Times) {
        if times.intended < self.from {
            return;
        }
        let measured = self.current.kinds.entry(kind).or_default();
        let record = |histogram: &mut Option<Histogram<u64>>, since: Instant| {
            let latency = times.now.saturating_duration_since(since).as_nanos();
            let latency = latency.min(u128::from(LATENCY_MAX_NS)) as u64;
            histogram
                .get_or_insert_with(self::histogram)
                .saturating_record(latency);
        };
        let Err(why) = result else {
            record(&mut measured.sent, since);
            if self.open_loop {
                record(&mut measured.intended, times.intended);
            }
            return;
        };
        record(&mut measured.failed, since);
        match measured.failures.get_mut(why) {
            Some(count) => *count += 1,
            None => drop(measured.failures.insert(why.to_string(), 1)),
        }
    }

    /// An operation that ended well.
    pub fn operation(&mut self, times: &Times) {
        self.current.operations += u64::from(times.intended >= self.from);
    }

    /// Hands over what was measured in seconds that are over.
    pub fn roll(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.from).as_secs();
        if second > self.second {
            self.hand_over();
            self.second = second;
        }
    }

    pub fn hand_over(&mut self) {
        let interval = std::mem::take(&mut self.current);
        if let Some(to) = &self.to {
            let (thread, second) = (self.thread, self.second);
            // Nobody listens any more: then nobody wants it.
            let _ = to.send(Second {
                thread,
                second,
                interval,
            });
        }
    }
}

/// What a thread has at its end, beside its intervals.
#[derive(Clone, Debug)]
pub struct Ended {
    pub foreign_values: u64,
    pub stale_gets: u64,
    pub connections_lost: u64,
    /// Operations of an open loop that were due and never began.
    pub not_begun: u64,
    /// When the thread was done.
    pub at: Instant,
    /// How long it measured, and was on a CPU meanwhile.
    pub measured: Duration,
    pub busy: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn seconds_are_handed_over_and_the_warm_up_is_not_counted() {
        let (to, handed) = channel();
        let from = Instant::now() + Duration::from_secs(100);
        let mut recorder = Recorder::new(3, from, true, Some(to));
        let at = |ms: u64| from + Duration::from_millis(ms);
        for (intended, sent, now) in [(10, 20, 30), (900, 1000, 1100), (1200, 1250, 1300)] {
            recorder.roll(at(now));
            let times = Times {
                intended: at(intended),
                began: at(sent),
                sent: at(sent),
                now: at(now),
            };
            recorder.request(Kind::Read, Ok(()), times.sent, &times);
            recorder.request(Kind::Update, Err("Full"), times.sent, &times);
            recorder.operation(&times);
        }
        let before = from - Duration::from_millis(1);
        let times = Times {
            intended: before,
            began: before,
            sent: before,
            now: at(1400),
        };
        recorder.request(Kind::Read, Ok(()), times.sent, &times);
        recorder.hand_over();
        let handed: Vec<Second> = handed.try_iter().collect();
        let counts = handed
            .iter()
            .map(|each| (each.second, each.interval.operations));
        assert_eq!(counts.collect::<Vec<_>>(), [(0, 1), (1, 2)]);
        let mut all = Interval::default();
        for each in &handed {
            all.add(&each.interval);
        }
        let read = &all.kinds[&Kind::Read];
        assert_eq!((read.count(), all.failures()), (3, 3));
        let max_ms =
            |histogram: &Option<Histogram<u64>>| histogram.as_ref().map(|h| h.max() / 1_000_000);
        assert_eq!(
            (max_ms(&read.sent), max_ms(&read.intended)),
            (Some(100), Some(200))
        );
        assert_eq!(all.kinds[&Kind::Update].failures["Full"], 3);
    }
}
