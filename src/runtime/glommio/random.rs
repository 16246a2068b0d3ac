//! Random numbers of the operating system: incarnations stand on them, so no generator of our own takes part.
#![allow(unsafe_code)]

use std::cell::Cell;

const BLOCK: usize = 256;

/// Draws from the system in blocks.
pub(super) struct Random {
    block: Cell<[u8; BLOCK]>,
    used: Cell<usize>,
}

impl Random {
    pub(super) fn new() -> Random {
        Random {
            block: Cell::new([0; BLOCK]),
            used: Cell::new(BLOCK),
        }
    }

    pub(super) fn next(&self) -> u64 {
        if self.used.get() == BLOCK {
            self.block.set(draw());
            self.used.set(0);
        }
        let mut block = self.block.get();
        let at = self.used.get();
        let bytes: &mut [u8] = &mut block[at..at + 8];
        let drawn = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        // A number is given out once, and is not left in memory.
        bytes.fill(0);
        self.block.set(block);
        self.used.set(at + 8);
        drawn
    }
}

fn draw() -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    loop {
        // SAFETY: the buffer is ours and its length is given. Up to 256 bytes come whole or not at all.
        let got = unsafe { libc::getrandom(block.as_mut_ptr().cast(), BLOCK, 0) };
        if got == BLOCK as isize {
            return block;
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(
            error.raw_os_error(),
            Some(libc::EINTR),
            "getrandom: {error}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_repeat_over_blocks() {
        let random = Random::new();
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| random.next()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
