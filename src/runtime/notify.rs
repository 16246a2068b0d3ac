//! Waking one task from another of the same executor.

/// A latch: `notify` sets it, `notified` waits until it is set and clears it. One waiter at a time; no notification
/// is lost.
#[derive(Default)]
pub struct Notify {}

impl Notify {
    pub fn notify(&self) {}
    pub async fn notified(&self) {}
}
