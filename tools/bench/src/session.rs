//! What the driver needs of a protocol: bytes in, bytes out, no socket.

/// How a request ended. `Values` of a put is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It was done; of a get: the siblings, none if nothing is there.
    Values(&'a [&'a [u8]]),
    /// Nothing was changed; why, in a word.
    Refused(&'a str),
    /// It may have happened, or may yet.
    Unknown(&'a str),
}

/// One connection's state.
pub trait Session {
    /// A fresh connection; may put a greeting into `out`.
    fn new(out: &mut Vec<u8>) -> Self;

    /// Appends a get to `out`, returns its id.
    fn get(&mut self, key: &str, out: &mut Vec<u8>) -> u64;

    /// Appends a put that overwrites to `out`, returns its id.
    fn put(&mut self, key: &str, value: &[u8], operation: u128, out: &mut Vec<u8>) -> u64;

    /// Takes bytes as they came, calls `on_answer` with the id of each request they answer. An error ends the
    /// connection.
    fn receive(
        &mut self,
        bytes: &[u8],
        on_answer: &mut dyn FnMut(u64, Answer<'_>),
    ) -> Result<(), String>;
}
