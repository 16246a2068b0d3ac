//! Disk operations in flight. The slot owns all that the kernel reads or writes, until the completion; the future
//! that waits only names the slot, so it may be dropped at any moment (rule 10).
#![allow(unsafe_code)]

use super::Shard;
use super::file::Handle;
use super::ring::{Kind, SLOTS_MAX, Tag};
use crate::runtime::buffer::PageBuffer;
use io_uring::squeue;
use std::ffi::CString;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What an operation keeps alive.
#[derive(Default)]
pub(super) struct Held {
    pub(super) pages: Option<PageBuffer>,
    pub(super) bytes: Vec<u8>,
    pub(super) names: [Option<CString>; 2],
    /// Keeps the descriptor open.
    pub(super) _file: Option<Rc<Handle>>,
}

enum State {
    Free,
    InFlight(Option<Waker>),
    /// Nobody waits any more; the completion frees the slot.
    Abandoned,
    Done(i32),
}

struct Slot {
    generation: u32,
    state: State,
    held: Held,
}

#[derive(Default)]
pub(super) struct Operations {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Operations {
    fn insert(&mut self, held: Held) -> Tag {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                state: State::Free,
                held: Held::default(),
            });
            self.slots.len() as u32 - 1
        });
        assert!(slot < SLOTS_MAX);
        let place = &mut self.slots[slot as usize];
        assert!(matches!(place.state, State::Free));
        place.state = State::InFlight(None);
        place.held = held;
        Tag {
            kind: Kind::Disk,
            slot,
            generation: place.generation,
        }
    }

    fn slot(&mut self, tag: Tag) -> &mut Slot {
        let slot = &mut self.slots[tag.slot as usize];
        assert_eq!(slot.generation, tag.generation, "a slot is freed once");
        slot
    }

    fn free(&mut self, tag: Tag) -> Held {
        let slot = self.slot(tag);
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        let held = std::mem::take(&mut slot.held);
        self.free.push(tag.slot);
        held
    }

    pub(super) fn complete(&mut self, tag: Tag, result: i32) {
        match std::mem::replace(&mut self.slot(tag).state, State::Done(result)) {
            State::InFlight(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Abandoned => drop(self.free(tag)),
            State::Free | State::Done(_) => unreachable!("a disk entry completes once"),
        }
    }
}

/// Waits for one operation; gives the result (a count, or a negative errno) and what the slot held.
pub(super) struct Operation {
    shard: Shard,
    /// None when the shard was ending and nothing was queued.
    tag: Option<Tag>,
    refused: Option<Held>,
}

impl Future for Operation {
    type Output = (i32, Held);
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(i32, Held)> {
        let Some(tag) = self.tag else {
            let held = self.refused.take().expect("polled after its end");
            return Poll::Ready((-libc::ECANCELED, held));
        };
        let mut operations = self.shard.0.operations.borrow_mut();
        match &mut operations.slot(tag).state {
            State::Done(result) => {
                let result = *result;
                let held = operations.free(tag);
                drop(operations);
                self.tag = None;
                Poll::Ready((result, held))
            }
            State::InFlight(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Free | State::Abandoned => unreachable!("its future is here"),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Some(tag) = self.tag else {
            return;
        };
        let mut operations = self.shard.0.operations.borrow_mut();
        let slot = operations.slot(tag);
        match slot.state {
            State::Done(_) => drop(operations.free(tag)),
            _ => slot.state = State::Abandoned,
        }
    }
}

impl Shard {
    /// Queues one entry at once; `entry` makes it from what the slot holds.
    pub(super) fn operate(
        &self,
        mut held: Held,
        entry: impl FnOnce(&mut Held) -> squeue::Entry,
    ) -> Operation {
        if self.0.ending.get() {
            return self.refused(held);
        }
        let entry = entry(&mut held);
        let tag = self.0.operations.borrow_mut().insert(held);
        // SAFETY: heap memory and descriptor lie in the slot until the completion; moving `held` moved no heap
        // memory.
        unsafe { self.0.ring.push(entry.user_data(tag.encode())) };
        self.0.bell.ring();
        self.waiting(tag)
    }

    /// Queues two linked entries: `then` is started by the success of the first.
    pub(super) fn operate_linked(
        &self,
        first: (Held, squeue::Entry),
        then: (Held, squeue::Entry),
    ) -> (Operation, Operation) {
        if self.0.ending.get() {
            return (self.refused(first.0), self.refused(then.0));
        }
        let mut operations = self.0.operations.borrow_mut();
        let a = operations.insert(first.0);
        let b = operations.insert(then.0);
        drop(operations);
        // SAFETY: as above, for both.
        unsafe {
            self.0
                .ring
                .push_linked(first.1.user_data(a.encode()), then.1.user_data(b.encode()));
        }
        self.0.bell.ring();
        (self.waiting(a), self.waiting(b))
    }

    fn waiting(&self, tag: Tag) -> Operation {
        Operation {
            shard: self.clone(),
            tag: Some(tag),
            refused: None,
        }
    }

    fn refused(&self, held: Held) -> Operation {
        Operation {
            shard: self.clone(),
            tag: None,
            refused: Some(held),
        }
    }
}
