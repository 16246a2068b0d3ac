//! One holder at a time, across waits: for what several tasks of an executor change, each in more than one step.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::task::{Poll, Waker};

/// Whoever waits is woken when it is free; the first to come takes it.
pub struct Exclusive<T> {
    value: RefCell<Option<T>>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// Gives the value back when it is dropped.
pub struct Held<'a, T> {
    home: &'a Exclusive<T>,
    value: Option<T>,
}

impl<T> Exclusive<T> {
    pub fn new(value: T) -> Exclusive<T> {
        Exclusive {
            value: RefCell::new(Some(value)),
            waiting: RefCell::default(),
        }
    }

    pub async fn lock(&self) -> Held<'_, T> {
        poll_fn(|cx| match self.value.borrow_mut().take() {
            Some(value) => Poll::Ready(Held {
                home: self,
                value: Some(value),
            }),
            None => {
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is held until the drop")
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is held until the drop")
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        *self.home.value.borrow_mut() = self.value.take();
        // All of them: the first may have been dropped meanwhile.
        let waiting = std::mem::take(&mut *self.home.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, yield_now, zip};
    use std::pin::pin;

    #[test]
    fn one_holder_at_a_time_and_everybody_in_the_end() {
        block_on(async {
            let counter = Exclusive::new(0);
            let add = async || {
                for _ in 0..10 {
                    let mut held = counter.lock().await;
                    let before = *held;
                    yield_now().await;
                    *held = before + 1;
                }
            };
            zip(add(), zip(add(), add())).await;
            assert_eq!(*counter.lock().await, 30);
        });
    }

    #[test]
    fn a_dropped_waiter_takes_nothing_with_it() {
        block_on(async {
            let one = Exclusive::new(());
            let held = one.lock().await;
            {
                let mut waits = pin!(one.lock());
                assert!(poll_once(&mut waits).await.is_none());
            }
            drop(held);
            one.lock().await;
        });
    }
}
