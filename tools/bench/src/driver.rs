//! One thread: an epoll loop over its connections, a closed loop of requests on each.

use crate::environment::thread_cpu_time;
use crate::plan::Plan;
use crate::route::Route;
use crate::session::{Answer, Session};
use crate::stats::{Kind, Stats};
use crate::workload::{Choice, Draws, key};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const READ_BYTES: usize = 256 * 1024;
/// Time between attempts to reach a node that does not take connections.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
const TURN_MAX: Duration = Duration::from_millis(20);

/// What one thread does.
#[derive(Clone, Debug)]
pub struct Job {
    pub route: Route,
    pub connections: usize,
    pub depth: usize,
    /// How long new requests are sent; `None`: until the plan has none.
    pub duration: Option<Duration>,
    pub timeout: Duration,
    pub cpu: Option<usize>,
    /// Seed of operation ids: unlike any other thread's, of any run.
    pub operations: u64,
}

struct Flying {
    request: Choice,
    sent: Instant,
}

struct Connection<S> {
    stream: TcpStream,
    session: S,
    connected: bool,
    out: Vec<u8>,
    written: usize,
    flying: HashMap<u64, Flying, ahash::RandomState>,
}

enum Slot<S> {
    Open(Box<Connection<S>>),
    Closed { retry_at: Instant },
}

struct Driver<'a, S, P> {
    job: &'a Job,
    plan: &'a mut P,
    stats: Stats,
    poll: Poll,
    slots: Vec<Slot<S>>,
    operations: Draws,
    value: Vec<u8>,
    done: bool,
}

/// Runs the job to its end.
pub fn drive<S: Session, P: Plan>(job: &Job, plan: &mut P) -> Result<Stats, String> {
    if let Some(id) = job.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(format!(
            "cannot pin a thread to CPU {id}: not one of this process"
        ));
    }
    let now = Instant::now();
    let retry_at = now;
    let mut driver: Driver<'_, S, P> = Driver {
        job,
        plan,
        stats: Stats::new(),
        poll: Poll::new().map_err(|error| format!("cannot make an epoll instance: {error}"))?,
        slots: (0..job.connections)
            .map(|_| Slot::Closed { retry_at })
            .collect(),
        operations: Draws::new(job.operations),
        value: Vec::new(),
        done: false,
    };
    let busy = thread_cpu_time();
    driver.run(now).map_err(|error| error.to_string())?;
    driver
        .stats
        .busy
        .push(thread_cpu_time().saturating_sub(busy));
    Ok(driver.stats)
}

