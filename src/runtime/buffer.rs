//! Page-aligned memory for direct I/O.
#![allow(unsafe_code)]

use crate::base::limits::PAGE_BYTES;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Owned bytes whose address is page-aligned and whose capacity is whole pages; zeroed when made, or filled by a read.
///
/// Handed to a write or returned by a read; never borrowed by the kernel while the caller holds it.
pub struct PageBuffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is owned by this value alone, as in a Box<[u8]>; nothing in it is bound to a thread.
unsafe impl Send for PageBuffer {}
// SAFETY: a shared reference gives only shared access to plain bytes.
unsafe impl Sync for PageBuffer {}

impl PageBuffer {
    /// Zeroed, at least `len` bytes, rounded up to pages; one page at least.
    pub fn zeroed(len: usize) -> PageBuffer {
        let len = len.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: the layout's size is not zero: it is one page or more.
        let start = unsafe { alloc_zeroed(layout(len)) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout(len))
        };
        PageBuffer { start, len }
    }

    /// `len` bytes, whole pages, for a read of the kernel to fill: zeroing them first costs a seventh of a bulk read.
    ///
    /// # Safety
    /// Nobody looks at the bytes before the kernel has written all of them.
    pub(super) unsafe fn unwritten(len: usize) -> PageBuffer {
        assert!(len > 0 && len.is_multiple_of(PAGE_BYTES));
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc(layout(len)) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout(len))
        };
        PageBuffer { start, len }
    }

    /// The address that the kernel is given. What it writes is seen through `Deref` only after its completion.
    pub(super) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, PAGE_BYTES)
        .expect("a buffer is far smaller than the address space")
}

impl Drop for PageBuffer {
    fn drop(&mut self) {
        // SAFETY: `start` came from the allocator with this very layout and is freed once.
        unsafe { dealloc(self.start.as_ptr(), layout(self.len)) }
    }
}

impl std::ops::Deref for PageBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that we own; no operation of the kernel is open on a buffer the caller holds.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_zeroed_and_whole_pages() {
        for (asked, made) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192)] {
            let mut buffer = PageBuffer::zeroed(asked);
            assert_eq!(buffer.len(), made);
            assert_eq!(buffer.as_ptr() as usize % PAGE_BYTES, 0);
            assert!(buffer.iter().all(|&b| b == 0));
            buffer.fill(7);
            assert!(buffer.iter().all(|&b| b == 7));
        }
    }
}
