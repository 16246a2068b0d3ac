//! The task that drives the ring: enter, hand out completions, let the others run, and sleep when nothing is left.
//!
//! It sleeps on one read of the ring's eventfd, kept open in glommio's own ring from sleep to sleep. Whoever queues
//! an entry rings the bell, so the executor never parks on an unsubmitted one (rule 1).
#![allow(unsafe_code)]

use super::Shard;
use super::net::ACCEPT_RETRY;
use super::ring::{Completion, Kind};
use crate::runtime::net::Event;
use glommio::io::BufferedFile;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long the pump looks again before it sleeps (rule 2).
const SPIN: Duration = Duration::from_micros(20);
/// Spinning pays only while there is traffic.
const TRAFFIC: Duration = Duration::from_millis(1);

/// Wakes the pump if it sleeps; costs a look at a flag if it does not.
#[derive(Default)]
pub(super) struct Bell {
    asleep: RefCell<Option<Waker>>,
    rung: Cell<bool>,
}

impl Bell {
    pub(super) fn ring(&self) {
        if self.rung.replace(true) {
            return;
        }
        let waker = self.asleep.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A read of the eventfd in flight in glommio's ring; done when the eventfd was written, which it then cleared.
struct Doze {
    eventfd: Rc<BufferedFile>,
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Doze {
    fn new(eventfd: OwnedFd) -> Doze {
        // SAFETY: the descriptor is owned and handed over. A read of 8 bytes is what both files and eventfds do.
        let eventfd = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        Doze {
            eventfd: Rc::new(eventfd),
            read: None,
        }
    }

    /// Until the eventfd is written or the bell is rung.
    async fn until_woken(&mut self, bell: &Bell) {
        poll_fn(|cx| {
            if bell.rung.replace(false) {
                bell.asleep.borrow_mut().take();
                return Poll::Ready(());
            }
            let eventfd = &self.eventfd;
            let read = self.read.get_or_insert_with(|| {
                let eventfd = eventfd.clone();
                Box::pin(async move {
                    eventfd
                        .read_at(0, 8)
                        .await
                        .expect("reading an eventfd does not fail");
                })
            });
            if read.as_mut().poll(cx).is_ready() {
                self.read = None;
                bell.asleep.borrow_mut().take();
                return Poll::Ready(());
            }
            *bell.asleep.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends the read in flight, so that glommio's ring holds nothing of ours.
    async fn end(mut self, stop: &super::StopHandle) {
        if let Some(read) = self.read.take() {
            stop.wake();
            read.await;
        }
        let file = Rc::into_inner(self.eventfd).expect("the read has ended");
        // The descriptor is closed either way; an error of close says nothing about an eventfd.
        let _ = file.close().await;
    }
}

/// Runs until teardown has drained the ring.
pub(super) async fn pump(shard: Shard, eventfd: OwnedFd) {
    let mut doze = Doze::new(eventfd);
    let mut completions = Vec::new();
    let mut traffic = Instant::now();
    let mut idle_since = None;
    while !(shard.0.ending.get() && shard.0.ring.in_flight() == 0) {
        shard.0.bell.rung.set(false);
        if turn(&shard, &mut completions) {
            traffic = Instant::now();
            idle_since = None;
            // Those that were woken run now, and what they send leaves with the next enter.
            futures_lite::future::yield_now().await;
            continue;
        }
        let now = Instant::now();
        let idle = *idle_since.get_or_insert(now);
        if now - traffic < TRAFFIC && now - idle < SPIN {
            // Looking again is worth less than any task of another queue.
            glommio::executor().yield_task_queue_now().await;
            continue;
        }
        let inner = &shard.0;
        if inner.ring.prepare_to_sleep() && inner.mail.prepare_to_sleep() && !inner.stop.is_news() {
            inner.ring.count_sleep();
            doze.until_woken(&inner.bell).await;
            idle_since = None;
        }
        inner.mail.awake();
        inner.ring.awake();
    }
    doze.end(&shard.0.stop).await;
}

/// One turn: whether there was anything to do.
fn turn(shard: &Shard, completions: &mut Vec<Completion>) -> bool {
    let inner = &shard.0;
    inner
        .network
        .borrow_mut()
        .connections
        .tend(&inner.ring, &inner.pool);
    watch_lingering(shard);
    if inner.stop.take_news() {
        let mut network = inner.network.borrow_mut();
        network.connections.events.push(Event::Stop);
        inner.arrived.notify();
    }
    let entered = inner.ring.has_unsubmitted() || inner.ring.has_completions();
    if entered {
        if let Err(error) = inner.ring.enter(completions) {
            // The ring is the shard's only hand: without it nothing can be answered or stored.
            panic!("io_uring_enter failed: {error}");
        }
        dispatch(shard, completions);
    }
    take_mail(shard) || entered
}

/// Whether other shards have written.
fn take_mail(shard: &Shard) -> bool {
    let mut network = shard.0.network.borrow_mut();
    let events = &mut network.connections.events;
    let before = events.len();
    shard.0.mail.take(events);
    let arrived = events.len() > before;
    if arrived {
        shard.0.arrived.notify();
    }
    arrived
}

fn dispatch(shard: &Shard, completions: &mut Vec<Completion>) {
    let inner = &shard.0;
    let mut network = inner.network.borrow_mut();
    for completion in completions.drain(..) {
        match completion.tag.kind {
            Kind::Disk => {
                let mut operations = inner.operations.borrow_mut();
                operations.complete(completion.tag, completion.result);
            }
            Kind::Doorbell => inner
                .mail
                .on_rung(completion.tag.slot as u16, completion.result),
            Kind::Cancel | Kind::Mail => {}
            _ => network.on_completion(shard, completion),
        }
    }
    let arrived = !network.connections.events.is_empty();
    let retries = std::mem::take(&mut network.accept_later);
    drop(network);
    if arrived {
        inner.arrived.notify();
    }
    for slot in retries {
        later(shard, ACCEPT_RETRY, move |shard| {
            shard.0.network.borrow_mut().accept(&shard.0.ring, slot);
        });
    }
    let (wait, refused) = inner.mail.take_refused();
    for other in refused {
        later(shard, wait, move |shard| shard.ring_doorbell(other));
    }
    watch_lingering(shard);
}

/// One timer for all that linger: as many may wait as connections were closed in `LINGER`.
fn watch_lingering(shard: &Shard) {
    let starts = {
        let connections = &mut shard.0.network.borrow_mut().connections;
        let starts = connections.is_lingering() && !connections.linger_timer;
        connections.linger_timer |= starts;
        starts
    };
    if !starts {
        return;
    }
    let timer = shard.clone();
    shard.spawn(crate::runtime::Queue::Foreground, async move {
        loop {
            let next = {
                let mut network = timer.0.network.borrow_mut();
                let next = network.connections.end_lingering(&timer.0.ring);
                network.connections.linger_timer = next.is_some();
                next
            };
            timer.0.arrived.notify();
            timer.0.bell.ring();
            match next {
                Some(deadline) => timer.sleep(deadline - Instant::now()).await,
                None => return,
            }
        }
    });
}

/// Runs `what` after `delay` if the shard still runs.
fn later(shard: &Shard, delay: Duration, what: impl FnOnce(&Shard) + 'static) {
    let timer = shard.clone();
    shard.spawn(crate::runtime::Queue::Foreground, async move {
        timer.sleep(delay).await;
        what(&timer);
        timer.0.bell.ring();
    });
}
