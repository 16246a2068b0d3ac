//! Writes of one key go one after another, from lookup to memtable.
//!
//! A key is here only while a write of it waits for the disk (its lookup was answered `MustRead`); most writes
//! never are. Two writes that joined the same old state would each lose the other's sibling, or mint the same dot.

use crate::base::limits;
use crate::engine::key::{Key, KeyRef};
use std::collections::{BTreeMap, VecDeque};

/// The waiting writes of each busy key; `W` is an owned write.
#[derive(Debug)]
pub struct KeyQueue<W> {
    busy: BTreeMap<Key, VecDeque<W>>,
}

impl<W> Default for KeyQueue<W> {
    fn default() -> KeyQueue<W> {
        KeyQueue {
            busy: BTreeMap::new(),
        }
    }
}

impl<W> KeyQueue<W> {
    pub fn is_busy(&self, key: KeyRef<'_>) -> bool {
        !self.busy.is_empty() && self.busy.contains_key(&Key::from(key))
    }

    /// Takes the turn of a key that is not busy.
    pub fn begin(&mut self, key: KeyRef<'_>) {
        let before = self.busy.insert(Key::from(key), VecDeque::new());
        assert!(before.is_none(), "two writes of one key at once");
    }

    /// Waits behind the others; hands the write back if too many wait.
    pub fn wait(&mut self, key: KeyRef<'_>, write: W) -> Result<(), W> {
        let waiting = self
            .busy
            .get_mut(&Key::from(key))
            .expect("only a busy key is waited for");
        if waiting.len() >= limits::KEY_QUEUE_MAX {
            return Err(write);
        }
        waiting.push_back(write);
        Ok(())
    }

    /// Ends a turn: the next write of the key, whose turn it is now, or nothing and the key is free.
    pub fn next(&mut self, key: KeyRef<'_>) -> Option<W> {
        let owned = Key::from(key);
        let next = self
            .busy
            .get_mut(&owned)
            .expect("the turn was begun")
            .pop_front();
        if next.is_none() {
            self.busy.remove(&owned);
        }
        next
    }

    /// Takes out the waiting writes that `which` chooses; those whose turn it is are not among them.
    pub fn take(&mut self, which: impl Fn(&W) -> bool) -> Vec<W> {
        let mut taken = Vec::new();
        for waiting in self.busy.values_mut() {
            if waiting.iter().any(&which) {
                let (out, left) = std::mem::take(waiting).into_iter().partition(&which);
                *waiting = left;
                let out: VecDeque<W> = out;
                taken.extend(out);
            }
        }
        taken
    }

    pub fn len(&self) -> usize {
        self.busy.values().map(|waiting| 1 + waiting.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::position::Position;

    fn key(name: &[u8]) -> KeyRef<'_> {
        KeyRef {
            position: Position(name[0].into()),
            bucket: b"",
            key: name,
        }
    }

    #[test]
    fn writes_of_a_key_come_in_order_and_other_keys_do_not_wait() {
        let mut queue = KeyQueue::default();
        queue.begin(key(b"a"));
        assert!(queue.is_busy(key(b"a")));
        assert!(!queue.is_busy(key(b"b")));
        for n in 0..3 {
            queue.wait(key(b"a"), n).unwrap();
        }
        assert_eq!(queue.len(), 4);
        assert_eq!(
            (0..3)
                .map(|_| queue.next(key(b"a")).unwrap())
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(queue.next(key(b"a")), None);
        assert!(!queue.is_busy(key(b"a")));
    }

    #[test]
    fn chosen_writes_leave_the_queue_and_the_others_keep_their_order() {
        let mut queue = KeyQueue::default();
        queue.begin(key(b"a"));
        for n in 0..6 {
            queue.wait(key(b"a"), n).unwrap();
        }
        assert_eq!(queue.take(|n| n % 2 == 0), [0, 2, 4]);
        assert!(queue.take(|n| *n == 2).is_empty());
        let left: Vec<_> = (0..4).map(|_| queue.next(key(b"a"))).collect();
        assert_eq!(left, [Some(1), Some(3), Some(5), None]);
    }

    #[test]
    fn a_full_queue_hands_the_write_back() {
        let mut queue = KeyQueue::default();
        queue.begin(key(b"a"));
        for n in 0..limits::KEY_QUEUE_MAX {
            queue.wait(key(b"a"), n).unwrap();
        }
        assert_eq!(queue.wait(key(b"a"), 7), Err(7));
    }
}
