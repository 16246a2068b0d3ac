//! A client that waits: one connection, one request at a time.
//!
//! A request is tried again only if the node's answer advises it, or if not one byte of it had left; always under
//! the operation id of its first try. Everything else is told to the caller as it is, above all "unknown".

use super::core::{Core, Fate};
use super::error::{Cause, ClientError};
use super::operation::Operations;
use crate::base::limits::{BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::wire::PROTOCOL_VERSION;
use crate::wire::codec::ReplyView;
use crate::wire::message::{
    Advice, HelloReply, Op, PutMode, Receipt, Request, SiblingView, Status,
};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

const RECEIVE_BYTES: usize = 64 * 1024;
/// The pause before a retry; it doubles each time.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub connect_timeout: Duration,
    /// For one request with all its retries.
    pub request_timeout: Duration,
    /// How often a request is tried at most.
    pub tries_max: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            tries_max: 5,
        }
    }
}

/// What a put or delete supersedes; by default what the replicas have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub mode: PutMode,
    pub context: Vec<u8>,
}

impl Default for Put {
    fn default() -> Put {
        Put {
            mode: PutMode::Overwrite,
            context: Vec::new(),
        }
    }
}

impl Put {
    /// Supersedes exactly what the get saw that gave this context.
    pub fn with_context(context: &[u8]) -> Put {
        Put {
            mode: PutMode::ByContext,
            context: context.to_vec(),
        }
    }

    /// Supersedes nothing: stays beside whatever is there.
    pub fn concurrent() -> Put {
        Put::with_context(&[])
    }

    /// Refused if a value is there.
    pub fn if_absent() -> Put {
        Put {
            mode: PutMode::IfAbsent,
            context: Vec::new(),
        }
    }
}

/// What a get found: no siblings is "not found".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub siblings: Vec<Sibling>,
    pub context: Vec<u8>,
    pub receipt: Option<Receipt>,
}

/// One value of a key; `SiblingView` tells what the fields mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    pub value: Vec<u8>,
    pub lost: bool,
    pub written_ms: u64,
    pub expires_ms: u64,
}

impl From<SiblingView<'_>> for Sibling {
    fn from(view: SiblingView<'_>) -> Sibling {
        Sibling {
            value: view.value.to_vec(),
            lost: view.lost,
            written_ms: view.written.0,
            expires_ms: view.expires.0,
        }
    }
}

/// A durable write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub context: Vec<u8>,
    pub receipt: Option<Receipt>,
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub node: HelloReply<'static>,
    pub shard_ports: Vec<u16>,
}

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// Whether it takes requests.
    pub serving: bool,
    pub message: String,
    pub json: String,
}

struct Connection {
    core: Core,
    stream: TcpStream,
}

/// A connection to one node, made anew when it broke.
pub struct Client {
    address: String,
    options: Options,
    operations: Operations,
    connection: Option<Connection>,
    receive: Box<[u8]>,
}

