//! The wire: frames, messages and their FlatBuffers encoding. Pure. The format is `schema/wire.fbs`.

pub mod codec;
pub mod frame;
pub mod message;
