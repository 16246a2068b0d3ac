//! One thread: an epoll loop over its connections, as many operations in flight on each as it may have.

mod connection;
mod flights;
mod timer;

use crate::environment::thread_cpu_time;
use crate::pace::Pace;
use crate::plan::{After, Choice, Ending, Plan, Times};
use crate::route::Route;
use crate::session::{Answer, Session};
use crate::stats::{Ended, Recorder, Second};
use connection::{Connection, Ready, Slot};
use flights::Flight;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use timer::Timer;

const READ_BYTES: usize = 256 * 1024;
/// Time between attempts to reach a node that does not take connections.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// Time between two looks for connections to make anew and for requests without an answer.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// What one thread does.
#[derive(Clone, Debug)]
pub struct Job {
    pub thread: u16,
    pub route: Route,
    pub connections: usize,
    pub depth: usize,
    /// When all threads begin.
    pub start: Instant,
    /// Of that time nothing is measured.
    pub warmup: Duration,
    /// How long new operations begin after that; `None`: until the plan has none.
    pub duration: Option<Duration>,
    /// `None`: a closed loop.
    pub pace: Option<Pace>,
    pub timeout: Duration,
    pub cpu: Option<usize>,
    pub report: Option<Sender<Second>>,
}

struct Driver<'a, S, P> {
    job: &'a Job,
    plan: &'a mut P,
    recorder: Recorder,
    pace: Option<Pace>,
    poll: Poll,
    slots: Vec<Slot<S>>,
    /// Connections that may take one more operation, in turn.
    room: VecDeque<usize>,
    /// Connections with something to send.
    dirty: Vec<usize>,
    /// Operations under way.
    open: usize,
    done: bool,
    not_begun: u64,
}

/// Runs the job to its end.
pub fn drive<S: Session, P: Plan>(job: &Job, plan: &mut P) -> Result<Ended, String> {
    if let Some(id) = job.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(format!(
            "cannot pin a thread to CPU {id}: not one of this process"
        ));
    }
    let from = job.start + job.warmup;
    let closed = || Slot::Closed {
        retry_at: job.start,
    };
    let mut driver: Driver<'_, S, P> = Driver {
        job,
        plan,
        recorder: Recorder::new(job.thread, from, job.pace.is_some(), job.report.clone()),
        pace: job.pace,
        poll: Poll::new().map_err(|error| format!("cannot make an epoll instance: {error}"))?,
        slots: (0..job.connections).map(|_| closed()).collect(),
        room: VecDeque::new(),
        dirty: Vec::new(),
        open: 0,
        done: false,
        not_begun: 0,
    };
    let (busy, busy_from) = driver.run().map_err(|error| error.to_string())?;
    driver.recorder.hand_over();
    let at = Instant::now();
    Ok(Ended {
        foreign_values: driver.recorder.foreign_values,
        stale_gets: driver.recorder.stale_gets,
        connections_lost: driver.recorder.connections_lost,
        not_begun: driver.not_begun,
        at,
        measured: at - busy_from,
        busy: thread_cpu_time().saturating_sub(busy),
    })
}

