//! The watchdog: no executor sleeps while it has work.
//!
//! glommio 0.9 parks with runnable tasks if its preempt timer fires between arming and the first task: its run loop
//! takes "preempted before anything ran" for "nothing to run". A thread that loses its CPU at that point is enough.
//! A timer ends such a sleep, unless the task of that timer is itself among those that were not run: then nothing
//! is armed, and the executor sleeps for ever.
//!
//! So each executor has a heart, a task that beats on a timer; and one thread of the process looks at all hearts
//! and sends a signal to the thread of an executor whose heart stood still. The signal does nothing but end its
//! wait (a waker would not do: the first task may be the one that was not run). Most stalls last one beat, hardly
//! any longer than two looks of the watchdog. A shard that computes for long gets signals too, which is harmless.
#![allow(unsafe_code)]

use crate::base::units::Nanos;
use crate::runtime::log::{self, Event, Level, Seldom};
use signal_hook::consts::SIGURG;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two beats of an executor: how long a stall usually lasts.
const BEAT: Duration = Duration::from_millis(5);
/// Between two looks of the watchdog: a few beats, so that one that comes late is not taken for a stall.
const LOOK: Duration = Duration::from_millis(20);

/// What the watchdog feels of one executor.
#[derive(Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    stalls: AtomicU64,
}

impl Pulse {
    /// The heart: a task that runs as long as the executor.
    /// Looks around at each beat.
    pub(super) async fn beat(self: Arc<Self>, look: impl Fn()) {
        loop {
            glommio::timer::sleep(BEAT).await;
            self.beats.fetch_add(1, Ordering::Relaxed);
            look();
        }
    }

    /// Times the executor had to be woken.
    pub(super) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }
}

/// The calling thread is watched until this is dropped, which only that thread may do.
pub(super) struct Watch {
    pulse: Arc<Pulse>,
    /// A watch ends on the thread it was made on, so that no signal goes to a thread id that was given anew.
    _here: std::marker::PhantomData<*const ()>,
}

impl Watch {
    pub(super) fn this_thread(pulse: Arc<Pulse>) -> io::Result<Watch> {
        // SAFETY: it takes nothing and cannot fail.
        let thread = unsafe { libc::gettid() };
        HEARTS.watch(pulse.clone(), thread)?;
        Ok(Watch {
            pulse,
            _here: std::marker::PhantomData,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = HEARTS.lock();
        watched
            .hearts
            .retain(|heart| !Arc::ptr_eq(&heart.pulse, &self.pulse));
    }
}

struct Heart {
    pulse: Arc<Pulse>,
    thread: libc::pid_t,
    /// Beats at the last look.
    seen: u64,
}

/// All executors of the process.
struct Hearts {
    watched: Mutex<Watched>,
    /// There is a heart to look at.
    some: Condvar,
}

struct Watched {
    hearts: Vec<Heart>,
    awake: bool,
}

static HEARTS: Hearts = Hearts {
    watched: Mutex::new(Watched {
        hearts: Vec::new(),
        awake: false,
    }),
    some: Condvar::new(),
};

impl Hearts {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&'static self, pulse: Arc<Pulse>, thread: libc::pid_t) -> io::Result<()> {
        let mut watched = self.lock();
        if !watched.awake {
            // SIGURG, for what is sent by mistake is ignored by default. A handler there must be, or no wait ends;
            // this one sets a flag that nobody reads.
            signal_hook::flag::register(SIGURG, Arc::new(AtomicBool::new(false)))?;
            std::thread::Builder::new()
                .name("watchdog".to_owned())
                .spawn(|| self.look_for_ever())?;
            watched.awake = true;
        }
        watched.hearts.push(Heart {
            pulse,
            thread,
            seen: 0,
        });
        self.some.notify_one();
        Ok(())
    }

    fn look_for_ever(&self) {
        let began = Instant::now();
        let mut seldom = Seldom::default();
        loop {
            std::thread::sleep(LOOK);
            let mut found = 0;
            let mut watched = self.lock();
            while watched.hearts.is_empty() {
                watched = self
                    .some
                    .wait(watched)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            for heart in &mut watched.hearts {
                let beats = heart.pulse.beats.load(Ordering::Relaxed);
                if beats == heart.seen {
                    heart.pulse.stalls.fetch_add(1, Ordering::Relaxed);
                    found += 1;
                    // SAFETY: no memory is passed, and the thread lives: its watch has not been dropped.
                    unsafe { libc::tgkill(libc::getpid(), heart.thread, SIGURG) };
                }
                heart.seen = beats;
            }
            drop(watched);
            let now = Nanos(began.elapsed().as_nanos() as u64);
            if found > 0
                && let Some(times) = seldom.due(now)
            {
                log::emit(stalled(times));
            }
        }
    }
}

fn stalled(times: u64) -> Event {
    let message = format!(
        "an executor stood still for {} ms and was woken, {times} time(s) since this was last told; if it happens often, the \
         machine has too few CPUs for what runs on it (run: top)",
        LOOK.as_millis()
    );
    Event::new(Level::Warn, "stall", message).with("times", times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// What keeps an executor asleep is a wait in a ring for a completion that does not come. A wait that the signal
    /// did not end would last for ever, so it has a thread of its own.
    #[test]
    fn a_wait_in_a_ring_ends() {
        let (tell, told) = mpsc::channel();
        let waiting = move || {
            let ring = super::super::ring_builder().build(8).expect("a ring");
            let pulse = Arc::new(Pulse::default());
            let _watch = Watch::this_thread(pulse.clone()).expect("a watchdog");
            let waited = ring.submit_and_wait(1).map_err(|e| e.raw_os_error());
            let _ = tell.send((waited, pulse.stalls()));
        };
        std::thread::spawn(waiting);
        let (waited, stalls) = told
            .recv_timeout(Duration::from_secs(10))
            .expect("the wait ends");
        assert_eq!(waited, Err(Some(libc::EINTR)));
        assert!(stalls >= 1);
    }
}
