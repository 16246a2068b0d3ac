//! A client that waits for its answers: shared by any number of threads, with many requests of each under way.
//!
//! A request is tried again only if it did not happen, or if its caller says that it may happen twice (`retry.rs`);
//! always under the operation id of its first try. Everything else is told to the caller as it is.

pub use super::answer::{Found, Hello, KeysPage, PageStart, Sibling, StatusReport, Written};
pub use super::ask::{Get, Put};
pub use super::options::{OnUnknown, Options};

use super::answer::Answer;
use super::ask::millis;
use super::connection::{Lost, Ticket};
use super::core::Fate;
use super::error::{Cause, ClientError};
use super::operation::Operations;
use super::pool::Pool;
use super::retry::{Tries, Verdict};
use crate::base::limits::{CONTEXT_BYTES_MAX, KEY_BYTES_MAX, TIMEOUT_MS_MAX, VALUE_BYTES_MAX};
use crate::causal::object::OperationId;
use crate::ring::position::Position;
use crate::wire::PROTOCOL_VERSION;
use crate::wire::message::{Advice, Op, PutMode, Request, Status};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A client of a store. Clones are the same client, and share its connections; they may be used from any thread.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    operations: Operations,
}

/// A request under way, whose answer is fetched with [`wait`](Pending::wait). One that is dropped goes on, and nobody
/// learns what became of it.
#[must_use = "nobody knows what became of a request that is not waited for"]
pub struct Pending<T> {
    client: Client,
    request: Owned,
    tries: Tries,
    timeout: Duration,
    first: Result<Ticket, ClientError>,
    take: fn(Answer) -> T,
}

/// A request that outlives the call which made it.
pub(super) struct Owned {
    op: Op,
    key: Vec<u8>,
    value: Vec<u8>,
    context: Vec<u8>,
    mode: PutMode,
    operation: OperationId,
    position: u64,
    read_quorum: u8,
    write_quorum: u8,
    strict: bool,
    timeout_ms: u32,
}

impl Owned {
    fn of(request: &Request<'_>) -> Owned {
        Owned {
            op: request.op,
            key: request.key.to_vec(),
            value: request.value.to_vec(),
            context: request.context.to_vec(),
            mode: request.mode,
            operation: request.operation,
            position: request.position,
            read_quorum: request.read_quorum,
            write_quorum: request.write_quorum,
            strict: request.strict,
            timeout_ms: request.timeout_ms,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            op: self.op,
            key: &self.key,
            value: &self.value,
            context: &self.context,
            mode: self.mode,
            operation: self.operation,
            position: self.position,
            read_quorum: self.read_quorum,
            write_quorum: self.write_quorum,
            strict: self.strict,
            timeout_ms: self.timeout_ms,
            ..Request::default()
        }
    }
}

