//! A connection that many threads share: each sends its requests itself, one thread reads the replies of all.
//!
//! 1. Whoever submits while another thread sends leaves its bytes to that one.
//! 2. Nothing is locked while the socket is waited for; bytes that a thread has taken to send them count as sent.
//! 3. A connection that breaks tells every open request its fate, and takes no more.

use super::answer::Answer;
use super::core::{Core, Fate, RequestId};
use super::error::Cause;
use crate::wire::message::Request;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const RECEIVE_BYTES: usize = 64 * 1024;
const SEND_BYTES: usize = 256 * 1024;
/// How long a thread waits for the socket before it looks whether the connection still is one.
const SEND_LOOK: Duration = Duration::from_millis(100);
const READER_STACK_BYTES: usize = 256 * 1024;

/// Dropping it breaks the connection.
pub(super) struct Connection {
    shared: Arc<Shared>,
    in_flight_max: usize,
}

struct Shared {
    stream: TcpStream,
    state: Mutex<State>,
    /// A request has ended.
    room: Condvar,
}

#[derive(Default)]
struct State {
    core: Core,
    slots: BTreeMap<RequestId, Arc<Slot>>,
    /// A thread sends.
    sending: bool,
    /// The buffer of whoever sends.
    chunk: Vec<u8>,
    /// How often something has arrived.
    heard: u64,
    broken: Option<Cause>,
}

/// Where the outcome of one request is put.
#[derive(Default)]
struct Slot {
    outcome: Mutex<Option<Result<Answer, Lost>>>,
    done: Condvar,
}

/// A request that has no reply, and will have none.
#[derive(Debug)]
pub(super) struct Lost {
    pub fate: Fate,
    pub cause: Cause,
    /// No other one was open: what the node said of the connection, it said of this request.
    pub alone: bool,
}

/// An open request.
pub(super) struct Ticket {
    connection: Arc<Connection>,
    id: RequestId,
    slot: Arc<Slot>,
    heard: u64,
}

