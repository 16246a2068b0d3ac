//! The opaque token of what a client has seen of one key: its vector under a keyed MAC.

use super::version_vector::VersionVector;

/// A cluster's secret for contexts.
#[derive(Clone)]
pub struct ContextKey(pub [u8; 16]);

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("not a context of this format")]
    Malformed,
    #[error("not a context of this key, bucket and cluster")]
    Foreign,
}

/// Two live keys: `current` signs, both verify, so that the secret can be changed under load.
#[derive(Clone)]
pub struct ContextKeys {
    pub current: ContextKey,
    pub previous: Option<ContextKey>,
}

impl ContextKeys {
    /// Appends the token of `vector` for this key to `out`.
    pub fn seal(
        &self,
        _cluster: u128,
        _bucket: &[u8],
        _key: &[u8],
        _vector: &VersionVector,
        _out: &mut Vec<u8>,
    ) {
    }

    /// The vector of a token that this cluster gave out for this key. An empty token is the empty vector.
    pub fn open(
        &self,
        _cluster: u128,
        _bucket: &[u8],
        _key: &[u8],
        _token: &[u8],
    ) -> Result<VersionVector, Refused> {
        Err(Refused::Malformed)
    }
}
