//! Wakes a sleeping epoll at a time finer than the milliseconds that it counts in.

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub struct Timer {
    fd: OwnedFd,
    at: Cell<Option<Instant>>,
}

impl Timer {
    pub fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // The event is all that is wanted of it: each expiry is one, and it is never read.
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer {
            fd,
            at: Cell::new(None),
        })
    }

    /// Fires once at `at`, instead of when it was set to before; `None`: not at all.
    pub fn set(&self, at: Option<Instant>) -> io::Result<()> {
        if self.at.replace(at) == at {
            return Ok(());
        }
        // A time that has passed fires at once; zero would disarm it.
        let wait = at.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.map_or(Duration::ZERO, |wait| wait.max(Duration::from_nanos(1)));
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: i64::from(wait.subsec_nanos()),
            },
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