impl<S: Session, P: Plan> Driver<'_, S, P> {
    fn run(&mut self, start: Instant) -> io::Result<()> {
        let end = self.job.duration.map(|duration| start + duration);
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let mut reached = start;
        loop {
            let now = Instant::now();
            let open = |slot: &Slot<S>| matches!(slot, Slot::Open(open) if open.connected);
            if self.slots.iter().any(open) {
                reached = now;
            } else if end.is_none() && now.duration_since(reached) > self.job.timeout {
                let why = format!("{} takes no connection", self.job.route.server(0));
                return Err(io::Error::new(ErrorKind::NotConnected, why));
            }
            self.done |= end.is_some_and(|end| now >= end);
            for index in 0..self.slots.len() {
                self.serve(index, now)?;
            }
            self.plan.turn()?;
            if self.done && self.in_flight() == 0 {
                return Ok(());
            }
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                self.on_event(event.token().0, &mut buffer);
            }
        }
    }

    fn in_flight(&self) -> usize {
        let flying = self.slots.iter().map(|slot| match slot {
            Slot::Open(connection) => connection.flying.len(),
            Slot::Closed { .. } => 0,
        });
        flying.sum()
    }

    /// Opens a slot again, ends what waited too long, fills the pipeline, writes.
    fn serve(&mut self, index: usize, now: Instant) -> io::Result<()> {
        match &mut self.slots[index] {
            Slot::Closed { retry_at } if now >= *retry_at && !self.done => self.open(index, now),
            Slot::Closed { .. } => Ok(()),
            Slot::Open(connection) => {
                let deadline = now.checked_sub(self.job.timeout);
                let oldest = connection.flying.values().map(|flying| flying.sent).min();
                if oldest.is_some() && oldest < deadline {
                    self.close(index, "no answer in time");
                } else if connection.connected {
                    self.fill(index, now);
                    self.flush(index);
                }
                Ok(())
            }
        }
    }

    fn open(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let Ok(mut stream) = TcpStream::connect(self.job.route.server(index)) else {
            self.slots[index] = Slot::Closed {
                retry_at: now + RECONNECT_AFTER,
            };
            return Ok(());
        };
        // A refusal here would only cost latency.
        let _ = stream.set_nodelay(true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), interest)?;
        let mut out = Vec::new();
        self.slots[index] = Slot::Open(Box::new(Connection {
            stream,
            session: S::new(&mut out),
            connected: false,
            out,
            written: 0,
            flying: HashMap::default(),
        }));
        Ok(())
    }

    fn fill(&mut self, index: usize, now: Instant) {
        let Slot::Open(connection) = &mut self.slots[index] else {
            return;
        };
        while !self.done && connection.flying.len() < self.job.depth {
            let route = &self.job.route;
            let request = self.plan.choose(&|number| route.wants(index, number));
            let id = match request {
                Choice::Get { number, .. } => {
                    connection.session.get(&key(number), &mut connection.out)
                }
                Choice::Put { number, sequence } => {
                    self.plan.value(number, sequence, &mut self.value);
                    let draws = [self.operations.next(), self.operations.next()];
                    let operation = u128::from(draws[0]) << 64 | u128::from(draws[1]);
                    let (key, out) = (key(number), &mut connection.out);
                    connection.session.put(&key, &self.value, operation, out)
                }
                Choice::Wait => return,
                Choice::Done => {
                    self.done = true;
                    return;
                }
            };
            let before = connection.flying.insert(id, Flying { request, sent: now });
            assert!(before.is_none(), "ids of requests in flight differ");
        }
    }

    fn flush(&mut self, index: usize) {
        let Slot::Open(connection) = &mut self.slots[index] else {
            return;
        };
        while connection.written < connection.out.len() {
            match connection
                .stream
                .write(&connection.out[connection.written..])
            {
                Ok(count) => connection.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(index, "connection lost"),
            }
        }
        connection.out.clear();
        connection.written = 0;
    }

    fn on_event(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let Slot::Open(connection) = &mut self.slots[index] else {
                return;
            };
            if !connection.connected {
                let failed = !matches!(connection.stream.take_error(), Ok(None));
                match connection.stream.peer_addr() {
                    Ok(_) if !failed => connection.connected = true,
                    Err(error) if !failed && error.kind() == ErrorKind::NotConnected => return,
                    Ok(_) | Err(_) => return self.close(index, "not connected"),
                }
            }
            match connection.stream.read(buffer) {
                Ok(0) => return self.close(index, "connection lost"),
                Ok(count) => self.on_bytes(index, &buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(index, "connection lost"),
            }
        }
    }

    fn on_bytes(&mut self, index: usize, bytes: &[u8]) {
        let Slot::Open(connection) = &mut self.slots[index] else {
            return;
        };
        let now = Instant::now();
        let (plan, stats, flying) = (&mut *self.plan, &mut self.stats, &mut connection.flying);
        let result = connection.session.receive(bytes, &mut |id, answer| {
            // A reply to nothing in flight is of a request that this client gave up.
            let Some(Flying { request, sent }) = flying.remove(&id) else {
                return;
            };
            let kind = kind(request);
            let (name, good) = match answer {
                Answer::Values([]) if kind == Kind::Get => ("not found", true),
                Answer::Values(_) => ("ok", true),
                Answer::Refused(name) | Answer::Unknown(name) => (name, false),
            };
            stats.answered(kind, name, good, now.saturating_duration_since(sent));
            plan.ended(request, Some(answer), stats);
        });
        if result.is_err() {
            self.close(index, "reply not understood");
        }
    }

    /// Drops the connection; what flew on it ends without an answer.
    fn close(&mut self, index: usize, why: &str) {
        let retry_at = Instant::now() + RECONNECT_AFTER;
        let closed = Slot::Closed { retry_at };
        let Slot::Open(connection) = std::mem::replace(&mut self.slots[index], closed) else {
            return;
        };
        self.stats.connections_lost += u64::from(connection.connected);
        for Flying { request, .. } in connection.flying.into_values() {
            self.stats.ended(kind(request), why);
            self.plan.ended(request, None, &mut self.stats);
        }
    }
}

fn kind(request: Choice) -> Kind {
    match request {
        Choice::Get { .. } => Kind::Get,
        Choice::Put { .. } => Kind::Put,
        Choice::Wait | Choice::Done => unreachable!("only requests are sent"),
    }
}
