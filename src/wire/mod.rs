//! The wire: frames, messages and their FlatBuffers encoding. Pure. The format is `schema/wire.fbs`.

pub mod codec;
pub mod frame;
mod generated;
pub mod key_list;
pub mod message;
pub mod peer;

/// The protocol version of `schema/wire.fbs`.
pub const PROTOCOL_VERSION: u16 = 1;
