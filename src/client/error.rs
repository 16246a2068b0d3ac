//! What can become of a request that was not answered with "done".

use crate::wire::codec::BadReply;
use crate::wire::frame::BadFrame;
use crate::wire::message::Status;
use std::io;
use std::sync::Arc;

/// Why a request was not done. Each variant says whether a write may have happened, and what to do; the client has
/// then done what it may by itself (see [`Options`](super::Options)).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It did not happen: no connection came to be. Start a node there, or give another address.
    #[error("cannot reach a node at {address}: {source}")]
    Unreachable {
        address: String,
        source: Arc<io::Error>,
    },
    /// It did not happen: not one byte of it was sent. It may be asked again.
    #[error("the request was not sent: {0}")]
    NotSent(Cause),
    /// It did not happen: the node refused, and says why. [`Status::advice`] says whether the same request may succeed
    /// later.
    #[error("the node refused ({status:?}): {message}")]
    Refused { status: Status, message: String },
    /// It was not sent: a part of it is longer than this node, or any node, takes.
    #[error("{0}")]
    TooLarge(String),
    /// A read got no answer. It changed nothing, and may be asked again.
    #[error("no answer: {0}")]
    NoAnswer(Cause),
    /// IT MAY HAVE HAPPENED, or may happen yet: a write was sent and no answer tells. Read the key before writing it
    /// again, unless writing twice does no harm.
    #[error("the outcome is unknown, the write may or may not have happened: {0}")]
    OutcomeUnknown(Cause),
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    #[error("the connection broke: {0}")]
    Broken(Arc<io::Error>),
    #[error("no reply within the request timeout")]
    Timeout,
    /// As many requests are open on the connection as may be, and none ended in time.
    #[error("no request before it ended within the request timeout")]
    NoRoom,
    #[error("the operating system gives no randomness: {0}")]
    NoRandomness(Arc<io::Error>),
    #[error("the node sent something that is no reply: {0}")]
    BadFrame(#[from] BadFrame),
    #[error("the node sent something that is no reply: {0}")]
    BadReply(#[from] BadReply),
    #[error("a value was damaged on its way: its checksum does not match")]
    BadValue,
    #[error("the node sent a reply to a request that nobody made (id {0})")]
    Stranger(u64),
    #[error("the node says so ({status:?}): {message}")]
    Said { status: Status, message: String },
}

impl ClientError {
    /// Whether the write may be there, or may be there later: report neither "done" nor "failed".
    pub fn may_have_happened(&self) -> bool {
        matches!(self, ClientError::OutcomeUnknown(_))
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::Broken(Arc::new(error))
    }
}
