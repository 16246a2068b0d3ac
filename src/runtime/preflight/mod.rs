//! Whether a node can run here, asked before the first executor: glommio's own failures say little to an operator.
//!
//! `armilla start` refuses what fails here and `armilla doctor` shows all of it. Nothing is changed: what is made to
//! try the disk is removed again. A check passes, warns or fails on one line, with what to do about it. Provoked by:
//!
//! - kernel: a test of the numbers;
//! - io_uring: tests of every errno, a test that puts its own thread behind a seccomp filter, and by hand a doctor in a
//!   mount namespace whose `kernel.io_uring_disabled` is a file that says 1 or 2;
//! - io_uring features: tests with operations taken away;
//! - open files, locked memory: real doctors under `ulimit`;
//! - data directory: real doctors on tmpfs, on a file, on a directory in use; by hand on ramfs, which refuses
//!   O_DIRECT, on a read-only mount, and as a user who may not write there;
//! - free space: tests of the numbers, by hand on a file system of 8 MiB;
//! - addresses: real doctors on a port that somebody holds and on an address of another machine.

mod addresses;
mod directory;
mod limits;
mod uring;

pub use addresses::Address;
pub use directory::is_in_memory;
pub use limits::raise_open_files;

use std::fmt;
use std::path::Path;

/// What a node will need, as far as it can be told beforehand.
pub struct Wants<'a> {
    pub data: &'a Path,
    pub addresses: &'a [Address],
    pub shards: usize,
    /// Bytes that the data directory may take, where the operator said so.
    pub disk_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    /// A node runs here, with less than it could have.
    Warn,
    /// No node runs here.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What to do about it, if it is not well.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check {
            name,
            verdict: Verdict::Warn,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check {
            verdict: Verdict::Fail,
            ..Check::warn(name, found, fix)
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fix {
            Some(fix) => write!(f, "{}; {fix}", self.found),
            None => f.write_str(&self.found),
        }
    }
}

/// Looks at everything, in the order in which one would mend it. Raises the limit of open files first, as a start does.
pub fn check(wants: &Wants<'_>) -> Vec<Check> {
    let mut checks = uring::check();
    checks.push(limits::open_files(raise_open_files(), wants.shards));
    checks.push(limits::locked_memory(limits::memlock(), wants.shards));
    checks.extend(directory::check(wants.data, wants.disk_bytes));
    checks.extend(addresses::check(wants.addresses));
    checks
}

/// The worst of them.
pub fn verdict(checks: &[Check]) -> Verdict {
    checks
        .iter()
        .map(|c| c.verdict)
        .max()
        .unwrap_or(Verdict::Ok)
}
