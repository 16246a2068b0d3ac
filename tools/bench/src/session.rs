//! What the driver needs of a protocol: bytes in, bytes out, no socket.

use crate::environment::Server;
use std::net::SocketAddr;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    Get {
        key: &'a [u8],
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
        /// What it supersedes: exactly what a get saw, or, without one, whatever is there.
        context: Option<&'a [u8]>,
        /// Unlike any other put's, of any run.
        operation: u128,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It was done; of a get: the siblings, none if nothing is there, and what they are known by.
    Done {
        values: &'a [&'a [u8]],
        context: &'a [u8],
    },
    /// Nothing was changed; why, in a word.
    Refused(&'a str),
    /// It may have happened, or may yet.
    Unknown(&'a str),
}

/// One connection's state.
pub trait Session {
    /// What the node says of itself, outside of any measurement; what it does not say is left empty.
    fn who(server: SocketAddr) -> Server;

    /// A fresh connection, for keys of this bucket; may put a greeting into `out`.
    fn new(bucket: &[u8], out: &mut Vec<u8>) -> Self;

    /// Appends the request to `out`; returns its id: 1 for the first, then one more each time.
    fn submit(&mut self, ask: &Ask<'_>, out: &mut Vec<u8>) -> u64;

    /// Takes bytes as they came, calls `on_answer` with the id of each request they answer. An error ends the
    /// connection.
    fn receive(
        &mut self,
        bytes: &[u8],
        on_answer: &mut dyn FnMut(u64, Answer<'_>),
    ) -> Result<(), String>;
}
