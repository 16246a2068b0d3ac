//! What one process holds of the network: its connection slots and the events it has not taken.

use crate::runtime::net::{ConnectionId, Event};
use std::collections::VecDeque;
use std::task::Waker;

#[derive(Default)]
struct Slot {
    generation: u32,
    endpoint: Option<u64>,
}

#[derive(Default)]
pub(in crate::runtime::simulated) struct Ports {
    slots: Vec<Slot>,
    /// Oldest first: a slot rests as long as it can before its next use.
    free: VecDeque<u32>,
    events: Vec<Event>,
    waker: Option<Waker>,
}

impl Ports {
    pub(super) fn open(&mut self, endpoint: u64) -> ConnectionId {
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        assert!(place.endpoint.is_none());
        place.endpoint = Some(endpoint);
        place.generation += 1;
        ConnectionId {
            slot,
            generation: place.generation,
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<u64> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.endpoint.filter(|_| slot.generation == id.generation)
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        assert!(self.get(id).is_some());
        self.slots[id.slot as usize].endpoint = None;
        self.free.push_back(id.slot);
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The events, or none and a wake when there is one.
    pub(super) fn take(&mut self, waker: &Waker) -> Vec<Event> {
        if self.events.is_empty() {
            self.waker = Some(waker.clone());
        }
        std::mem::take(&mut self.events)
    }
}
