//! Other processes of this machine: started so that they outlive us, known by more than a number, and signalled so that
//! never another one is met.
//!
//! A number is given again once its process is gone. So a process is its number *and* when it started, and a signal
//! goes through a descriptor that was opened before both were looked at: it is of that very process.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// The kernel counts the times in /proc in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A process that runs, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// Ticks from the boot of the machine to its start.
    pub started: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Kill,
}

/// A process that runs now, or ran when this was made.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Identity {
    /// Who runs under this number now; a process that has ended and waits to be asked for its exit code runs no more.
    pub fn of(pid: u32) -> Option<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = started(&stat)?;
        Some(Identity { pid, started })
    }

    /// `None`: it has ended.
    pub fn open(self) -> io::Result<Option<Handle>> {
        // SAFETY: the call takes two numbers and gives a descriptor that nobody else has, or an error.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if opened < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: it is a descriptor, just opened, and ours alone.
        let handle = Handle(unsafe { OwnedFd::from_raw_fd(opened as i32) });
        // Only now: whoever started later under this number has another start.
        Ok((Identity::of(self.pid) == Some(self)).then_some(handle))
    }

    pub fn runs(self) -> bool {
        Identity::of(self.pid) == Some(self)
    }

    /// How long it has been running; `None` where /proc does not say.
    pub fn uptime(self) -> Option<Duration> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let boot: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let started = TICK * u32::try_from(self.started).ok()?;
        Some(Duration::from_secs_f64(boot).saturating_sub(started))
    }

    /// Bytes of memory that it has now.
    pub fn memory_bytes(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib * 1024)
    }
}

impl Handle {
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        };
        let no_details = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is of a process and open as long as `self`; without details the kernel reads no memory
        // of ours.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                number,
                no_details,
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // It has ended.
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Waits for its end, at most so long; whether it has ended.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one entry, which outlives the call.
        match unsafe { libc::poll(&mut poll, 1, millis) } {
            -1 => Err(io::Error::last_os_error()),
            ended => Ok(ended > 0),
        }
    }
}

/// What is started is the head of a session of its own: it outlives us and our terminal.
pub fn detach(command: &mut Command) -> &mut Command {
    let leave = || {
        // SAFETY: it takes nothing and may be called between fork and exec.
        match unsafe { libc::setsid() } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(leave) }
}

/// When the process of this line of /proc/PID/stat started; `None` if it has ended. Its name may hold anything.
fn started(stat: &str) -> Option<u64> {
    const STATE: usize = 0;
    const STARTED: usize = 19;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    match *fields.get(STATE)? {
        "Z" | "X" => None,
        _ => fields.get(STARTED)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let me = Identity::of(std::process::id()).expect("we run");
        assert!(me.runs() && me.memory_bytes().expect("we have memory") > 4096);
        assert!(me.uptime().expect("there is a /proc") < Duration::from_secs(86_400));
        let before = Identity {
            started: me.started - 1,
            ..me
        };
        assert!(!before.runs());
        assert!(before.open().expect("it can be asked").is_none());
        let nobody = Identity {
            pid: u32::MAX >> 1,
            started: 1,
        };
        assert!(!nobody.runs());
        assert!(nobody.open().expect("it can be asked").is_none());
    }

    #[test]
    fn what_is_detached_has_its_own_session_and_ends_on_a_signal() {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null());
        let mut child = detach(&mut command).spawn().expect("it starts");
        let identity = Identity::of(child.id()).expect("it runs");
        let stat = fs::read_to_string(format!("/proc/{}/stat", identity.pid)).unwrap();
        let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3);
        assert_eq!(session, Some(&*identity.pid.to_string()));
        let handle = identity.open().unwrap().expect("it runs");
        assert!(!handle.wait(Duration::ZERO).unwrap());
        handle.send(Signal::Terminate).unwrap();
        assert!(handle.wait(Duration::from_secs(10)).unwrap());
        // Nobody has asked for its exit code yet.
        assert!(!identity.runs());
        child.wait().unwrap();
        handle
            .send(Signal::Kill)
            .expect("who has ended needs no signal");
    }

    #[test]
    fn names_of_processes_may_hold_anything() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(started(stat), Some(4711));
        assert_eq!(started(&stat.replace(" S ", " Z ")), None);
        assert_eq!(started("42 (a"), None);
        assert_eq!(started(""), None);
    }
}