impl Client {
    /// Connects to the node at `address` (host:port), or to the first of several that can be reached
    /// (`"a:7700,b:7700,c:7700"`), with the default [`Options`].
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        Client::connect_with(address, Options::default())
    }

    /// Connects to the node at `address` (host:port). This is tried once: a client is made of a node that is there.
    /// What is asked of it later may also wait for it to come back.
    ///
    /// Several addresses with commas between them are nodes of one ring, any of which serves any key. The client
    /// talks to the first that it reaches. It goes on to the next, in a circle, when that connection breaks or when the
    /// node says that it takes no requests now. What that means for a request which was under way is as with one node:
    /// a write that was sent and not answered is not repeated elsewhere unless [`Options::on_unknown`] says so.
    pub fn connect_with(address: &str, options: Options) -> Result<Client, ClientError> {
        let operations = Operations::open().map_err(no_randomness)?;
        let pool = Pool::connect(address, options)?;
        Ok(Client {
            inner: Arc::new(Inner { pool, operations }),
        })
    }

    /// The values of `key`, and the context of this read.
    pub fn get(&self, key: &[u8]) -> Result<Found, ClientError> {
        self.get_with(key, &Get::default())
    }

    /// As [`get`](Client::get), read as `how` says.
    pub fn get_with(&self, key: &[u8], how: &Get) -> Result<Found, ClientError> {
        Ok(self.run(&get(key, how), how.ask.timeout)?.found)
    }

    /// Stores `value` under `key`: when this returns it is durable.
    pub fn put(&self, key: &[u8], value: &[u8], how: &Put) -> Result<Written, ClientError> {
        let request = write(Op::Put, key, value, how, self.draw()?);
        Ok(self.run(&request, how.ask.timeout)?.written())
    }

    /// Deletes the values of `key`. Deleting what is not there is done, not an error.
    pub fn delete(&self, key: &[u8], how: &Put) -> Result<Written, ClientError> {
        let request = write(Op::Delete, key, &[], how, self.draw()?);
        Ok(self.run(&request, how.ask.timeout)?.written())
    }

    /// As [`get`](Client::get), without waiting for the answer. Requests that are under way at the same time may be
    /// carried out in any order. Only when as many are open as [`Options::in_flight_max`] says does this wait for one
    /// of them.
    pub fn begin_get(&self, key: &[u8]) -> Pending<Found> {
        self.begin_get_with(key, &Get::default())
    }

    /// As [`begin_get`](Client::begin_get), read as `how` says.
    pub fn begin_get_with(&self, key: &[u8], how: &Get) -> Pending<Found> {
        self.begin(&get(key, how), how.ask.timeout, |answer| answer.found)
    }

    /// As [`put`](Client::put), without waiting for the answer; see [`begin_get`](Client::begin_get).
    pub fn begin_put(&self, key: &[u8], value: &[u8], how: &Put) -> Pending<Written> {
        self.begin_write(Op::Put, key, value, how)
    }

    /// As [`delete`](Client::delete), without waiting for the answer; see [`begin_get`](Client::begin_get).
    pub fn begin_delete(&self, key: &[u8], how: &Put) -> Pending<Written> {
        self.begin_write(Op::Delete, key, &[], how)
    }

    /// A page of the keys of the store, in the order of their places on the ring; begin with `PageStart::default()`. A
    /// key that is there all the while is listed once; one that comes or goes meanwhile may be listed or not.
    pub fn begin_keys(&self, from: &PageStart) -> Pending<KeysPage> {
        let request = Request {
            op: Op::Keys,
            key: &from.key,
            position: from.position,
            // A node takes its time for it.
            timeout_ms: millis(self.inner.pool.options().request_timeout),
            ..Request::default()
        };
        self.begin(&request, None, |answer| answer.page)
    }

    /// All keys of the store, a page at a time; see [`begin_keys`](Client::begin_keys). Ends with the first error.
    pub fn keys(&self) -> impl Iterator<Item = Result<Vec<u8>, ClientError>> {
        let client = self.clone();
        let mut next = Some(PageStart::default());
        let pages = std::iter::from_fn(move || {
            let page = client.begin_keys(&next.take()?).wait();
            Some(page.map(|page| {
                next = page.next;
                page.keys
            }))
        });
        pages.flat_map(|page| match page {
            Ok(keys) => keys.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// Who the node is, and what it takes.
    pub fn hello(&self) -> Result<Hello, ClientError> {
        let request = Request {
            op: Op::Hello,
            protocol: PROTOCOL_VERSION,
            ..Request::default()
        };
        let status = Status::Unsupported;
        let message = "the node answered a hello without one".to_string();
        let hello = self.run(&request, None)?.hello;
        hello.ok_or(ClientError::Refused { status, message })
    }

    /// How the node is. That it does not serve is an answer, not an error.
    pub fn status(&self) -> Result<StatusReport, ClientError> {
        self.report(Op::Status)
    }

    /// What the node holds of `key` by itself, and which nodes should hold it: a JSON object in one line. Another node
    /// is asked by a client of its own.
    pub fn explain(&self, key: &[u8]) -> Result<String, ClientError> {
        let request = Request {
            op: Op::Explain,
            key,
            ..Request::default()
        };
        Ok(self.run(&request, None)?.json)
    }

    /// Asks the node to do now what it defers: entries in memory become tables, and what can be merged or collected
    /// then, is. Answered at once, with a report: it is done when `engine.deferred` of a later one counts nothing.
    pub fn flush(&self) -> Result<StatusReport, ClientError> {
        self.report(Op::Flush)
    }

    /// Asks the node to read all that is on its disk, so that what has rotted is found. Answered at once, with a
    /// report: it is done when `scrub.asked` of a later one is zero, and `scrub.bad_at_last` then counts bad places.
    pub fn scrub(&self) -> Result<StatusReport, ClientError> {
        self.report(Op::Scrub)
    }

    /// Asks the node to make an image of itself in the directory `snapshot/NAME` under its data directory: every write
    /// that was acked before this call is in it. `name`: letters, digits and dashes. Answered at once, with a report:
    /// it is done when `snapshot.running` of a later one is zero, and good if `snapshot.failed` is zero then. The files
    /// of the node as a whole (`node.toml` and those beside it) are for the caller to add: `armilla snapshot` does.
    pub fn snapshot(&self, name: &str) -> Result<StatusReport, ClientError> {
        self.report_on(Op::Snapshot, name.as_bytes())
    }

    fn report(&self, op: Op) -> Result<StatusReport, ClientError> {
        self.report_on(op, b"")
    }

    fn report_on(&self, op: Op, key: &[u8]) -> Result<StatusReport, ClientError> {
        let request = Request {
            op,
            key,
            ..Request::default()
        };
        let deadline = Instant::now() + self.inner.pool.options().request_timeout;
        let sent = self.send(&request, deadline);
        let answer = sent.and_then(|ticket| answered(request.op, ticket.wait(deadline)))?;
        Ok(StatusReport {
            serving: answer.status == Status::Ok,
            message: answer.message,
            json: answer.json,
        })
    }

    fn draw(&self) -> Result<OperationId, ClientError> {
        self.inner.operations.draw().map_err(no_randomness)
    }

    fn begin_write(&self, op: Op, key: &[u8], value: &[u8], how: &Put) -> Pending<Written> {
        let take = |answer: Answer| answer.written();
        match self.draw() {
            Ok(operation) => {
                let request = write(op, key, value, how, operation);
                self.begin(&request, how.ask.timeout, take)
            }
            Err(error) => {
                let request = write(op, key, value, how, OperationId(0));
                let mut pending = self.begin_with(&request, how.ask.timeout, take);
                pending.first = Err(error);
                pending
            }
        }
    }

    fn begin<T>(
        &self,
        request: &Request<'_>,
        timeout: Option<Duration>,
        take: fn(Answer) -> T,
    ) -> Pending<T> {
        let mut pending = self.begin_with(request, timeout, take);
        pending.first = self.send(request, pending.tries.deadline);
        pending
    }

    /// Not sent yet.
    fn begin_with<T>(
        &self,
        request: &Request<'_>,
        timeout: Option<Duration>,
        take: fn(Answer) -> T,
    ) -> Pending<T> {
        Pending {
            client: self.clone(),
            request: Owned::of(request),
            tries: self.tries(timeout),
            timeout: self.timeout(timeout),
            first: Err(ClientError::NotSent(Cause::NoRoom)),
            take,
        }
    }

    /// Tries until there is an answer that ends it.
    fn run(&self, request: &Request<'_>, timeout: Option<Duration>) -> Result<Answer, ClientError> {
        let tries = self.tries(timeout);
        let first = outcome(request, self.send(request, tries.deadline), &tries);
        self.finish(request, tries, first)
    }

    fn timeout(&self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or(self.inner.pool.options().request_timeout)
    }

    fn tries(&self, timeout: Option<Duration>) -> Tries {
        // Pauses need no more than to differ; without randomness they do not.
        let seed = self.inner.operations.draw().map_or(0, |id| id.0 as u64);
        let options = Options {
            request_timeout: self.timeout(timeout),
            ..*self.inner.pool.options()
        };
        Tries::new(&options, Instant::now(), seed)
    }

    fn finish(
        &self,
        request: &Request<'_>,
        mut tries: Tries,
        first: Result<Answer, ClientError>,
    ) -> Result<Answer, ClientError> {
        let mut tried = first;
        loop {
            let error = match tried {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Another node may have what this one lacks: it starts, is cut off, is full, or has a bad disk.
            let elsewhere = matches!(
                &error,
                ClientError::Refused {
                    status: Status::NotReady
                        | Status::Unsure
                        | Status::QuorumUnavailable
                        | Status::Full,
                    ..
                }
            );
            match tries.on_failure(error, Instant::now()) {
                Verdict::Again(pause) => thread::sleep(pause),
                Verdict::GiveUp(error) => return Err(error),
            }
            if elsewhere {
                self.inner.pool.move_on();
            }
            tried = outcome(request, self.send(request, tries.deadline), &tries);
        }
    }

    fn send(&self, request: &Request<'_>, deadline: Instant) -> Result<Ticket, ClientError> {
        let pool = &self.inner.pool;
        check_sizes(request, pool.value_bytes_max())?;
        let position = match request.op {
            Op::Get | Op::Put | Op::Delete | Op::Explain => {
                Some(Position::of(request.bucket, request.key))
            }
            Op::Keys if request.key.is_empty() => Some(Position(request.position)),
            Op::Keys => Some(Position::of(request.bucket, request.key)),
            Op::Hello | Op::Status | Op::Flush | Op::Scrub | Op::Snapshot => None,
        };
        let connection = pool.connection(position, deadline)?;
        let request = Request {
            timeout_ms: told_timeout(request, deadline),
            ..request.clone()
        };
        let ticket = connection.submit(&request, deadline);
        ticket.map_err(ClientError::NotSent)
    }
}

impl<T> Pending<T> {
    /// Waits for the answer. What is to be tried again is tried again from here.
    pub fn wait(self) -> Result<T, ClientError> {
        let (request, mut tries) = (self.request.request(), self.tries);
        let first = outcome(&request, self.first, &tries);
        if let Err(ClientError::Refused { .. }) = &first {
            // The node is there: the time in which nobody waited is not held against the other tries.
            tries.deadline = tries.deadline.max(Instant::now() + self.timeout);
        }
        let answer = self.client.finish(&request, tries, first)?;
        Ok((self.take)(answer))
    }
}

fn get<'a>(key: &'a [u8], how: &Get) -> Request<'a> {
    how.ask.of(Request {
        op: Op::Get,
        key,
        ..Request::default()
    })
}

fn write<'a>(
    op: Op,
    key: &'a [u8],
    value: &'a [u8],
    how: &'a Put,
    operation: OperationId,
) -> Request<'a> {
    how.ask.of(Request {
        op,
        key,
        value,
        context: &how.context,
        mode: how.mode,
        operation,
        ..Request::default()
    })
}

