//! The thread that writes, and the bounded queue to it.

use super::line::line;
use super::{Event, Format, Level};
use crate::base::limits::LOG_EVENTS_WAITING_MAX;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// How long the end of the process waits for its last lines: who reads them may have stopped reading.
const FINISH: Duration = Duration::from_secs(1);

/// The log of this process. None until `start`: then nobody is told anything.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    level: Level,
    queue: SyncSender<Item>,
    dropped: &'static AtomicU64,
}

enum Item {
    Event(SystemTime, Event),
    /// All that came before is written: say so.
    Flush(SyncSender<()>),
}

/// Starts the log thread of this process, which writes to standard error. A second call changes nothing.
pub fn start(level: Level, format: Format) -> io::Result<()> {
    if LOG.get().is_none() {
        let log = Log::start(level, format, io::stderr())?;
        // Who was first in a race has the log; the other's thread ends with its queue.
        let _ = LOG.set(log);
    }
    Ok(())
}

/// Whether an event of this level would be written.
pub fn is_told(level: Level) -> bool {
    LOG.get().is_some_and(|log| level <= log.level)
}

/// Hands an event to the log thread. Never waits; from any thread.
pub fn emit(event: Event) {
    if let Some(log) = LOG.get() {
        log.emit(event);
    }
}

/// Waits, not long, until what was handed over so far is written.
pub fn finish() {
    if let Some(log) = LOG.get() {
        log.finish(FINISH);
    }
}

impl Log {
    fn start(level: Level, format: Format, out: impl Write + Send + 'static) -> io::Result<Log> {
        let (queue, items) = sync_channel(LOG_EVENTS_WAITING_MAX);
        // Lives as long as the process, as the log does.
        let dropped: &'static AtomicU64 = Box::leak(Box::default());
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&items, format, dropped, out))?;
        Ok(Log {
            level,
            queue,
            dropped,
        })
    }

    fn emit(&self, event: Event) {
        if event.level > self.level {
            return;
        }
        if self
            .queue
            .try_send(Item::Event(SystemTime::now(), event))
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        let mut flush = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(flush) {
            if Instant::now() >= deadline {
                return;
            }
            flush = back;
            std::thread::sleep(Duration::from_millis(2));
        }
        // Late or never: the process ends all the same.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The life of the log thread. That nobody reads is no reason to stop a store: what cannot be written is let go.
fn write_all(items: &Receiver<Item>, format: Format, dropped: &AtomicU64, mut out: impl Write) {
    for item in items {
        match item {
            Item::Event(at, event) => {
                let _ = out.write_all(line(at, &event, format).as_bytes());
            }
            Item::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = out.write_all(line(SystemTime::now(), &gap(missing), format).as_bytes());
        }
    }
}

fn gap(missing: u64) -> Event {
    let message =
        format!("{missing} line(s) are missing here: they came faster than they could be written");
    Event::new(Level::Warn, "log_dropped", message).with("count", missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// Writes a line when it is told to, as a terminal does that somebody has stopped.
    struct Slow {
        go: Receiver<()>,
        lines: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)?;
            let line = String::from_utf8_lossy(bytes).into_owned();
            self.lines.send(line).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(level: Level, message: &str) -> Event {
        Event::new(level, "x", message)
    }

    #[test]
    fn who_emits_never_waits_and_the_gap_is_told() {
        let ((go, gone), (lines, written)) = (channel(), channel());
        let out = Slow { go: gone, lines };
        let log = Log::start(Level::Info, Format::Json, out).expect("a thread");
        // Nothing is written: were this to wait, it would wait for ever.
        let sent = LOG_EVENTS_WAITING_MAX + 100;
        for n in 0..sent {
            log.emit(event(Level::Info, &n.to_string()));
        }
        log.emit(event(Level::Debug, "nobody asked for this"));
        log.finish(Duration::from_millis(5));
        for _ in 0..sent + 1 {
            go.send(()).expect("the log thread lives");
        }
        // Tells that the rest is not to be waited for.
        drop(go);
        let (mut seen, mut missing) = (0, 0);
        for line in written {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            match line["count"].as_u64() {
                Some(count) => missing += count,
                None => seen += 1,
            }
            if seen + missing == sent as u64 {
                break;
            }
        }
        assert_eq!(seen + missing, sent as u64);
        // One may be in the writer's hand already when the queue fills.
        assert!((99..=100).contains(&missing), "{missing}");
    }

    #[test]
    fn the_end_waits_for_the_last_line() {
        let ((go, gone), (lines, written)) = (channel(), channel());
        let out = Slow { go: gone, lines };
        let log = Log::start(Level::Error, Format::Human, out).expect("a thread");
        log.emit(event(Level::Error, "last words"));
        log.emit(event(Level::Warn, "not asked for"));
        go.send(()).expect("the log thread lives");
        log.finish(Duration::from_secs(60));
        let said: Vec<String> = written.try_iter().collect();
        assert_eq!(said.len(), 1);
        assert!(said[0].ends_with("error last words\n"), "{said:?}");
    }
}
