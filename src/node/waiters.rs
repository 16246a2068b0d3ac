//! Requests that wait for a commit group: their replies leave when it is durable, and not before.

use super::keys::KeysPage;
use crate::base::units::Nanos;
use crate::coordinator::put::Put;
use crate::engine::key::Key;
use crate::engine::{Entry, GroupNumber};
use crate::replica::write::Refusal;
use crate::runtime::mailbox::Ticket;
use crate::runtime::net::ConnectionId;
use crate::runtime::notify::Notify;
use crate::wire::message::{Op, Receipt};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    Connection(ConnectionId),
    /// The shard whose client asked, and until when that waits.
    Shard {
        ticket: Ticket,
        deadline: Nanos,
    },
    /// The node that forwarded a client's request, and what that node calls it.
    Peer {
        connection: ConnectionId,
        id: u64,
    },
}

/// Who asked for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub to: ReplyTo,
    pub request: u64,
    pub op: Op,
    /// `None`: its door measures how long it takes.
    pub began: Option<Nanos>,
    pub deadline: Nanos,
    /// Bytes of values that the reply will hold, as far as is known.
    pub promised: usize,
}

#[derive(Debug)]
pub enum Waiting {
    /// A put or delete, minted here or held from an earlier try.
    Put(Put),
    /// A refusal that tells of a state which is not durable yet.
    Refused(Refusal),
    /// A get of a state which is not durable yet.
    Get {
        key: Key,
        entry: Rc<Entry>,
        receipt: Receipt,
    },
    /// A page of keys, some of which are not durable yet.
    Keys(KeysPage),
}

#[derive(Debug)]
pub struct Waiter {
    pub asker: Asker,
    pub waiting: Waiting,
}

/// The waiters of each group, at most a few groups at a time.
#[derive(Debug, Default)]
pub struct Waiters {
    groups: BTreeMap<GroupNumber, Vec<Waiter>>,
    /// Tasks that wait for a group.
    signals: BTreeMap<GroupNumber, Vec<Rc<Notify>>>,
}

impl Waiters {
    pub fn add(&mut self, group: GroupNumber, waiter: Waiter) {
        self.groups.entry(group).or_default().push(waiter);
    }

    /// Notified when the group is durable, or never will be.
    pub fn signal(&mut self, group: GroupNumber) -> Rc<Notify> {
        let signal: Rc<Notify> = Rc::default();
        self.signals.entry(group).or_default().push(signal.clone());
        signal
    }

    /// Takes out those whose group is durable, in the order of the groups.
    pub fn durable(&mut self, durable: GroupNumber) -> Vec<Waiter> {
        while let Some(first) = self.signals.first_entry()
            && *first.key() <= durable
        {
            first.remove().iter().for_each(|signal| signal.notify());
        }
        let mut ready = Vec::new();
        while let Some(first) = self.groups.first_entry() {
            if *first.key() > durable {
                break;
            }
            match ready.is_empty() {
                true => ready = first.remove(),
                false => ready.extend(first.remove()),
            }
        }
        ready
    }

    pub fn all(&mut self) -> Vec<Waiter> {
        let signals = std::mem::take(&mut self.signals);
        signals
            .values()
            .flatten()
            .for_each(|signal| signal.notify());
        std::mem::take(&mut self.groups)
            .into_values()
            .flatten()
            .collect()
    }

    /// Takes out those whose deadline has passed.
    pub fn expired(&mut self, now: Nanos) -> Vec<Waiter> {
        let mut expired = Vec::new();
        for waiters in self.groups.values_mut() {
            if waiters.iter().any(|w| w.asker.deadline <= now) {
                expired.extend(waiters.extract_if(.., |w| w.asker.deadline <= now));
            }
        }
        expired
    }
}
