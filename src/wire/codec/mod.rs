//! Messages to bytes and back.
//!
//! Everything that comes in is checked here, once, and trusted behind this door. The FlatBuffers verifier checks
//! offsets, alignment and text; the length prefix, trailing bytes and the identifier it leaves to `frame`, and what
//! the fields may hold to the two files below.

mod peer;
mod reply;
mod request;

pub use peer::{BadPeer, decode_peer, encode_peer};
pub use reply::{
    BadReply, Keys, ReplyView, Siblings, decode_reply, encode_reply, encode_reply_into,
};
pub use request::{BadRequest, RequestLimits, RequestReason, decode_request, encode_request};

use super::generated as fb;
use crate::base::units::MIB;
use flatbuffers::{FlatBufferBuilder, Vector, VerifierOptions};

/// A builder that grew beyond this is replaced before its next use: FlatBuffers never shrinks one.
const BUILDER_KEEP_BYTES_MAX: usize = MIB;

/// The reused room in which messages are encoded: one a connection or shard.
#[derive(Default)]
pub struct Builder {
    inner: FlatBufferBuilder<'static>,
    finished_bytes: usize,
}

impl Builder {
    pub fn new() -> Builder {
        Builder::default()
    }

    fn reset(&mut self) -> &mut FlatBufferBuilder<'static> {
        if self.finished_bytes > BUILDER_KEEP_BYTES_MAX {
            self.inner = FlatBufferBuilder::new();
        } else {
            self.inner.reset();
        }
        &mut self.inner
    }

    fn finished(&mut self, len_max: usize) -> &[u8] {
        let frame = self.inner.finished_data();
        assert!(
            frame.len() <= len_max,
            "what is encoded was checked against the limits before"
        );
        self.finished_bytes = frame.len();
        frame
    }
}

/// Bounds for the verifier: bytes that are reached twice (shared vtables) count twice, hence the factor.
fn verifier_options(frame_bytes: usize, tables_max: usize) -> VerifierOptions {
    VerifierOptions {
        max_depth: 8,
        max_tables: tables_max,
        max_apparent_size: 2 * frame_bytes,
        ignore_missing_null_terminator: false,
    }
}

fn id128(number: u128) -> fb::Id128 {
    fb::Id128::new(number as u64, (number >> 64) as u64)
}

fn number(id: Option<&fb::Id128>) -> u128 {
    id.map_or(0, |id| u128::from(id.low()) | u128::from(id.high()) << 64)
}

fn bytes<'a>(vector: Option<Vector<'a, u8>>) -> &'a [u8] {
    vector.map_or(&[], |vector| vector.bytes())
}

#[cfg(test)]
mod peer_tests;
#[cfg(test)]
mod tests;