/// How long the node may take for this try, where it is told at all: most of what is left until `deadline`, so that an
/// answer which says what was missing comes while somebody waits for it.
fn told_timeout(request: &Request<'_>, deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    match request.timeout_ms {
        0 => 0,
        _ => millis(left.mul_f64(0.9)).min(TIMEOUT_MS_MAX as u32),
    }
}

/// Waits for the end of one try.
fn outcome(
    request: &Request<'_>,
    sent: Result<Ticket, ClientError>,
    tries: &Tries,
) -> Result<Answer, ClientError> {
    let answer = answered(request.op, sent?.wait(tries.deadline))?;
    done(request, answer)
}

/// What is known of a try that has ended.
fn answered(op: Op, outcome: Result<Answer, Lost>) -> Result<Answer, ClientError> {
    let lost = match outcome {
        Ok(answer) => return Ok(answer),
        Err(lost) => lost,
    };
    match (lost.cause, lost.fate) {
        // No other request was open: what the node said of the connection, it said of this one.
        (Cause::Said { status, message }, _)
            if lost.alone && status.advice() != Advice::Unknown =>
        {
            Err(ClientError::Refused { status, message })
        }
        (cause, Fate::NotSent) => Err(ClientError::NotSent(cause)),
        (cause, Fate::NoAnswer) => Err(ClientError::NoAnswer(cause)),
        (cause, Fate::Unknown) => {
            assert!(op.writes(), "only a write may have happened");
            Err(ClientError::OutcomeUnknown(cause))
        }
    }
}

