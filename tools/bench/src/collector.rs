//! Puts the seconds of all threads together: the sum, the series by second, the interval log, and live progress.

use crate::results::Second as Row;
use crate::stats::{Interval, Second};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Takes the histogram of a second under its name.
pub type HdrSink<'a> = dyn FnMut(&str, u64, &Histogram<u64>) -> Result<(), String> + 'a;

/// Runs `body` with an interval log to write to, if one is wanted. Values are nanoseconds; maxima milliseconds, as in
/// the logs of other tools.
pub fn with_hdr_log<R>(
    path: Option<&Path>,
    start: SystemTime,
    body: impl FnOnce(&mut HdrSink<'_>) -> Result<R, String>,
) -> Result<R, String> {
    let Some(path) = path else {
        return body(&mut |_, _, _| Ok(()));
    };
    let cannot = |why: &dyn std::fmt::Debug| format!("cannot write {}: {why:?}", path.display());
    let mut file = BufWriter::new(File::create(path).map_err(|error| cannot(&error))?);
    let mut serializer = V2DeflateSerializer::new();
    let result = {
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("armilla-bench: latencies in nanoseconds, a histogram for each second and kind of operation")
            .with_start_time(start)
            .with_base_time(start)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut file, &mut serializer)
            .map_err(|error| cannot(&error))?;
        body(&mut |name, second, histogram| {
            let tag = Tag::new(name);
            log.write_histogram(
                histogram,
                Duration::from_secs(second),
                Duration::from_secs(1),
                tag,
            )
            .map_err(|error| cannot(&error))
        })?
    };
    file.flush().map_err(|error| cannot(&error))?;
    Ok(result)
}

/// When progress is told, and where.
pub struct Progress {
    /// `None`: not at all.
    pub every_seconds: Option<u64>,
    pub print: fn(&str),
}

pub struct Collector<'a> {
    /// The second up to which each thread has handed over.
    handed: Vec<u64>,
    open: BTreeMap<u64, Interval>,
    pub total: Interval,
    pub rows: Vec<Row>,
    hdr: &'a mut HdrSink<'a>,
    progress: Progress,
    untold: Interval,
    told_until: u64,
}

impl<'a> Collector<'a> {
    pub fn new(threads: u16, hdr: &'a mut HdrSink<'a>, progress: Progress) -> Collector<'a> {
        Collector {
            handed: vec![0; usize::from(threads)],
            open: BTreeMap::new(),
            total: Interval::default(),
            rows: Vec::new(),
            hdr,
            progress,
            untold: Interval::default(),
            told_until: 0,
        }
    }

    pub fn add(&mut self, handed: Second) -> Result<(), String> {
        self.open
            .entry(handed.second)
            .or_default()
            .add(&handed.interval);
        if let Some(second) = self.handed.get_mut(usize::from(handed.thread)) {
            *second = handed.second + 1;
        }
        // What every thread has handed over is complete.
        let complete = self.handed.iter().min().copied().unwrap_or(0);
        while let Some(first) = self
            .open
            .first_entry()
            .filter(|first| *first.key() < complete)
        {
            let (second, interval) = first.remove_entry();
            self.close(second, interval)?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub fn finish(&mut self) -> Result<(), String> {
        while let Some((second, interval)) = self.open.pop_first() {
            self.close(second, interval)?;
        }
        Ok(())
    }

    fn close(&mut self, second: u64, interval: Interval) -> Result<(), String> {
        for (kind, measured) in &interval.kinds {
            if let Some(sent) = &measured.sent {
                (self.hdr)(kind.name(), second, sent)?;
            }
            if let Some(intended) = &measured.intended {
                (self.hdr)(&format!("Intended-{}", kind.name()), second, intended)?;
            }
        }
        self.rows.push(Row::new(second, &interval));
        self.total.add(&interval);
        let Some(every) = self.progress.every_seconds else {
            return Ok(());
        };
        self.untold.add(&interval);
        if second + 1 >= self.told_until + every {
            let seconds = second + 1 - self.told_until;
            (self.progress.print)(&line(second + 1, seconds, &self.total, &self.untold));
            self.untold = Interval::default();
            self.told_until = second + 1;
        }
        Ok(())
    }
}

/// ` 12 s   123456 operations    10288/s   READ p50 95 us p99 310 us   0 errors`
fn line(at: u64, seconds: u64, total: &Interval, last: &Interval) -> String {
    let rate = last.operations as f64 / seconds as f64;
    let mut text = format!(
        "{at:>4} s {:>10} operations {rate:>9.0}/s",
        total.operations
    );
    for (kind, measured) in &last.kinds {
        if let Some(sent) = &measured.sent {
            let at = |percentile: f64| sent.value_at_percentile(percentile) as f64 / 1e3;
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "   {} p50 {:.0} us p99 {:.0} us",
                kind.name(),
                at(50.0),
                at(99.0)
            );
        }
    }
    let _ = write!(text, "   {} errors", last.failures());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Measured, histogram};
    use crate::ycsb::mix::Kind;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn second(thread: u16, second: u64, us: u64) -> Second {
        let mut sent = histogram();
        sent.saturating_record(us * 1000);
        let measured = Measured {
            sent: Some(sent),
            ..Measured::default()
        };
        let interval = Interval {
            kinds: [(Kind::Read, measured)].into(),
            operations: 1,
        };
        Second {
            thread,
            second,
            interval,
        }
    }

    #[test]
    fn a_second_is_complete_when_all_threads_are_beyond_it() {
        let mut log = Vec::new();
        let mut hdr = |name: &str, second: u64, sent: &Histogram<u64>| {
            log.push((name.to_string(), second, sent.len()));
            Ok(())
        };
        let progress = Progress {
            every_seconds: Some(1),
            print: |line| assert!(line.contains("READ p50 1")),
        };
        let mut collector = Collector::new(2, &mut hdr, progress);
        collector.add(second(0, 0, 10)).unwrap();
        collector.add(second(0, 1, 11)).unwrap();
        assert!(collector.rows.is_empty());
        collector.add(second(1, 0, 12)).unwrap();
        assert_eq!(collector.rows.len(), 1);
        collector.add(second(1, 3, 13)).unwrap();
        assert_eq!(collector.rows.len(), 2);
        collector.finish().unwrap();
        assert_eq!(collector.total.operations, 4);
        let rows: Vec<(u64, u64)> = collector
            .rows
            .iter()
            .map(|row| (row.second, row.operations))
            .collect();
        assert_eq!(rows, [(0, 2), (1, 1), (3, 1)]);
        assert_eq!(log[0], ("READ".to_string(), 0, 2));
    }

    #[test]
    fn the_interval_log_can_be_read_back() {
        let path = std::env::temp_dir().join(format!("armilla-bench-{}.hdr", std::process::id()));
        with_hdr_log(Some(&path), SystemTime::now(), |hdr| {
            let mut collector = Collector::new(
                1,
                hdr,
                Progress {
                    every_seconds: None,
                    print: |_| (),
                },
            );
            for at in 0..3 {
                collector.add(second(0, at, 100))?;
            }
            collector.finish()
        })
        .unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&text)
            .map(Result::unwrap)
            .collect();
        let histograms = entries.iter().filter_map(|entry| match entry {
            LogEntry::Interval(interval) => {
                Some((interval.tag().map(|tag| tag.as_str()), interval.max()))
            }
            _ => None,
        });
        let histograms: Vec<_> = histograms.collect();
        assert_eq!(histograms.len(), 3);
        assert_eq!(histograms[0].0, Some("READ"));
        assert!((histograms[0].1 - 0.1).abs() < 0.001, "in milliseconds");
    }
}
