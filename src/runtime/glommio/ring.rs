//! The io_uring ring of one shard: entries in, completions out, and what wakes its sleeper.
//!
//! DEFER_TASKRUN: completions appear only inside our own enter with GETEVENTS. TASKRUN_FLAG tells without a system
//! call that there is something to enter for; the registered eventfd is written when the first such work arrives,
//! unless it is disabled.
#![allow(unsafe_code)]

use crate::base::limits::RING_ENTRIES;
use io_uring::{IoUring, squeue};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};

/// What an entry is for: the low byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Connect = 2,
    Receive = 3,
    Send = 4,
    Cancel = 5,
    Disk = 6,
    /// A ring of the doorbell of another shard.
    Doorbell = 7,
    /// Somebody rang ours: no entry of this ring, and nothing but a reason to look.
    Mail = 8,
}

/// The user data of an entry: kind, slot and the generation of the slot's use. Never a descriptor (rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Slots lie in 24 bits of the user data.
pub(super) const SLOTS_MAX: u32 = 1 << 24;

impl Tag {
    pub(super) fn encode(self) -> u64 {
        assert!(self.slot < SLOTS_MAX);
        u64::from(self.generation) << 32 | u64::from(self.slot) << 8 | self.kind as u64
    }

    fn decode(user_data: u64) -> Tag {
        let kind = match user_data as u8 {
            1 => Kind::Accept,
            2 => Kind::Connect,
            3 => Kind::Receive,
            4 => Kind::Send,
            5 => Kind::Cancel,
            6 => Kind::Disk,
            7 => Kind::Doorbell,
            8 => Kind::Mail,
            other => panic!("the kernel returned a kind that was never queued: {other}"),
        };
        Tag {
            kind,
            slot: (user_data as u32) >> 8,
            generation: (user_data >> 32) as u32,
        }
    }
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) tag: Tag,
    /// A count or descriptor, or a negative errno.
    pub(super) result: i32,
    pub(super) buffer: Option<u16>,
    /// The entry stays armed: further completions follow.
    pub(super) more: bool,
}

/// Counters of a ring since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStatistics {
    /// System calls that submitted and reaped.
    pub enters: u64,
    /// Entries submitted.
    pub entries: u64,
    /// Completions reaped.
    pub completions: u64,
    /// Times the completion queue was found to have overflowed: a bug (rule 11).
    pub overflows: u64,
    /// Times the pump went to sleep.
    pub sleeps: u64,
    /// Times the executor showed no life for a while and was woken from outside.
    pub stalls: u64,
    /// Doorbells of other shards that were rung.
    pub doorbells: u64,
    /// Receives that ended for want of a buffer.
    pub receives_parked: u64,
    /// Entries whose last completion has not come.
    pub in_flight: u64,
}

pub(super) struct Ring {
    /// None after teardown.
    uring: RefCell<Option<IoUring>>,
    /// Entries for which the submission queue had no room; a linked pair is never split over two enters.
    backlog: RefCell<VecDeque<(squeue::Entry, Option<squeue::Entry>)>>,
    pub(super) statistics: Cell<RingStatistics>,
}

impl Ring {
    /// Builds the ring on the thread that will drive it: SINGLE_ISSUER binds it to that thread.
    pub(super) fn new(eventfd: RawFd) -> io::Result<Ring> {
        let uring = builder().build(RING_ENTRIES)?;
        uring.submitter().register_eventfd(eventfd)?;
        let mut ring = uring;
        ring.completion().disable_eventfd();
        Ok(Ring {
            uring: RefCell::new(Some(ring)),
            backlog: RefCell::default(),
            statistics: Cell::default(),
        })
    }

    fn count(&self, change: impl FnOnce(&mut RingStatistics)) {
        let mut statistics = self.statistics.get();
        change(&mut statistics);
        self.statistics.set(statistics);
    }

    pub(super) fn count_parked(&self) {
        self.count(|s| s.receives_parked += 1);
    }

    pub(super) fn count_sleep(&self) {
        self.count(|s| s.sleeps += 1);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.statistics.get().in_flight
    }

    /// Queues an entry for the next enter.
    ///
    /// # Safety
    /// What the entry points to, and its descriptor, must stay valid until its last completion.
    pub(super) unsafe fn push(&self, entry: squeue::Entry) {
        // SAFETY: promised by the caller.
        unsafe { self.push_pair(entry, None) }
    }

    /// Queues `first` linked to `then`: the second starts after the first succeeded in full, else it is cancelled.
    ///
    /// # Safety
    /// As for `push`, for both.
    pub(super) unsafe fn push_linked(&self, first: squeue::Entry, then: squeue::Entry) {
        // SAFETY: promised by the caller.
        unsafe { self.push_pair(first.flags(squeue::Flags::IO_LINK), Some(then)) }
    }

    unsafe fn push_pair(&self, first: squeue::Entry, then: Option<squeue::Entry>) {
        self.count(|s| s.in_flight += 1 + u64::from(then.is_some()));
        self.backlog.borrow_mut().push_back((first, then));
        self.fill();
    }

