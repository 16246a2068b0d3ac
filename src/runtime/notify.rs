//! Waking one task from another of the same executor.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A latch: `notify` sets it, `notified` waits until it is set and clears it. One waiter at a time; no notification
/// is lost.
#[derive(Debug, Default)]
pub struct Notify {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    pub fn notify(&self) {
        self.set.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    pub async fn notified(&self) {
        poll_fn(|cx| {
            if self.set.replace(false) {
                self.waiter.borrow_mut().take();
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            if !waiter.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waiter = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};
    use std::pin::pin;

    #[test]
    fn a_notification_before_the_wait_is_kept_and_only_once() {
        block_on(async {
            let latch = Notify::default();
            latch.notify();
            latch.notify();
            latch.notified().await;
            assert!(poll_once(latch.notified()).await.is_none());
        });
    }

    #[test]
    fn wakes_a_waiter() {
        block_on(async {
            let latch = Notify::default();
            zip(latch.notified(), async { latch.notify() }).await;
        });
    }

    #[test]
    fn a_dropped_waiter_takes_nothing_with_it() {
        block_on(async {
            let latch = Notify::default();
            {
                let mut wait = pin!(latch.notified());
                assert!(poll_once(&mut wait).await.is_none());
                latch.notify();
            }
            latch.notified().await;
        });
    }
}
