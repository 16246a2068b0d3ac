//! Every fault of the simulated world as an option; all are off by default. Probabilities are
//! between 0 and 1.

use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub scheduler: SchedulerFaults,
    pub disk: DiskFaults,
    pub net: NetFaults,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SchedulerFaults {
    /// A poll after which the whole process stands still for up to `stall_max`.
    pub stall: f64,
    pub stall_max: Duration,
    /// How often `simulated_delay` is true.
    pub delay: f64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// EIO; nothing is read.
    pub read_error: f64,
    /// EIO; any subset of the sectors was written.
    pub write_error: f64,
    /// EIO; the writes since the last sync are lost, but the next sync says all is well.
    pub sync_error: f64,
    /// A read before which one bit of its range rots on the medium.
    pub bit_rot: f64,
    /// A write that lands on another page of its file, acknowledged.
    pub misdirected_write: f64,
    /// A read that answers with another page of its file.
    pub misdirected_read: f64,
    /// A write that is acknowledged and never happens.
    pub lost_write: f64,
    /// An operation a hundred times slower.
    pub slow: f64,
    /// Added to the time of every operation.
    pub hang: Duration,
    /// Bytes of the file system of each machine; without it there is room for ever.
    pub capacity: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct NetFaults {
    /// A piece of a stream that waits for a retransmission, and all behind it.
    pub loss: f64,
    /// A piece with which the connection is reset on both sides.
    pub reset: f64,
    /// A piece with which the receiver forgets the connection while the sender does not know.
    pub half_open: f64,
    /// A piece of which one bit flips.
    pub bit_flip: f64,
    /// The most that is added to the delay of each directed pair of machines, drawn once a pair.
    pub link_delay_max: Duration,
}