/// No thread panics while it holds one of these locks, or all is lost anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    pub(super) fn new(stream: TcpStream, in_flight_max: usize) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SEND_LOOK))?;
        let shared = Arc::new(Shared {
            stream,
            state: Mutex::new(State::default()),
            room: Condvar::new(),
        });
        let reader = shared.clone();
        std::thread::Builder::new()
            .name("armilla-client".to_owned())
            .stack_size(READER_STACK_BYTES)
            .spawn(move || reader.read_replies())?;
        Ok(Connection {
            shared,
            in_flight_max,
        })
    }

    pub(super) fn is_broken(&self) -> bool {
        lock(&self.shared.state).broken.is_some()
    }

    /// Sends `request`, or leaves that to a thread which sends already. An error: not one byte of it left.
    pub(super) fn submit(
        self: &Arc<Connection>,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Ticket, Cause> {
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(cause) = &state.broken {
                return Err(cause.clone());
            }
            if state.core.open() < self.in_flight_max {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Cause::NoRoom);
            }
            let waited = self.shared.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (id, slot) = (state.core.submit(request), Arc::new(Slot::default()));
        state.slots.insert(id, slot.clone());
        let heard = state.heard;
        if !std::mem::replace(&mut state.sending, true) {
            self.shared.send(state, deadline);
        }
        Ok(Ticket {
            connection: self.clone(),
            id,
            slot,
            heard,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let cause = io::Error::new(io::ErrorKind::ConnectionAborted, "the client closed it");
        self.shared.break_off(cause.into());
    }
}

impl Ticket {
    /// The reply, or the fate of the request if there is none by `deadline`.
    pub(super) fn wait(self, deadline: Instant) -> Result<Answer, Lost> {
        let mut outcome = lock(&self.slot.outcome);
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.slot.done.wait_timeout(outcome, left);
            outcome = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(outcome);
        self.give_up()
    }

    fn give_up(self) -> Result<Answer, Lost> {
        let shared = &self.connection.shared;
        let mut state = lock(&shared.state);
        let fate = state.core.fate(self.id);
        // Nothing came since it was submitted, or it still waits to be sent: this connection leads nowhere.
        if state.heard == self.heard || fate == Some(Fate::NotSent) {
            drop(state);
            shared.break_off(Cause::Timeout);
        } else {
            state.slots.remove(&self.id);
        }
        if let Some(outcome) = lock(&self.slot.outcome).take() {
            return outcome;
        }
        Err(Lost {
            fate: fate.expect("a request without an outcome is open"),
            cause: Cause::Timeout,
            alone: false,
        })
    }
}

impl Slot {
    fn fill(&self, outcome: Result<Answer, Lost>) {
        *lock(&self.outcome) = Some(outcome);
        self.done.notify_all();
    }
}

impl Shared {
    /// Sends until nothing is left to send. The caller has just become the one that sends.
    fn send<'a>(&'a self, mut state: MutexGuard<'a, State>, deadline: Instant) {
        let mut chunk = std::mem::take(&mut state.chunk);
        loop {
            if state.broken.is_none() {
                state.core.take_unsent(&mut chunk, SEND_BYTES);
            } else {
                chunk.clear();
            }
            if chunk.is_empty() {
                state.sending = false;
                state.chunk = chunk;
                return;
            }
            drop(state);
            let sent = (&self.stream).write(&chunk);
            state = lock(&self.state);
            if state.broken.is_some() {
                continue;
            }
            state.core.on_sent(*sent.as_ref().unwrap_or(&0));
            let broke = match sent {
                Ok(0) => Some(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(_) => None,
                // It takes no more, but the answer that says why may have come already: the reader ends this.
                Err(error) if is_hang_up(&error) => {
                    state.chunk = chunk;
                    return;
                }
                Err(error) if is_wait(&error) => {
                    (Instant::now() >= deadline).then_some(Cause::Timeout)
                }
                Err(error) => Some(error.into()),
            };
            if let Some(cause) = broke {
                drop(state);
                self.break_off(cause);
                state = lock(&self.state);
            }
        }
    }

    fn read_replies(&self) {
        let mut buffer = vec![0; RECEIVE_BYTES].into_boxed_slice();
        loop {
            let cause = match (&self.stream).read(&mut buffer) {
                Ok(0) => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                Ok(len) => match self.on_bytes(&buffer[..len]) {
                    Ok(()) => continue,
                    Err(cause) => cause,
                },
                Err(error) if is_wait(&error) => continue,
                Err(error) => error.into(),
            };
            return self.break_off(cause);
        }
    }

    fn on_bytes(&self, bytes: &[u8]) -> Result<(), Cause> {
        let mut state = lock(&self.state);
        if let Some(cause) = &state.broken {
            return Err(cause.clone());
        }
        state.heard += 1;
        let State { core, slots, .. } = &mut *state;
        core.on_bytes(bytes);
        let mut ended = false;
        while let Some((id, reply)) = core.next_reply()? {
            ended = true;
            // Whoever gave it up wants no reply.
            if let Some(slot) = slots.remove(&id) {
                slot.fill(Ok(Answer::from(reply)));
            }
        }
        if ended {
            self.room.notify_all();
        }
        Ok(())
    }

    fn break_off(&self, cause: Cause) {
        let mut state = lock(&self.state);
        if state.broken.is_some() {
            return;
        }
        state.broken = Some(cause.clone());
        let core = std::mem::take(&mut state.core);
        let alone = core.open() == 1;
        for (id, fate) in core.on_broken() {
            if let Some(slot) = state.slots.remove(&id) {
                let cause = cause.clone();
                slot.fill(Err(Lost { fate, cause, alone }));
            }
        }
        drop(state);
        // It may be shut down already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.room.notify_all();
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