fn done(request: &Request<'_>, answer: Answer) -> Result<Answer, ClientError> {
    let (op, status) = (request.op, answer.status);
    match status.advice() {
        Advice::Done if answer.is_intact(request.bucket, request.key) => Ok(answer),
        Advice::Done => Err(ClientError::NoAnswer(Cause::BadValue)),
        advice => {
            let message = answer.message;
            Err(match advice {
                Advice::Unknown if op.writes() => {
                    ClientError::OutcomeUnknown(Cause::Said { status, message })
                }
                Advice::Unknown => ClientError::NoAnswer(Cause::Said { status, message }),
                _ => ClientError::Refused { status, message },
            })
        }
    }
}

/// A frame that the node cannot take would end the connection, and with it the requests of others.
fn check_sizes(request: &Request<'_>, value_bytes_max: usize) -> Result<(), ClientError> {
    let value_bytes_max = value_bytes_max.min(VALUE_BYTES_MAX);
    let fields = [
        ("key", request.key.len(), KEY_BYTES_MAX),
        ("value", request.value.len(), value_bytes_max),
        ("context", request.context.len(), CONTEXT_BYTES_MAX),
    ];
    for (name, len, max) in fields {
        if len > max {
            let text = format!("a {name} of {len} bytes: the node takes no more than {max}");
            return Err(ClientError::TooLarge(text));
        }
    }
    Ok(())
}

fn no_randomness(error: io::Error) -> ClientError {
    ClientError::NotSent(Cause::NoRandomness(Arc::new(error)))
}