impl Client {
    /// Connects to `address` (host:port).
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        Client::connect_with(address, Options::default())
    }

    pub fn connect_with(address: &str, options: Options) -> Result<Client, ClientError> {
        let mut client = Client {
            address: address.to_string(),
            options,
            operations: Operations::open().map_err(ClientError::NotSent)?,
            connection: None,
            receive: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        };
        client.connection = Some(client.dial(options.connect_timeout)?);
        Ok(client)
    }

    pub fn get(&mut self, key: &[u8]) -> Result<Found, ClientError> {
        let request = Request {
            op: Op::Get,
            key,
            ..Request::default()
        };
        self.run(&request, |reply| Found {
            siblings: reply.siblings.iter().map(Sibling::from).collect(),
            context: reply.context.to_vec(),
            receipt: reply.receipt,
        })
    }

    pub fn put(&mut self, key: &[u8], value: &[u8], how: &Put) -> Result<Written, ClientError> {
        self.write(Op::Put, key, value, how)
    }

    pub fn delete(&mut self, key: &[u8], how: &Put) -> Result<Written, ClientError> {
        self.write(Op::Delete, key, &[], how)
    }

    pub fn hello(&mut self) -> Result<Hello, ClientError> {
        let request = Request {
            op: Op::Hello,
            protocol: PROTOCOL_VERSION,
            ..Request::default()
        };
        let hello = self.run(&request, |reply| {
            reply.hello().map(|(node, ports)| Hello {
                node,
                shard_ports: ports.collect(),
            })
        })?;
        let status = Status::Unsupported;
        let message = "the node answered a hello without one".to_string();
        hello.ok_or(ClientError::Refused { status, message })
    }

    /// A node that answers that it does not serve is an answer, not an error.
    pub fn status(&mut self) -> Result<StatusReport, ClientError> {
        let request = Request {
            op: Op::Status,
            ..Request::default()
        };
        let deadline = Instant::now() + self.options.request_timeout;
        self.attempt(&request, deadline, |reply| StatusReport {
            serving: reply.status == Status::Ok,
            message: reply.message.to_string(),
            json: reply.status_json.to_string(),
        })
    }

    fn write(
        &mut self,
        op: Op,
        key: &[u8],
        value: &[u8],
        how: &Put,
    ) -> Result<Written, ClientError> {
        let operation = self.operations.draw().map_err(ClientError::NotSent)?;
        let (mode, context) = (how.mode, how.context.as_slice());
        let request = Request {
            op,
            key,
            value,
            context,
            mode,
            operation,
            ..Request::default()
        };
        self.run(&request, |reply| Written {
            context: reply.context.to_vec(),
            receipt: reply.receipt,
        })
    }

    /// Tries until there is an answer that ends it.
    fn run<T>(
        &mut self,
        request: &Request<'_>,
        take: impl Fn(&ReplyView<'_>) -> T,
    ) -> Result<T, ClientError> {
        check_sizes(request)?;
        let deadline = Instant::now() + self.options.request_timeout;
        let mut pause = RETRY_PAUSE;
        let mut tries = 1;
        loop {
            let outcome = self
                .attempt(request, deadline, |reply| match reply.status.advice() {
                    Advice::Done => Ok(take(reply)),
                    _ => Err(refusal(request.op, reply)),
                })
                .flatten();
            let again = match &outcome {
                Err(ClientError::Refused { status, .. }) => status.advice() == Advice::Retry,
                Err(ClientError::NotSent(_)) => true,
                _ => false,
            };
            if !again || tries == self.options.tries_max || Instant::now() + pause >= deadline {
                return outcome;
            }
            thread::sleep(pause);
            pause *= 2;
            tries += 1;
        }
    }

    /// Sends `request` once, and waits for its reply. A connection on which no reply came is never used
    /// again.
    fn attempt<T>(
        &mut self,
        request: &Request<'_>,
        deadline: Instant,
        take: impl FnOnce(&ReplyView<'_>) -> T,
    ) -> Result<T, ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dial(left(deadline).unwrap_or(RETRY_PAUSE))?,
        };
        connection.core.submit(request);
        match exchange(&mut connection, &mut self.receive, deadline, take) {
            Ok(answer) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            // No other request is open here: what the node says of the connection, it says of this one.
            Err(Cause::Said { status, message }) if status.advice() != Advice::Unknown => {
                Err(ClientError::Refused { status, message })
            }
            Err(cause) => {
                let (_, fate) = connection.core.on_broken().last().unwrap_or_else(|| {
                    unreachable!("the request is open until its reply is taken")
                });
                Err(match fate {
                    Fate::NotSent => ClientError::NotSent(io::Error::other(cause)),
                    Fate::NoAnswer => ClientError::NoAnswer(cause),
                    Fate::Unknown => ClientError::Unknown(cause),
                })
            }
        }
    }

    fn dial(&self, timeout: Duration) -> Result<Connection, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            address: self.address.clone(),
            source,
        };
        let timeout = timeout.min(self.options.connect_timeout);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(unreachable)?;
                    return Ok(Connection {
                        core: Core::new(),
                        stream,
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(unreachable(failure))
    }
}

fn exchange<T>(
    connection: &mut Connection,
    receive: &mut [u8],
    deadline: Instant,
    take: impl FnOnce(&ReplyView<'_>) -> T,
) -> Result<T, Cause> {
    let Connection { core, stream } = connection;
    while !core.unsent().is_empty() {
        stream
            .set_write_timeout(Some(left(deadline)?))
            .map_err(Cause::Broken)?;
        match stream.write(core.unsent()) {
            Ok(0) => return Err(Cause::Broken(io::ErrorKind::WriteZero.into())),
            Ok(len) => core.on_sent(len),
            // It takes no more of this: the answer that says why may have come already.
            Err(error) if is_hang_up(&error) => break,
            Err(error) => wait_on(error)?,
        }
    }
    loop {
        // One request is open, and a reply to another would be an error: whatever comes is the answer.
        if let Some((_, reply)) = core.next_reply()? {
            return Ok(take(&reply));
        }
        stream
            .set_read_timeout(Some(left(deadline)?))
            .map_err(Cause::Broken)?;
        match stream.read(receive) {
            Ok(0) => return Err(Cause::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => core.on_bytes(&receive[..len]),
            Err(error) => wait_on(error)?,
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// A socket's own timeout is checked against the deadline by the next turn of the loop.
fn wait_on(error: io::Error) -> Result<(), Cause> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
        _ => Err(Cause::Broken(error)),
    }
}

fn left(deadline: Instant) -> Result<Duration, Cause> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A socket takes no timeout of zero, and rounds down to microseconds.
    if left < Duration::from_millis(1) {
        Err(Cause::Timeout)
    } else {
        Ok(left)
    }
}

fn refusal(op: Op, reply: &ReplyView<'_>) -> ClientError {
    let (status, message) = (reply.status, reply.message.to_string());
    match status.advice() {
        Advice::Unknown if op.writes() => ClientError::Unknown(Cause::Said { status, message }),
        Advice::Unknown => ClientError::NoAnswer(Cause::Said { status, message }),
        _ => ClientError::Refused { status, message },
    }
}

/// What no node takes is not sent; what this node takes, it says itself.
fn check_sizes(request: &Request<'_>) -> Result<(), ClientError> {
    let fields = [
        ("bucket name", request.bucket.len(), BUCKET_BYTES_MAX),
        ("key", request.key.len(), KEY_BYTES_MAX),
        ("value", request.value.len(), VALUE_BYTES_MAX),
        ("context", request.context.len(), CONTEXT_BYTES_MAX),
    ];
    for (name, len, max) in fields {
        if len > max {
            let text = format!("a {name} of {len} bytes: no node takes more than {max}");
            return Err(ClientError::TooLarge(text));
        }
    }
    Ok(())
}
