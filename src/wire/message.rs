//! Requests and replies as plain values that borrow from the frame they came in.

use crate::base::units::UnixMillis;
use crate::causal::object::OperationId;

/// What a request asks for. Values are frozen: they stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    Hello = 1,
    Get = 2,
    Put = 3,
    Delete = 4,
    /// What the node counts and how it is.
    Status = 5,
    /// Which keys there are, a page at a time.
    Keys = 6,
    /// Do now what is deferred; answered at once, as `Status` is.
    Flush = 7,
    /// What the node that is asked holds of a key, and who should hold it.
    Explain = 8,
    /// Look now for what has rotted on the disk; answered at once, as `Status` is.
    Scrub = 9,
    /// Make an image of the node beside its files, in a directory whose name is the key; answered at once, as `Status`
    /// is.
    Snapshot = 10,
}

impl Op {
    pub const ALL: [Op; 10] = [
        Op::Hello,
        Op::Get,
        Op::Put,
        Op::Delete,
        Op::Status,
        Op::Keys,
        Op::Flush,
        Op::Explain,
        Op::Scrub,
        Op::Snapshot,
    ];

    pub fn from_wire(number: u8) -> Option<Op> {
        Op::ALL.into_iter().find(|op| *op as u8 == number)
    }

    /// Whether it is about one key, and a replica of it answers.
    pub fn is_of_a_key(self) -> bool {
        matches!(self, Op::Get | Op::Put | Op::Delete)
    }

    /// Whether each shard of a node does its part of it, and tells its state.
    pub fn is_of_all_shards(self) -> bool {
        matches!(self, Op::Status | Op::Flush | Op::Scrub | Op::Snapshot)
    }

    /// Whether an answer that never came leaves open what is stored.
    pub fn writes(self) -> bool {
        matches!(self, Op::Put | Op::Delete)
    }
}

/// What a put or delete supersedes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PutMode {
    /// Exactly what its context saw; with an empty context it is concurrent to all there is.
    #[default]
    ByContext = 0,
    /// What R replicas have now; an unseen write stays a sibling.
    Overwrite = 1,
    /// Nothing: it is refused if a value is there.
    IfAbsent = 2,
}

impl PutMode {
    pub fn from_wire(number: u8) -> Option<PutMode> {
        [PutMode::ByContext, PutMode::Overwrite, PutMode::IfAbsent]
            .into_iter()
            .find(|mode| *mode as u8 == number)
    }
}

/// How a request ended. The band says what a client may do: see `Status::advice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    Ok = 0,
    NotFound = 1,
    // 10-29: nothing was changed; the same request may succeed later.
    Overloaded = 10,
    NotReady = 11,
    /// This node cannot say what it holds of the key (a bad block, a poisoned log).
    Unsure = 12,
    QuorumUnavailable = 13,
    /// Memory or disk is full: deletes and reads still work.
    Full = 14,
    // 30-59: nothing was changed; the same request will fail again.
    BadRequest = 30,
    Unsupported = 31,
    KeyRefused = 32,
    ValueTooLarge = 33,
    TooManySiblings = 34,
    ContextRefused = 35,
    /// `IfAbsent` met a value.
    Exists = 36,
    QuorumImpossible = 37,
    BucketUnknown = 38,
    ProtocolVersion = 39,
    /// The value is known to be there but cannot be read.
    ValueLost = 40,
    // 60-: the write may or may not have happened, now or later.
    Timeout = 60,
    OutcomeUnknown = 61,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    Done,
    Retry,
    DoNotRetry,
    Unknown,
}

impl Status {
    pub const ALL: [Status; 20] = [
        Status::Ok,
        Status::NotFound,
        Status::Overloaded,
        Status::NotReady,
        Status::Unsure,
        Status::QuorumUnavailable,
        Status::Full,
        Status::BadRequest,
        Status::Unsupported,
        Status::KeyRefused,
        Status::ValueTooLarge,
        Status::TooManySiblings,
        Status::ContextRefused,
        Status::Exists,
        Status::QuorumImpossible,
        Status::BucketUnknown,
        Status::ProtocolVersion,
        Status::ValueLost,
        Status::Timeout,
        Status::OutcomeUnknown,
    ];

