//! The opaque token of what a client has seen of one key: its vector under a keyed MAC.
//!
//! ```text
//! format u8 = 1 | the vector's encoding (`causal::version_vector`), never empty | MAC, 16 bytes
//! ```
//!
//! The empty vector is the empty token, so that each vector has one token under a key. The MAC is
//! SipHash-2-4 with 128 bits of output, keyed with the cluster's secret, over:
//!
//! ```text
//! "armilla context\0" | cluster u128 | bucket length u32 | bucket | key length u32 | key |
//! length u32 of the token up to the MAC | token up to the MAC
//! ```
//!
//! Numbers are little-endian. Clients hand a token back as it came; only nodes read it, and a token
//! of another format is refused, so the format may change. Golden vectors:
//! `schema/vectors/context.json`.

use super::version_vector::VersionVector;
use crate::base::limits;
use crate::base::marks::mark;
use crate::base::planted::planted;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;

const FORMAT: u8 = 1;
const MAC_BYTES: usize = 16;
const DOMAIN: &[u8] = b"armilla context\0";

/// A cluster's secret for contexts.
#[derive(Clone)]
pub struct ContextKey(pub [u8; 16]);

/// Secrets do not reach logs.
impl fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextKey(..)")
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("not a context of this format")]
    Malformed,
    #[error("not a context of this key, bucket and cluster")]
    Foreign,
}

/// Two live keys: `current` signs, both verify, so that the secret can be changed under load.
#[derive(Clone, Debug)]
pub struct ContextKeys {
    pub current: ContextKey,
    pub previous: Option<ContextKey>,
}

impl ContextKeys {
    /// Appends the token of `vector`, which fits, for this key to `out`. The empty vector's token
    /// is empty.
    pub fn seal(
        &self,
        cluster: u128,
        bucket: &[u8],
        key: &[u8],
        vector: &VersionVector,
        out: &mut Vec<u8>,
    ) {
        if vector.is_empty() {
            return;
        }
        let start = out.len();
        out.push(FORMAT);
        vector.encode(out);
        let mac = self.current.mac(cluster, bucket, key, &out[start..]);
        out.extend_from_slice(&mac);
        assert!(out.len() - start <= limits::CONTEXT_BYTES_MAX);
    }

    /// The vector of a token that this cluster gave out for this key. An empty token is the empty
    /// vector.
    pub fn open(
        &self,
        cluster: u128,
        bucket: &[u8],
        key: &[u8],
        token: &[u8],
    ) -> Result<VersionVector, Refused> {
        if token.is_empty() {
            return Ok(VersionVector::default());
        }
        if token.len() > limits::CONTEXT_BYTES_MAX || token[0] != FORMAT {
            return Err(Refused::Malformed);
        }
        let (body, mac) = token
            .split_last_chunk::<MAC_BYTES>()
            .ok_or(Refused::Malformed)?;
        let signed_by = |secret: &ContextKey| equal(&secret.mac(cluster, bucket, key, body), mac);
        if !signed_by(&self.current) && !planted!(ContextOfAnyKey) {
            if !self.previous.as_ref().is_some_and(signed_by) {
                mark!(ContextForeign);
                return Err(Refused::Foreign);
            }
            mark!(ContextOfPreviousKey);
        }
        // The MAC says who wrote it, not that it is well: a node with a bug may have signed it.
        let mut rest = body.get(1..).ok_or(Refused::Malformed)?;
        let vector = VersionVector::decode(&mut rest).ok_or(Refused::Malformed)?;
        if !rest.is_empty() || vector.is_empty() {
            return Err(Refused::Malformed);
        }
        Ok(vector)
    }
}

impl ContextKey {
    /// The MAC of a token for this key of this bucket; `body` is the token up to it.
    pub fn mac(&self, cluster: u128, bucket: &[u8], key: &[u8], body: &[u8]) -> [u8; MAC_BYTES] {
        // `write` alone takes bytes as they are; the hasher's integer methods add nothing we could
        // document.
        let mut mac = SipHasher24::new_with_key(&self.0);
        mac.write(DOMAIN);
        mac.write(&cluster.to_le_bytes());
        for part in [bucket, key, body] {
            assert!(u32::try_from(part.len()).is_ok());
            mac.write(&(part.len() as u32).to_le_bytes());
            mac.write(part);
        }
        mac.finish128().as_bytes()
    }
}

/// In the same time wherever they differ, so that a MAC cannot be guessed byte by byte.
fn equal(one: &[u8; MAC_BYTES], other: &[u8; MAC_BYTES]) -> bool {
    let differing = one.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_does_not_make_a_token_well_formed() {
        let current = ContextKey([7; MAC_BYTES]);
        let signed = |body: &[u8]| [body, &current.mac(1, b"b", b"k", body)].concat();
        let well_formed = [FORMAT, 1, 9, 0, 0, 0, 0, 0, 0, 0, 2, 3];
        let trailing = [&well_formed[..], &[0]].concat();
        let keys = ContextKeys {
            current: current.clone(),
            previous: None,
        };
        assert!(keys.open(1, b"b", b"k", &signed(&well_formed)).is_ok());
        // No vector; the empty one, whose token is empty; a vector cut short; one with more behind
        // it.
        for body in [&[FORMAT][..], &[FORMAT, 0], &well_formed[..11], &trailing] {
            let opened = keys.open(1, b"b", b"k", &signed(body));
            assert_eq!(opened, Err(Refused::Malformed), "{body:?}");
        }
    }
}
