//! What the kernel must offer, asked before the first executor: glommio's own failures say little to an operator.

#![allow(unsafe_code)]

use super::glommio::ring_builder;
use io_uring::{IoUring, Probe, opcode};

/// One thing that is missing, and what to do about it, on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Missing {
    pub what: String,
    pub remedy: &'static str,
}

const NEEDS_KERNEL: &str = "Armilla needs Linux 6.1 or newer";

/// All that is missing; empty when an executor can be started.
pub fn check() -> Vec<Missing> {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if let Some(missing) = disabled(setting.as_deref().unwrap_or("0")) {
        return vec![missing];
    }
    let plain = match IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) => return vec![refused(&error)],
    };
    let mut missing = Vec::new();
    if !plain.params().is_feature_nodrop() {
        missing.push(Missing {
            what: "io_uring may drop completions here".to_owned(),
            remedy: NEEDS_KERNEL,
        });
    }
    let mut probe = Probe::new();
    match plain.submitter().register_probe(&mut probe) {
        Ok(()) => missing.extend(operations(|code| probe.is_supported(code))),
        Err(error) => missing.push(Missing {
            what: format!("the operations of io_uring cannot be asked for ({error})"),
            remedy: NEEDS_KERNEL,
        }),
    }
    if let Err(error) = ring_builder().build(8) {
        missing.push(Missing {
            what: format!("io_uring refuses SINGLE_ISSUER with DEFER_TASKRUN ({error})"),
            remedy: NEEDS_KERNEL,
        });
    }
    missing
}

/// Raises the process's limit of open files as far as it may, and says what it is now. Shells give 1024, which fewer
/// clients use up than a shard takes; then nobody else gets in, and no segment can be made.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: as above.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } {
        0 => raised.rlim_cur,
        _ => limit.rlim_cur,
    }
}

/// What /proc/sys/kernel/io_uring_disabled says: 0 for all, 1 for privileged processes and a group, 2 for nobody.
fn disabled(setting: &str) -> Option<Missing> {
    // A process that is privileged, or of the group, is told by the attempt itself.
    (setting.trim() == "2").then(|| Missing {
        what: "io_uring is switched off on this machine (kernel.io_uring_disabled=2)".to_owned(),
        remedy: "run: sysctl -w kernel.io_uring_disabled=0",
    })
}

fn refused(error: &std::io::Error) -> Missing {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "in a container, its seccomp profile blocks io_uring: run it with --security-opt seccomp=unconfined \
             or with a profile that allows io_uring_setup, io_uring_enter and io_uring_register; \
             elsewhere, see sysctl kernel.io_uring_disabled"
        }
        Some(libc::ENOMEM) => "raise the limit of locked memory: ulimit -l unlimited",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files: ulimit -n",
        _ => NEEDS_KERNEL,
    };
    Missing {
        what: format!("io_uring cannot be set up ({error})"),
        remedy,
    }
}

fn operations(is_supported: impl Fn(u8) -> bool) -> Vec<Missing> {
    let needed = [
        ("accept", opcode::Accept::CODE),
        ("connect", opcode::Connect::CODE),
        ("recv", opcode::Recv::CODE),
        ("send", opcode::Send::CODE),
        ("cancel", opcode::AsyncCancel::CODE),
        ("read", opcode::Read::CODE),
        ("write", opcode::Write::CODE),
        ("fsync", opcode::Fsync::CODE),
        ("fallocate", opcode::Fallocate::CODE),
        ("openat", opcode::OpenAt::CODE),
        ("renameat", opcode::RenameAt::CODE),
        ("unlinkat", opcode::UnlinkAt::CODE),
        ("mkdirat", opcode::MkDirAt::CODE),
    ];
    needed
        .into_iter()
        .filter(|&(_, code)| !is_supported(code))
        .map(|(name, _)| Missing {
            what: format!("io_uring cannot {name} here"),
            remedy: NEEDS_KERNEL,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        assert_eq!(check(), []);
    }

    #[test]
    fn each_failure_says_what_to_do_on_one_line() {
        let blocked = refused(&std::io::Error::from_raw_os_error(libc::EPERM));
        assert!(blocked.to_string().contains("seccomp"));
        let off = disabled("2\n").expect("2 means off for all");
        assert!(off.to_string().contains("sysctl"));
        assert_eq!(disabled("0\n"), None);
        let old = operations(|code| code != opcode::RenameAt::CODE);
        assert_eq!(old.len(), 1);
        for missing in [blocked, off, old[0].clone()] {
            assert!(!missing.to_string().contains('\n'));
        }
    }
}
