//! The bytes that the connections of a shard may hold, for unfinished requests, unsent replies and what requests under
//! way will need: one number, so that a thousand modest connections cannot take what one greedy connection may not.
//!
//! 1 Long frames grow while there is room; when there is none, one at a time is finished, whatever it takes, and the
//! others wait. 2 The fuller it gets, the fewer replies a connection may leave unread; when it is full, none. 3 What
//! is small goes over it by a receive buffer or a short reply a connection, no more.

use crate::base::limits::{
    BUFFER_PART_OF_MEMORY, CONNECTION_UNSENT_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX,
    RECV_BUFFER_BYTES, RECV_BUFFERS, SHARD_FIXED_BYTES, SMALL_BYTES_MAX,
};

/// How a shard's part of `--memory` is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Entries, and the cache of values.
    pub engine_bytes: usize,
    /// Unfinished requests and unsent replies.
    pub buffer_bytes: usize,
}

/// Connections get a part, but room for two of the longest requests in any case; the ring's receive buffers, and what
/// every shard needs besides, are taken off; the engine has the rest, and a quarter at least.
pub fn share(memory_bytes: usize, value_bytes_max: usize) -> Shares {
    let buffer_bytes = buffer_bytes_min(value_bytes_max).max(memory_bytes / BUFFER_PART_OF_MEMORY);
    let receive = usize::from(RECV_BUFFERS) * RECV_BUFFER_BYTES;
    Shares {
        engine_bytes: memory_bytes
            .saturating_sub(buffer_bytes + receive + SHARD_FIXED_BYTES)
            .max(memory_bytes / 4),
        buffer_bytes,
    }
}

fn buffer_bytes_min(value_bytes_max: usize) -> usize {
    2 * (value_bytes_max + FRAME_OVERHEAD_BYTES_MAX)
}

#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    used: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Budget {
        Budget { bytes_max, used: 0 }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Somebody who held `before` bytes holds `after` now.
    pub fn change(&mut self, before: usize, after: usize) {
        assert!(self.used >= before, "bytes are given back once");
        self.used = self.used - before + after;
    }

    pub fn is_full(&self) -> bool {
        self.used >= self.bytes_max
    }

    /// Whether those who hold much and move little have to go.
    pub fn is_pressed(&self) -> bool {
        self.used > self.pressed_at()
    }

    /// The bytes at which `is_pressed` begins, and above which long frames wait.
    fn pressed_at(&self) -> usize {
        self.bytes_max / 4 * 3
    }

    /// The bytes that are left when enough of those have gone.
    pub fn relieved_at(&self) -> usize {
        self.bytes_max / 2
    }

    /// Whether long frames may grow by so much. What they may not take is left to small ones.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used + bytes <= self.pressed_at()
    }

    /// Whether so much may be put into a reply, or wait in a request under way. The largest reply may be larger than
    /// the whole budget: it is made when nearly nothing else is there.
    pub fn has_room_for_values(&self, bytes: usize) -> bool {
        self.has_room_for_values_of(bytes, 0)
    }

    /// The same where `leaving` of the bytes in use go in a moment: those of the frame that brought the values, which
    /// would be counted twice, so that what is more than half of the budget could never be taken.
    pub fn has_room_for_values_of(&self, bytes: usize, leaving: usize) -> bool {
        let used = self.used.saturating_sub(leaving);
        bytes <= SMALL_BYTES_MAX || used + bytes <= self.bytes_max || used <= self.bytes_max / 8
    }

    /// Bytes of replies that one connection may leave unread before its requests are no longer served.
    pub fn unsent_max(&self) -> usize {
        let free = self.bytes_max.saturating_sub(self.used);
        (free / 4).min(CONNECTION_UNSENT_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::MIB;

    #[test]
    fn memory_is_shared_out_and_the_longest_request_always_fits() {
        let shares = share(1024 * MIB, MIB);
        assert_eq!(shares.buffer_bytes, 256 * MIB);
        assert_eq!(shares.engine_bytes, 754 * MIB);
        for (memory, value) in [(MIB / 2, MIB), (16 * MIB, 16 * MIB), (64 * MIB, MIB)] {
            let shares = share(memory, value);
            assert!(shares.engine_bytes >= memory / 4);
            let empty = Budget::new(shares.buffer_bytes);
            assert!(empty.has_room(value + FRAME_OVERHEAD_BYTES_MAX));
        }
    }

    #[test]
    fn the_fuller_it_is_the_less_a_connection_may_leave_unread() {
        let mut budget = Budget::new(16 * MIB);
        assert_eq!(budget.unsent_max(), MIB);
        budget.change(0, 14 * MIB);
        assert_eq!(budget.unsent_max(), MIB / 2);
        assert!(budget.is_pressed() && !budget.has_room(1));
        assert!(budget.has_room_for_values(2 * MIB) && !budget.has_room_for_values(2 * MIB + 1));
        budget.change(0, 3 * MIB);
        assert!(budget.is_full() && budget.has_room_for_values(SMALL_BYTES_MAX));
        assert_eq!(budget.unsent_max(), 0);
        budget.change(17 * MIB, MIB);
        assert!(
            budget.has_room_for_values(80 * MIB),
            "the largest reply is made alone"
        );
        // So is the largest state of a key that another node sends, though its frame is still here.
        budget.change(0, 80 * MIB);
        assert!(!budget.has_room_for_values(80 * MIB));
        assert!(budget.has_room_for_values_of(80 * MIB, 80 * MIB));
    }
}