impl<S: Session, P: Plan> Driver<'_, S, P> {
    /// Returns the CPU time at the end of the warm-up, and when that was.
    fn run(&mut self) -> io::Result<(Duration, Instant)> {
        let from = self.job.start + self.job.warmup;
        let end = self.job.duration.map(|duration| from + duration);
        let timer = Timer::new(self.poll.registry(), Token(self.slots.len()))?;
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let (mut look_at, mut reached) = (self.job.start, self.job.start);
        let mut measured = (thread_cpu_time(), Instant::now());
        let mut warm = self.job.warmup.is_zero();
        loop {
            let now = Instant::now();
            if !warm && now >= from {
                (warm, measured) = (true, (thread_cpu_time(), now));
            }
            self.recorder.roll(now);
            if let Some(end) = end.filter(|end| now >= *end && !self.done) {
                self.done = true;
                let elapsed = end.saturating_duration_since(self.job.start);
                self.not_begun = self.pace.map_or(0, |pace| pace.behind(elapsed));
            }
            if now >= look_at {
                look_at = now + LOOK_AFTER;
                self.look(now, &mut reached)?;
            }
            self.begin(now, now >= from);
            self.send();
            self.plan.turn()?;
            if self.done && self.open == 0 {
                return Ok(measured);
            }
            let next = self.pace.filter(|_| !self.done && !self.room.is_empty());
            timer.set(next.map(|pace| self.job.start + pace.next()))?;
            match self.poll.poll(&mut events, Some(LOOK_AFTER)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                if event.token().0 < self.slots.len() {
                    self.on_event(event.token().0, &mut buffer);
                }
            }
        }
    }

    /// Makes connections anew, ends what waited too long.
    fn look(&mut self, now: Instant, reached: &mut Instant) -> io::Result<()> {
        let deadline = now.checked_sub(self.job.timeout);
        for index in 0..self.slots.len() {
            match &self.slots[index] {
                Slot::Closed { retry_at } if now >= *retry_at && !self.done => {
                    let server = self.job.route.server(index);
                    let bucket = &self.job.route.bucket;
                    let opened = Connection::open(server, bucket, self.poll.registry(), index)?;
                    self.slots[index] = match opened {
                        Some(connection) => Slot::Open(Box::new(connection)),
                        None => Slot::Closed {
                            retry_at: now + RECONNECT_AFTER,
                        },
                    };
                }
                Slot::Closed { .. } => {}
                Slot::Open(connection) => {
                    if connection.connected {
                        *reached = now;
                    }
                    let oldest = connection.flights.oldest();
                    if oldest.is_some() && oldest < deadline {
                        self.close(index, "no answer in time");
                    }
                }
            }
        }
        if self.job.duration.is_none() && now.duration_since(*reached) > self.job.timeout {
            let why = format!("{} takes no connection", self.job.route.server(0));
            return Err(io::Error::new(ErrorKind::NotConnected, why));
        }
        Ok(())
    }

    /// Begins as many operations as may begin, each on the next connection that has room.
    fn begin(&mut self, now: Instant, counts: bool) {
        while !self.done
            && let Some(index) = self.room.front().copied()
        {
            let Slot::Open(connection) = &mut self.slots[index] else {
                self.room.pop_front();
                continue;
            };
            let intended = match &self.pace {
                Some(pace) => self.job.start + pace.next(),
                None => now,
            };
            if intended > now {
                return;
            }
            let route = &self.job.route;
            match self
                .plan
                .choose(counts, &|number| route.wants(index, number))
            {
                Choice::Begin(task) => {
                    connection.ready.push(Ready {
                        task,
                        intended,
                        began: now,
                    });
                    connection.open += 1;
                }
                Choice::Wait => return,
                Choice::Done => {
                    self.done = true;
                    return;
                }
            }
            if let Some(pace) = &mut self.pace {
                pace.begin();
            }
            self.open += 1;
            connection.mark_dirty(index, &mut self.dirty);
            self.room.pop_front();
            if connection.open < self.job.depth {
                self.room.push_back(index);
            } else {
                connection.has_room = false;
            }
        }
    }

    /// Sends what is ready.
    fn send(&mut self) {
        let now = Instant::now();
        for at in 0..self.dirty.len() {
            let index = self.dirty[at];
            let Slot::Open(connection) = &mut self.slots[index] else {
                continue;
            };
            connection.dirty = false;
            let Connection {
                ready,
                session,
                flights,
                out,
                ..
            } = &mut **connection;
            for Ready {
                mut task,
                intended,
                began,
            } in ready.drain(..)
            {
                let began = if task.draft.is_none() { now } else { began };
                let id = session.submit(&self.plan.ask(&mut task), out);
                flights.add(
                    id,
                    Flight {
                        task,
                        intended,
                        began,
                        sent: now,
                    },
                );
            }
            if let Err(why) = connection.flush() {
                self.close(index, why);
            }
        }
        self.dirty.clear();
    }

    fn on_event(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let Slot::Open(connection) = &mut self.slots[index] else {
                return;
            };
            if !connection.connected {
                match connection.on_ready() {
                    Ok(true) => self.give_room(index),
                    Ok(false) => return,
                    Err(why) => return self.close(index, why),
                }
                continue;
            }
            if connection.written < connection.out.len() {
                connection.mark_dirty(index, &mut self.dirty);
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
        let Connection {
            session,
            flights,
            ready,
            ..
        } = &mut **connection;
        let (plan, recorder) = (&mut *self.plan, &mut self.recorder);
        let mut over = 0;
        let result = session.receive(bytes, &mut |id, answer: Answer<'_>| {
            // A reply to nothing in flight is of a request that this client gave up.
            let Some(flight) = flights.take(id) else {
                return;
            };
            match plan.ended(
                flight.task,
                Ending::Answered(answer),
                &times(&flight, now),
                recorder,
            ) {
                After::Over => over += 1,
                After::Next(task) => {
                    let Flight {
                        intended, began, ..
                    } = flight;
                    ready.push(Ready {
                        task,
                        intended,
                        began,
                    });
                }
            }
        });
        self.open -= over;
        connection.open -= over;
        if !connection.ready.is_empty() {
            connection.mark_dirty(index, &mut self.dirty);
        }
        if result.is_err() {
            return self.close(index, "reply not understood");
        }
        self.give_room(index);
    }

    fn give_room(&mut self, index: usize) {
        if let Slot::Open(connection) = &mut self.slots[index]
            && !connection.has_room
            && connection.open < self.job.depth
        {
            connection.has_room = true;
            self.room.push_back(index);
        }
    }

    /// Drops the connection; what flew on it ends without an answer.
    fn close(&mut self, index: usize, why: &'static str) {
        let now = Instant::now();
        let closed = Slot::Closed {
            retry_at: now + RECONNECT_AFTER,
        };
        let Slot::Open(connection) = std::mem::replace(&mut self.slots[index], closed) else {
            return;
        };
        self.recorder.connections_lost += u64::from(connection.connected);
        self.open -= connection.open;
        self.room.retain(|each| *each != index);
        let Connection { flights, ready, .. } = *connection;
        for flight in flights.into_all() {
            let times = times(&flight, now);
            self.plan
                .ended(flight.task, Ending::Lost(why), &times, &mut self.recorder);
        }
        for Ready {
            task,
            intended,
            began,
        } in ready
        {
            let times = Times {
                intended,
                began,
                sent: now,
                now,
            };
            self.plan
                .ended(task, Ending::NotSent(why), &times, &mut self.recorder);
        }
    }
}

fn times(flight: &Flight, now: Instant) -> Times {
    let Flight {
        intended,
        began,
        sent,
        ..
    } = *flight;
    Times {
        intended,
        began,
        sent,
        now,
    }
}