    /// Moves the backlog into the submission queue as far as it has room.
    fn fill(&self) {
        let mut uring = self.uring.borrow_mut();
        let uring = uring.as_mut().expect("nothing is queued after teardown");
        let mut backlog = self.backlog.borrow_mut();
        let mut queue = uring.submission();
        while let Some((_, then)) = backlog.front() {
            if queue.capacity() - queue.len() < 1 + usize::from(then.is_some()) {
                return;
            }
            let (first, then) = backlog.pop_front().expect("it has a front");
            // SAFETY: whoever called `push` promised that the entry's memory and descriptor live until its
            // completion.
            unsafe {
                queue.push(&first).expect("there is room for it");
                if let Some(then) = then {
                    queue.push(&then).expect("there is room for it");
                }
            }
        }
    }

    /// Whether an entry waits for an enter.
    pub(super) fn has_unsubmitted(&self) -> bool {
        let mut uring = self.uring.borrow_mut();
        let Some(uring) = uring.as_mut() else {
            return false;
        };
        !uring.submission().is_empty() || !self.backlog.borrow().is_empty()
    }

    /// Whether an enter would find completions: a look at shared memory, no system call.
    pub(super) fn has_completions(&self) -> bool {
        let mut uring = self.uring.borrow_mut();
        let Some(uring) = uring.as_mut() else {
            return false;
        };
        if !uring.completion().is_empty() {
            return true;
        }
        let queue = uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// One enter: submits all that is queued, runs deferred work and moves the completions to the end of `into`.
    pub(super) fn enter(&self, into: &mut Vec<Completion>) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
        self.fill();
        let mut uring = self.uring.borrow_mut();
        let uring = uring.as_mut().expect("the pump ends before teardown");
        let waiting = uring.submission().len() as u32;
        // SAFETY: no argument is passed; the entries were vouched for by whoever queued them.
        let entered = unsafe {
            uring
                .submitter()
                .enter::<libc::sigset_t>(waiting, 0, GETEVENTS, None)
        };
        let submitted = match entered {
            Ok(submitted) => submitted as u64,
            // Interrupted, or short of room: what is left is submitted by the next enter, after these are reaped.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) =>
            {
                0
            }
            Err(e) => return Err(e),
        };
        let overflowed = uring.submission().cq_overflow();
        let before = into.len();
        let mut ended = 0;
        for entry in uring.completion() {
            let more = io_uring::cqueue::more(entry.flags());
            let tag = Tag::decode(entry.user_data());
            ended += u64::from(!more && tag.kind != Kind::Mail);
            into.push(Completion {
                tag,
                result: entry.result(),
                buffer: io_uring::cqueue::buffer_select(entry.flags()),
                more,
            });
        }
        self.count(|s| {
            s.enters += 1;
            s.entries += submitted;
            s.completions += (into.len() - before) as u64;
            s.overflows += u64::from(overflowed);
            assert!(s.in_flight >= ended, "more completions than entries");
            s.in_flight -= ended;
        });
        Ok(())
    }

    /// Has the eventfd written from now on, and says whether it is safe to sleep: nothing arrived before.
    pub(super) fn prepare_to_sleep(&self) -> bool {
        if let Some(uring) = self.uring.borrow_mut().as_mut() {
            uring.completion().enable_eventfd();
        }
        // The kernel raises TASKRUN and then looks at our flag; we write the flag and then look at TASKRUN.
        fence(Ordering::SeqCst);
        !self.has_completions() && !self.has_unsubmitted()
    }

    pub(super) fn awake(&self) {
        if let Some(uring) = self.uring.borrow_mut().as_mut() {
            uring.completion().disable_eventfd();
        }
    }

    /// Another descriptor of this ring, for others to ring its bell.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        let uring = self.uring.borrow();
        let uring = uring.as_ref().expect("duplicated before teardown");
        // SAFETY: the ring, and so its descriptor, lives through this call.
        unsafe { BorrowedFd::borrow_raw(uring.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Registers the ring of receive buffers.
    ///
    /// # Safety
    /// `address` points to `entries` buffer entries that live until `close`.
    pub(super) unsafe fn register_buffers(&self, address: u64, entries: u16) -> io::Result<()> {
        let uring = self.uring.borrow();
        let uring = uring.as_ref().expect("registered before teardown");
        // SAFETY: promised by the caller.
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(address, entries, 0, 0)
        }
    }

    /// Closes the ring; nothing may be in flight.
    pub(super) fn close(&self) {
        assert_eq!(self.in_flight(), 0, "a ring is closed when it is drained");
        self.uring.borrow_mut().take();
    }
}

/// The flags of every ring that we make; preflight tries the same.
pub(in crate::runtime) fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(4 * RING_ENTRIES);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_the_trip() {
        for kind in [
            Kind::Accept,
            Kind::Connect,
            Kind::Receive,
            Kind::Send,
            Kind::Cancel,
            Kind::Disk,
            Kind::Doorbell,
            Kind::Mail,
        ] {
            for (slot, generation) in [(0, 0), (1, u32::MAX), (SLOTS_MAX - 1, 7)] {
                let tag = Tag {
                    kind,
                    slot,
                    generation,
                };
                assert_eq!(Tag::decode(tag.encode()), tag);
            }
        }
    }
}
