//! Operation ids, from the randomness of the operating system.

use crate::causal::object::OperationId;
use std::fs::File;
use std::io::{self, Read};

/// Draws operation ids. Nothing is kept between two draws, so that a forked process does not draw the same
/// ones.
pub(super) struct Operations {
    source: File,
}

impl Operations {
    pub(super) fn open() -> io::Result<Operations> {
        Ok(Operations {
            source: File::open("/dev/urandom")?,
        })
    }

    /// Never zero: zero is "none given".
    pub(super) fn draw(&self) -> io::Result<OperationId> {
        let mut bytes = [0; 16];
        (&self.source).read_exact(&mut bytes)?;
        Ok(OperationId(u128::from_le_bytes(bytes).max(1)))
    }
}