    /// A number that a newer node sends is read as the plainest status of its band; in the band of the done ones
    /// there is none that promises nothing, so that one is read as unknown.
    pub fn from_wire(number: u8) -> Status {
        match Status::ALL
            .into_iter()
            .find(|status| *status as u8 == number)
        {
            Some(status) => status,
            None if (10..=29).contains(&number) => Status::Overloaded,
            None if (30..=59).contains(&number) => Status::BadRequest,
            None => Status::OutcomeUnknown,
        }
    }

    pub fn advice(self) -> Advice {
        match self as u8 {
            0..=9 => Advice::Done,
            10..=29 => Advice::Retry,
            30..=59 => Advice::DoNotRetry,
            _ => Advice::Unknown,
        }
    }
}

impl Default for Request<'_> {
    /// An empty get of nobody: for struct update syntax.
    fn default() -> Self {
        Request {
            id: 0,
            op: Op::Get,
            bucket: &[],
            key: &[],
            value: &[],
            context: &[],
            mode: PutMode::ByContext,
            operation: OperationId(0),
            expires: UnixMillis(0),
            read_quorum: 0,
            write_quorum: 0,
            strict: false,
            timeout_ms: 0,
            protocol: 0,
            features: 0,
            position: 0,
        }
    }
}

/// A request. Zero and empty mean "not given: the bucket's default".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub id: u64,
    pub op: Op,
    pub bucket: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub context: &'a [u8],
    pub mode: PutMode,
    pub operation: OperationId,
    pub expires: UnixMillis,
    pub read_quorum: u8,
    pub write_quorum: u8,
    pub strict: bool,
    pub timeout_ms: u32,
    /// Of a hello: the protocol version and feature bits of the client.
    pub protocol: u16,
    pub features: u64,
    /// Of Keys: where on the circle the page begins, if it names no key.
    pub position: u64,
}

/// One sibling of a get's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiblingView<'a> {
    pub value: &'a [u8],
    /// The value is lost on the nodes asked; `value` is empty.
    pub lost: bool,
    pub written: UnixMillis,
    pub expires: UnixMillis,
    /// xxh3-64 as in `schema/wire.fbs`: lets a client check the value end to end.
    pub value_hash: u64,
    pub dot: DotView,
    pub operation: OperationId,
}

/// The dot a value was written under: for logs and tests, not to compute with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DotView {
    pub incarnation: u64,
    pub birth: u32,
    pub counter: u64,
}

/// Who voted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Votes counted, of how many that were needed, of how many replicas.
    pub votes: u8,
    pub needed: u8,
    pub replicas: u8,
    /// All votes are of replicas, none of a fallback.
    pub strict: bool,
    /// Copies that stand-ins hold for replicas that did not answer.
    pub hints: u8,
}

/// What a hello answers, and who this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloReply<'a> {
    pub protocol: u16,
    pub features: u64,
    pub cluster: u128,
    pub node: u128,
    pub ring_epoch: u64,
    pub virtual_nodes: u32,
    /// The port of each shard, in the order of the shards.
    pub shard_ports: &'a [u16],
    pub value_bytes_max: u32,
}

/// Where a page of keys begins: behind `key`, or without one at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next<'a> {
    pub position: u64,
    pub key: &'a [u8],
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply<'a> {
    pub id: u64,
    pub status: Option<Status>,
    /// Why, and what to do, in one line; empty when all is well.
    pub message: &'a str,
    pub siblings: &'a [SiblingView<'a>],
    pub context: &'a [u8],
    pub receipt: Option<Receipt>,
    pub hello: Option<HelloReply<'a>>,
    /// What a status answers: a JSON object, one line, for eyes and scripts; fields are only ever added.
    pub status_json: &'a str,
    /// A page of keys, and where the next one begins, if there is one.
    pub keys: &'a [&'a [u8]],
    pub next: Option<Next<'a>>,
}
