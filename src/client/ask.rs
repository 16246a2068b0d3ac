//! How a key is read and written: what a write supersedes, how many replicas are asked, how long is waited.

use crate::wire::message::{PutMode, Request};
use std::time::Duration;

/// What is asked of the replicas of a key. Zero and `None`: not given, the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    read_quorum: u8,
    write_quorum: u8,
    strict: bool,
    pub timeout: Option<Duration>,
}

impl Ask {
    /// `request`, with what is asked in it. How long it may take is told when it is sent.
    pub(super) fn of<'a>(&self, request: Request<'a>) -> Request<'a> {
        Request {
            read_quorum: self.read_quorum,
            write_quorum: self.write_quorum,
            strict: self.strict,
            timeout_ms: self.timeout.map_or(0, millis),
            ..request
        }
    }
}

/// As the wire counts it; a node cuts off what is longer than it allows.
pub(super) fn millis(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis())
        .unwrap_or(u32::MAX)
        .max(1)
}

/// How a key is read: by default from a majority of its replicas, within [`Options::request_timeout`].
///
/// ```
/// # use armilla::client::Get;
/// # use std::time::Duration;
/// let all_three = Get::default().read_quorum(3).timeout(Duration::from_millis(500));
/// ```
///
/// [`Options::request_timeout`]: super::Options::request_timeout
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Get {
    pub(super) ask: Ask,
}

impl Get {
    /// So many replicas must answer (R). Zero: a majority of them. More than the key has are refused with
    /// [`QuorumImpossible`](super::Status::QuorumImpossible), more than can be reached with
    /// [`QuorumUnavailable`](super::Status::QuorumUnavailable).
    pub fn read_quorum(mut self, replicas: u8) -> Get {
        self.ask.read_quorum = replicas;
        self
    }

    /// Only the replicas of the key may answer, no stand-ins. Only of strict reads and writes it is true that a read
    /// sees what was written before, if R + W is more than the number of replicas.
    pub fn strict(mut self) -> Get {
        self.ask.strict = true;
        self
    }

    /// For this request with all its tries, instead of [`Options::request_timeout`](super::Options::request_timeout).
    /// The node is told, and gives up a little sooner: so it can still say what it waited for.
    pub fn timeout(mut self, timeout: Duration) -> Get {
        self.ask.timeout = Some(timeout);
        self
    }
}

/// How a key is written or deleted: what that supersedes, by default what the replicas have now; and how many of them
/// must hold it durably, by default a majority.
///
/// ```
/// # use armilla::client::Put;
/// let on_all_three = Put::default().write_quorum(3).strict();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub(super) mode: PutMode,
    /// Of a get of this very key; empty but in mode `ByContext`.
    pub(super) context: Vec<u8>,
    pub(super) ask: Ask,
}

impl Default for Put {
    fn default() -> Put {
        Put::of(PutMode::Overwrite, &[])
    }
}

impl Put {
    fn of(mode: PutMode, context: &[u8]) -> Put {
        Put {
            mode,
            context: context.to_vec(),
            ask: Ask::default(),
        }
    }

    /// Supersedes exactly what the get saw that gave this context.
    pub fn with_context(context: &[u8]) -> Put {
        Put::of(PutMode::ByContext, context)
    }

    /// Supersedes nothing: stays beside whatever is there.
    pub fn concurrent() -> Put {
        Put::of(PutMode::ByContext, &[])
    }

    /// Refused with [`Status::Exists`](super::Status::Exists) if a value is there. Not of a delete.
    pub fn if_absent() -> Put {
        Put::of(PutMode::IfAbsent, &[])
    }

    /// So many replicas must hold the write durably before it is done (W). Zero: a majority of them. More than the key
    /// has are refused with [`QuorumImpossible`](super::Status::QuorumImpossible), more than can be reached with
    /// [`QuorumUnavailable`](super::Status::QuorumUnavailable): then nothing was written.
    pub fn write_quorum(mut self, replicas: u8) -> Put {
        self.ask.write_quorum = replicas;
        self
    }

    /// So many replicas must tell what they hold, where a write asks what it supersedes (R): without a context, and
    /// with [`if_absent`](Put::if_absent). Zero: a majority of them.
    pub fn read_quorum(mut self, replicas: u8) -> Put {
        self.ask.read_quorum = replicas;
        self
    }

    /// Only the replicas of the key may vote, no stand-ins; see [`Get::strict`].
    pub fn strict(mut self) -> Put {
        self.ask.strict = true;
        self
    }

    /// For this request with all its tries; see [`Get::timeout`]. A write that has no answer by then is of unknown
    /// outcome.
    pub fn timeout(mut self, timeout: Duration) -> Put {
        self.ask.timeout = Some(timeout);
        self
    }
}
