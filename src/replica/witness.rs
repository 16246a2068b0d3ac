//! What was minted, in the order of the log, for the simulator's checker; nothing without the feature `sim`.
//!
//! The checker judges a mint by what the store really held then, never by the vector the mint claims.

use crate::causal::dot::Dot;
use crate::causal::version_vector::VersionVector;
use crate::engine::GroupNumber;

/// One mint that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    pub key: Vec<u8>,
    pub operation: u128,
    pub dot: Dot,
    /// Dots of the siblings before and after, sorted.
    pub before: Vec<Dot>,
    pub after: Vec<Dot>,
    /// What the write superseded: all that its context, or for an overwrite the state it met, had seen.
    pub superseded: VersionVector,
    pub group: GroupNumber,
}

#[cfg(feature = "sim")]
mod recorder {
    use super::Minted;
    use std::cell::RefCell;

    thread_local! {
        static MINTS: RefCell<Option<Vec<Minted>>> = const { RefCell::new(None) };
    }

    pub fn record(minted: impl FnOnce() -> Minted) {
        MINTS.with_borrow_mut(|mints| {
            if let Some(mints) = mints {
                mints.push(minted());
            }
        });
    }

    /// Starts recording on this thread, from nothing.
    pub fn start() {
        MINTS.set(Some(Vec::new()));
    }

    /// Takes what was recorded since the last call.
    pub fn take() -> Vec<Minted> {
        MINTS.with_borrow_mut(|mints| mints.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

#[cfg(feature = "sim")]
pub use recorder::{record, start, take};

#[cfg(not(feature = "sim"))]
pub fn record(_minted: impl FnOnce() -> Minted) {}
