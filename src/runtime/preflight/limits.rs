//! Descriptors and locked memory.
#![allow(unsafe_code)]

use super::Check;
use crate::base::limits::CONNECTIONS_MAX;
use crate::base::units::{HumanBytes, KIB};

/// Fewer descriptors than this do not carry a shard's rings, segments and a handful of clients.
const OPEN_FILES_MIN: u64 = 256;
/// glommio refuses to start an executor with less.
const MEMLOCK_MIN: u64 = 512 * KIB as u64;
/// What the buffers that a shard registers take, with room for what the kernel rounds up.
const MEMLOCK_WANTED_A_SHARD: u64 = 1024 * KIB as u64;

/// Raises the process's limit of open files as far as it may, and says what it is now. Shells give 1024, which fewer
/// clients use up than a shard takes; then nobody else gets in, and no segment can be made.
pub fn raise_open_files() -> u64 {
    let limit = limit(libc::RLIMIT_NOFILE);
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: the struct lives through the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } {
        0 => raised.rlim_cur,
        _ => limit.rlim_cur,
    }
}

/// Bytes that this process may lock.
pub(super) fn memlock() -> u64 {
    limit(libc::RLIMIT_MEMLOCK).rlim_cur
}

/// Zero if the kernel does not tell.
fn limit(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct lives through the call; if it fails, the zeroes stand.
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit
}

pub(super) fn open_files(may_open: u64, shards: usize) -> Check {
    const NAME: &str = "open files";
    // A full shard of connections, and as many again for segments and the rest.
    let wanted = 2 * (CONNECTIONS_MAX * shards.max(1)) as u64;
    let found = format!("this process may open {may_open} files");
    let fix = format!("run: ulimit -Hn {wanted} (systemd: LimitNOFILE={wanted})");
    if may_open < OPEN_FILES_MIN {
        let found = format!("{found}, a node needs {OPEN_FILES_MIN} at least");
        return Check::fail(NAME, found, fix);
    }
    if may_open < wanted {
        let found = format!("{found}; for the most connections its shards take it wants {wanted}");
        return Check::warn(NAME, found, fix);
    }
    Check::ok(NAME, found)
}

pub(super) fn locked_memory(bytes: u64, shards: usize) -> Check {
    const NAME: &str = "locked memory";
    let wanted = MEMLOCK_WANTED_A_SHARD * shards.max(1) as u64;
    let fix = "run: ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)";
    let found = match bytes {
        libc::RLIM_INFINITY => "no limit".to_owned(),
        _ => format!("this process may lock {}", HumanBytes(bytes)),
    };
    if bytes < MEMLOCK_MIN {
        let found = format!("{found}, an executor needs {}", HumanBytes(MEMLOCK_MIN));
        return Check::fail(NAME, found, fix);
    }
    if bytes < wanted {
        let found = format!("{found}; its shards want {}", HumanBytes(wanted));
        return Check::warn(NAME, found, fix);
    }
    Check::ok(NAME, found)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Fail, Ok, Warn};
    use super::*;

    #[test]
    fn few_descriptors_are_a_warning_and_too_few_a_failure() {
        let verdicts = |shards| [64, 1024, 20_480, 40_960].map(|n| open_files(n, shards).verdict);
        assert_eq!(verdicts(1), [Fail, Warn, Ok, Ok]);
        assert_eq!(verdicts(2), [Fail, Warn, Warn, Ok]);
        let fix = open_files(64, 1).fix.expect("a failure has a fix");
        assert!(fix.contains("ulimit -Hn 20480"), "{fix}");
    }

    #[test]
    fn a_low_memlock_is_a_warning_until_no_executor_starts() {
        let kib = |n: u64| locked_memory(n * 1024, 2).verdict;
        assert_eq!([kib(64), kib(512), kib(8192)], [Fail, Warn, Ok]);
        assert_eq!(locked_memory(libc::RLIM_INFINITY, 64).verdict, Ok);
    }
}
