//! The receive buffers of a shard: a ring of them that the kernel takes from, and the leases that give them back.
#![allow(unsafe_code)]

use super::pump::Bell;
use super::ring::Ring;
use crate::base::limits::{
    PAGE_BYTES, RECV_BUFFER_BYTES, RECV_BUFFERS, RECV_BUFFERS_PER_CONNECTION_MAX,
};
use crate::runtime::buffer::PageBuffer;
use io_uring::types::BufRingEntry;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

const _: () = assert!(RECV_BUFFERS as usize * size_of::<BufRingEntry>() >= PAGE_BYTES);

/// All receive buffers. It outlives the ring and every lease (rule 10).
pub(super) struct Pool {
    memory: PageBuffer,
    /// The entries shared with the kernel; the tail lies in the first one's reserved field.
    entries: PageBuffer,
    tail: Cell<u16>,
    leased: Cell<u16>,
    /// Somebody waits for a buffer or for a connection's leases: a return wakes the pump.
    pub(super) wanted: Cell<bool>,
    bell: Rc<Bell>,
}

impl Pool {
    pub(super) fn new(ring: &Ring, bell: Rc<Bell>) -> io::Result<Rc<Pool>> {
        let pool = Pool {
            memory: PageBuffer::zeroed(RECV_BUFFERS as usize * RECV_BUFFER_BYTES),
            entries: PageBuffer::zeroed(RECV_BUFFERS as usize * size_of::<BufRingEntry>()),
            tail: Cell::new(0),
            leased: Cell::new(RECV_BUFFERS),
            wanted: Cell::new(false),
            bell,
        };
        // SAFETY: the entries live in the pool, which the shard keeps until its ring is closed.
        unsafe { ring.register_buffers(pool.entries.address() as u64, RECV_BUFFERS)? };
        for buffer in 0..RECV_BUFFERS {
            pool.give_back(buffer);
        }
        Ok(Rc::new(pool))
    }

    /// Buffers that the kernel may take now.
    pub(super) fn free(&self) -> u16 {
        RECV_BUFFERS - self.leased.get()
    }

    fn give_back(&self, buffer: u16) {
        assert!(buffer < RECV_BUFFERS && self.leased.get() > 0);
        let tail = self.tail.get();
        let place = usize::from(tail % RECV_BUFFERS);
        let base = self.entries.address().cast::<BufRingEntry>();
        // SAFETY: `place` lies inside the entries; between head and tail the kernel only reads, and this place is
        // outside, for there are never more buffers in the ring than places. The reserved field (the tail) is not
        // written by these.
        unsafe {
            let entry = &mut *base.add(place);
            entry.set_addr(self.address(buffer) as u64);
            entry.set_len(RECV_BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail is an aligned u16 in memory that lives as long as the pool; the kernel reads it with
        // acquire.
        unsafe {
            AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut())
                .store(tail.wrapping_add(1), Ordering::Release);
        }
        self.leased.set(self.leased.get() - 1);
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        // SAFETY: the callers asserted that the buffer is one of the pool.
        unsafe {
            self.memory
                .address()
                .add(usize::from(buffer) * RECV_BUFFER_BYTES)
        }
    }

    /// The first `len` bytes of a buffer that the kernel has filled. A connection that holds its share of buffers
    /// gets a copy instead, so that a burst of one never starves the others.
    pub(super) fn lease(self: &Rc<Pool>, buffer: u16, len: usize, held: &Rc<Cell<u32>>) -> Lease {
        assert!(buffer < RECV_BUFFERS && len <= RECV_BUFFER_BYTES);
        self.leased.set(self.leased.get() + 1);
        held.set(held.get() + 1);
        let lease = Lease {
            pool: self.clone(),
            buffer,
            len,
            held: held.clone(),
            copy: None,
        };
        if held.get() as usize <= RECV_BUFFERS_PER_CONNECTION_MAX {
            return lease;
        }
        Lease::copied(lease)
    }

    /// Takes back a buffer that was filled for nobody.
    pub(super) fn discard(&self, buffer: u16) {
        self.leased.set(self.leased.get() + 1);
        self.give_back(buffer);
    }
}

/// Received bytes; dropping gives the buffer back, or the memory where they were copied.
pub struct Lease {
    pool: Rc<Pool>,
    buffer: u16,
    len: usize,
    /// Leases that the connection holds, copies included.
    held: Rc<Cell<u32>>,
    copy: Option<Box<[u8]>>,
}

impl Lease {
    fn copied(mut lease: Lease) -> Lease {
        lease.copy = Some(Box::from(&lease[..]));
        lease.pool.give_back(lease.buffer);
        lease
    }
}

impl std::ops::Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        if let Some(copy) = &self.copy {
            return copy;
        }
        // SAFETY: the kernel filled `len` bytes of this buffer and does not touch it again before it is given back.
        unsafe { std::slice::from_raw_parts(self.pool.address(self.buffer), self.len) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.copy.is_none() {
            self.pool.give_back(self.buffer);
        }
        self.held.set(self.held.get() - 1);
        if self.pool.wanted.get() {
            self.pool.bell.ring();
        }
    }
}
