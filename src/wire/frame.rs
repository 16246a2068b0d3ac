//! Frames in a stream of bytes: where one ends, and whether it is one at all. The message inside is the
//! codec's business.

use crate::base::limits::{self, FRAME_BYTES_MIN, FRAME_PREFIX_BYTES};

/// The identifier of a frame stands after the length and the root offset.
const IDENTIFIER_OFFSET: usize = 8;
pub const REQUEST_IDENTIFIER: &str = "ARMQ";
pub const REPLY_IDENTIFIER: &str = "ARMR";
pub const PEER_IDENTIFIER: &str = "ARMP";

const _: () = assert!(IDENTIFIER_OFFSET + REQUEST_IDENTIFIER.len() == FRAME_BYTES_MIN);
const _: () = assert!(REQUEST_IDENTIFIER.len() == REPLY_IDENTIFIER.len());

/// What the bytes at hand begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Not a whole frame yet; `total` is its length with the prefix, as soon as the prefix is there.
    NeedMore { total: Option<usize> },
    /// The first `len` bytes are a frame, prefix included.
    Frame { len: usize },
    /// No frame begins here, so nobody can tell where the next one does: close the connection.
    Bad(BadFrame),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("a frame of {len} bytes is too short to be one")]
    TooShort { len: usize },
    #[error(
        "this port speaks Armilla's own protocol, not HTTP; the admin port serves HTTP, ten ports below"
    )]
    Http,
    #[error("a frame of {len} bytes exceeds the {max} bytes that are taken here")]
    TooLong { len: usize, max: usize },
    #[error(
        "the bytes do not carry the identifier {expected}: not this protocol, or the wrong direction"
    )]
    Identifier { expected: &'static str },
    #[error("the length in the prefix differs from the bytes of the frame")]
    Length,
}

/// How requests of a lost browser or health check begin. As lengths these are beyond every limit.
const HTTP_METHODS: [[u8; FRAME_PREFIX_BYTES]; 6] =
    [*b"GET ", *b"HEAD", *b"POST", *b"PUT ", *b"DELE", *b"OPTI"];

const _: () = assert!(u32::from_le_bytes(*b"GET ") as usize > limits::RESPONSE_FRAME_BYTES_MAX);

/// Looks at the first bytes of a stream. A length beyond `len_max` (prefix included) is refused before anybody
/// makes room for it, and a wrong identifier as soon as it can be seen.
pub fn split(bytes: &[u8], identifier: &'static str, len_max: usize) -> Split {
    assert!(len_max >= FRAME_BYTES_MIN);
    assert!(identifier.len() == FRAME_BYTES_MIN - IDENTIFIER_OFFSET);
    let Some(prefix) = bytes.first_chunk::<FRAME_PREFIX_BYTES>() else {
        return Split::NeedMore { total: None };
    };
    // Widened first: a prefix near u32::MAX must not wrap, whatever usize is.
    let total = u64::from(u32::from_le_bytes(*prefix)) + FRAME_PREFIX_BYTES as u64;
    let len = usize::try_from(total).unwrap_or(usize::MAX);
    if len < FRAME_BYTES_MIN {
        return Split::Bad(BadFrame::TooShort { len });
    }
    if HTTP_METHODS.contains(prefix) {
        return Split::Bad(BadFrame::Http);
    }
    if len > len_max {
        return Split::Bad(BadFrame::TooLong { len, max: len_max });
    }
    if bytes.len() >= FRAME_BYTES_MIN && !has_identifier(bytes, identifier) {
        return Split::Bad(BadFrame::Identifier {
            expected: identifier,
        });
    }
    if bytes.len() < len {
        Split::NeedMore { total: Some(len) }
    } else {
        Split::Frame { len }
    }
}

/// Whether `frame` is exactly one frame: what the FlatBuffers verifier does not check.
pub(super) fn check_whole(
    frame: &[u8],
    identifier: &'static str,
    len_max: usize,
) -> Result<(), BadFrame> {
    match split(frame, identifier, len_max) {
        Split::Frame { len } if len == frame.len() => Ok(()),
        Split::Frame { .. } | Split::NeedMore { .. } => Err(BadFrame::Length),
        Split::Bad(reason) => Err(reason),
    }
}

/// Whether what has come of a frame says that it is of another node.
pub fn is_of_peer(bytes: &[u8]) -> bool {
    bytes.len() >= FRAME_BYTES_MIN && has_identifier(bytes, PEER_IDENTIFIER)
}

fn has_identifier(bytes: &[u8], identifier: &str) -> bool {
    &bytes[IDENTIFIER_OFFSET..FRAME_BYTES_MIN] == identifier.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(body: usize) -> Vec<u8> {
        let mut bytes = (body as u32 + 8).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[8, 0, 0, 0]);
        bytes.extend_from_slice(REQUEST_IDENTIFIER.as_bytes());
        bytes.extend(std::iter::repeat_n(7u8, body));
        bytes
    }

    #[test]
    fn a_frame_is_found_at_its_last_byte_and_not_before() {
        let bytes = frame(20);
        for cut in 0..bytes.len() {
            let total = (cut >= 4).then_some(32);
            assert_eq!(
                split(&bytes[..cut], REQUEST_IDENTIFIER, 100),
                Split::NeedMore { total }
            );
        }
        assert_eq!(
            split(&bytes, REQUEST_IDENTIFIER, 32),
            Split::Frame { len: 32 }
        );
        let two = [bytes.clone(), bytes].concat();
        assert_eq!(
            split(&two, REQUEST_IDENTIFIER, 32),
            Split::Frame { len: 32 }
        );
    }

    #[test]
    fn lengths_and_identifiers_are_refused_as_soon_as_they_are_seen() {
        let huge = [0xff; 4];
        assert!(matches!(
            split(&huge, REQUEST_IDENTIFIER, 100),
            Split::Bad(BadFrame::TooLong { max: 100, .. })
        ));
        assert_eq!(
            split(b"GET / HTTP/1.1", REQUEST_IDENTIFIER, 100),
            Split::Bad(BadFrame::Http)
        );
        assert!(matches!(
            split(&frame(20), REQUEST_IDENTIFIER, 31),
            Split::Bad(BadFrame::TooLong { len: 32, max: 31 })
        ));
        assert!(matches!(
            split(&[7, 0, 0, 0], REQUEST_IDENTIFIER, 100),
            Split::Bad(BadFrame::TooShort { len: 11 })
        ));
        assert!(matches!(
            split(&frame(20)[..12], REPLY_IDENTIFIER, 100),
            Split::Bad(BadFrame::Identifier { .. })
        ));
        assert_eq!(
            check_whole(&[frame(3), vec![0]].concat(), REQUEST_IDENTIFIER, 100),
            Err(BadFrame::Length)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), max in 12usize..80) {
            match split(&bytes, REQUEST_IDENTIFIER, max) {
                Split::Frame { len } => prop_assert!(len >= 12 && len <= max && len <= bytes.len()),
                Split::NeedMore { total } => prop_assert!(total.is_none_or(|t| t > bytes.len() && t <= max)),
                Split::Bad(_) => {}
            }
        }
    }
}
