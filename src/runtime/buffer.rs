//! Page-aligned memory for direct I/O.

/// Owned bytes whose address is page-aligned and whose capacity is whole pages; zeroed when made.
///
/// Handed to a write or returned by a read; never borrowed by the kernel while the caller holds it.
pub struct PageBuffer {
    bytes: Vec<u8>, // the real one is an aligned allocation
}

impl PageBuffer {
    /// Zeroed, at least `len` bytes, rounded up to pages.
    pub fn zeroed(len: usize) -> PageBuffer {
        PageBuffer {
            bytes: vec![0; len.next_multiple_of(crate::base::limits::PAGE_BYTES)],
        }
    }
}

impl std::ops::Deref for PageBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
