//! What can become of a request that was not answered with "done".

use crate::wire::codec::BadReply;
use crate::wire::frame::BadFrame;
use crate::wire::message::Status;
use std::io;

/// Every variant says whether a write may have happened; see also `may_have_happened`.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It did not happen: no connection came to be.
    #[error("cannot reach a node at {address}: {source}")]
    Unreachable { address: String, source: io::Error },
    /// It did not happen: the connection failed before the first byte of the request left.
    #[error("the connection failed before the request was sent: {0}")]
    NotSent(io::Error),
    /// It did not happen: the node refused, and says why.
    #[error("the node refused ({status:?}): {message}")]
    Refused { status: Status, message: String },
    /// It cannot be sent: longer than any node takes.
    #[error("{0}")]
    TooLarge(String),
    /// A read got no answer. It changed nothing, and may be asked again.
    #[error("no answer: {0}")]
    NoAnswer(Cause),
    /// IT MAY HAVE HAPPENED, or may happen yet: a write was sent and no answer tells.
    #[error("the outcome is unknown, the write may or may not have happened: {0}")]
    Unknown(Cause),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("no reply within the request timeout")]
    Timeout,
    #[error("the node sent something that is no reply: {0}")]
    BadFrame(#[from] BadFrame),
    #[error("the node sent something that is no reply: {0}")]
    BadReply(#[from] BadReply),
    #[error("the node sent a reply to a request that nobody made (id {0})")]
    Stranger(u64),
    #[error("the node says so ({status:?}): {message}")]
    Said { status: Status, message: String },
}

impl ClientError {
    pub fn may_have_happened(&self) -> bool {
        matches!(self, ClientError::Unknown(_))
    }
}
