//! The kernel and its io_uring: whether it may be used, and whether it has what the ring and the executor use.
#![allow(unsafe_code)]

use super::Check;
use crate::base::limits::PAGE_BYTES;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::glommio::ring_builder;
use io_uring::{IoUring, Probe, opcode};
use std::io;

const KERNEL: &str = "kernel";
const RING: &str = "io_uring";
const FEATURES: &str = "io_uring features";
/// The oldest kernel with all that is used: DEFER_TASKRUN came last. Multishot receives cannot be asked for.
const KERNEL_MIN: (u32, u32) = (6, 1);
const NEEDS_KERNEL: &str =
    "boot Linux 6.1 or newer (run: uname -r), from your distribution's packages";

pub(super) fn check() -> Vec<Check> {
    let circumstances = Circumstances::here();
    let mut checks = vec![kernel(&circumstances.release)];
    if let Some(off) = circumstances.switched_off() {
        checks.push(off);
        return checks;
    }
    match IoUring::new(8) {
        Err(error) => checks.push(circumstances.refused(&error)),
        Ok(ring) => {
            checks.push(Check::ok(RING, "may be used"));
            checks.extend(features(&ring));
        }
    }
    checks
}

fn kernel(release: &str) -> Check {
    let found = format!("Linux {release}");
    match numbers(release) {
        Some(numbers) if numbers < KERNEL_MIN => {
            Check::fail(KERNEL, format!("{found} is too old"), NEEDS_KERNEL)
        }
        // A name that says nothing is no reason to refuse: the features are asked for.
        _ => Check::ok(KERNEL, found),
    }
}

/// "6.18.44-generic" is (6, 18).
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What decides whether this thread may use io_uring.
struct Circumstances {
    release: String,
    /// kernel.io_uring_disabled: 0 for all, 1 for privileged processes and one group, 2 for nobody. Absent before 6.6.
    disabled: u32,
    /// Whether a seccomp filter looks at the system calls of this thread.
    filtered: bool,
}

impl Circumstances {
    fn here() -> Circumstances {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/thread-self/status");
        Circumstances {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disabled: read("/proc/sys/kernel/io_uring_disabled")
                .trim()
                .parse()
                .unwrap_or(0),
            filtered: status
                .lines()
                .filter_map(|line| line.strip_prefix("Seccomp:"))
                .any(|mode| mode.trim() != "0"),
        }
    }

    /// A process that is privileged, or of the group, is told by the attempt itself.
    fn switched_off(&self) -> Option<Check> {
        let found = "io_uring is switched off on this machine (kernel.io_uring_disabled=2)";
        (self.disabled == 2)
            .then(|| Check::fail(RING, found, "run: sysctl -w kernel.io_uring_disabled=0"))
    }

    fn refused(&self, error: &io::Error) -> Check {
        let found = |why: &str| format!("io_uring cannot be set up ({error}): {why}");
        let errno = error.raw_os_error().unwrap_or(0);
        let denied = [libc::EPERM, libc::EACCES].contains(&errno);
        if denied && self.disabled == 1 {
            return Check::fail(
                RING,
                found("it is kept for one group (kernel.io_uring_disabled=1)"),
                "run: sysctl -w kernel.io_uring_disabled=0, or sysctl -w kernel.io_uring_group=GID, a group of this user",
            );
        }
        if (denied || errno == libc::ENOSYS) && self.filtered {
            return Check::fail(
                RING,
                found("a seccomp filter blocks it"),
                "run the container with --security-opt seccomp=unconfined, or allow io_uring_setup, io_uring_enter \
                 and io_uring_register in its profile (systemd: SystemCallFilter=)",
            );
        }
        let (why, fix) = match errno {
            _ if denied => (
                "a security module refuses it",
                "see what the kernel says of it (run: dmesg | grep -i io_uring) and allow it there",
            ),
            libc::ENOSYS => ("the kernel was built without it", NEEDS_KERNEL),
            libc::ENOMEM => (
                "too little memory may be locked",
                "run: ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
            ),
            libc::EMFILE | libc::ENFILE => ("too many files are open", "run: ulimit -n 20480"),
            _ => ("the kernel refuses it", NEEDS_KERNEL),
        };
        Check::fail(RING, found(why), fix)
    }
}

/// One line if all are there, and one for each that is missing.
fn features(plain: &IoUring) -> Vec<Check> {
    let mut missing = Vec::new();
    if !plain.params().is_feature_nodrop() {
        missing.push("may drop completions".to_owned());
    }
    let mut probe = Probe::new();
    match plain.submitter().register_probe(&mut probe) {
        Ok(()) => missing.extend(operations(|code| probe.is_supported(code))),
        Err(error) => missing.push(format!("does not tell its operations ({error})")),
    }
    match ring_builder().build(8) {
        Err(error) => missing.push(format!(
            "refuses SINGLE_ISSUER with DEFER_TASKRUN ({error})"
        )),
        Ok(ring) => {
            if let Err(error) = buffer_ring(&ring) {
                missing.push(format!("refuses a ring of receive buffers ({error})"));
            }
        }
    }
    if missing.is_empty() {
        let found = format!(
            "{} operations, SINGLE_ISSUER, DEFER_TASKRUN, TASKRUN_FLAG, buffer rings",
            OPERATIONS.len()
        );
        return vec![Check::ok(FEATURES, found)];
    }
    missing
        .into_iter()
        .map(|what| Check::fail(FEATURES, format!("io_uring {what} here"), NEEDS_KERNEL))
        .collect()
}

fn buffer_ring(ring: &IoUring) -> io::Result<()> {
    const GROUP: u16 = 0;
    const ENTRIES: u16 = 8;
    let buffers = PageBuffer::zeroed(PAGE_BYTES);
    let address = buffers.address() as u64;
    // SAFETY: a page holds eight entries, and it outlives the registration, which ends below or with the ring: nothing
    // is ever received.
    unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(address, ENTRIES, GROUP, 0)?;
    }
    ring.submitter().unregister_buf_ring(GROUP)
}

/// What this crate and glommio queue.
const OPERATIONS: [(&str, u8); 17] = [
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
    ("poll", opcode::PollAdd::CODE),
    ("timeout", opcode::Timeout::CODE),
    ("remove a timeout", opcode::TimeoutRemove::CODE),
    ("msg_ring", opcode::MsgRingData::CODE),
];

fn operations(is_supported: impl Fn(u8) -> bool) -> Vec<String> {
    let missing = OPERATIONS.iter().filter(|&&(_, code)| !is_supported(code));
    missing.map(|(name, _)| format!("cannot {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, verdict};
    use super::*;

    #[test]
    fn this_machine_passes() {
        let checks = check();
        assert_eq!(verdict(&checks), Verdict::Ok, "{checks:?}");
        assert_eq!(checks.len(), 3);
    }

    #[test]
    fn old_kernels_are_told_by_their_numbers() {
        for (release, verdict) in [
            ("5.15.0-91-generic", Verdict::Fail),
            ("6.0.19", Verdict::Fail),
            ("6.1.0", Verdict::Ok),
            ("6.18.44-fc", Verdict::Ok),
            ("10.0", Verdict::Ok),
            ("", Verdict::Ok),
        ] {
            assert_eq!(kernel(release).verdict, verdict, "{release}");
        }
    }

    fn circumstances(disabled: u32, filtered: bool) -> Circumstances {
        Circumstances {
            release: "6.1.0".to_owned(),
            disabled,
            filtered,
        }
    }

    #[test]
    fn each_refusal_says_what_to_do_on_one_line() {
        let said = |disabled, filtered, errno| {
            let error = io::Error::from_raw_os_error(errno);
            let check = circumstances(disabled, filtered).refused(&error);
            assert_eq!(check.verdict, Verdict::Fail);
            assert!(!check.to_string().contains('\n'));
            check.to_string()
        };
        assert!(said(1, false, libc::EPERM).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(said(0, true, libc::EPERM).contains("seccomp=unconfined"));
        assert!(said(0, true, libc::ENOSYS).contains("seccomp=unconfined"));
        assert!(said(0, false, libc::EACCES).contains("dmesg"));
        assert!(said(0, false, libc::ENOSYS).contains("6.1 or newer"));
        assert!(said(0, false, libc::ENOMEM).contains("ulimit -l"));
        assert!(said(0, false, libc::EMFILE).contains("ulimit -n"));
        let off = circumstances(2, false).switched_off().expect("2 is off");
        assert!(off.to_string().contains("sysctl -w"));
        assert!(circumstances(1, false).switched_off().is_none());
    }

    #[test]
    fn an_operation_that_is_missing_is_named() {
        let old = operations(|code| code != opcode::RenameAt::CODE);
        assert_eq!(old, ["cannot renameat"]);
    }

    /// Answers io_uring_setup with `errno`, for the calling thread and what it starts.
    fn filter_out_io_uring(errno: u32) {
        const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut program = [
            instruction(LOAD_NUMBER, 0, 0, 0),
            instruction(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
            instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
            instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: it concerns this thread only, and takes no memory.
        let no_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(no_privileges, 0);
        // SAFETY: without TSYNC the filter is this thread's; the program lives through the call.
        let set = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            )
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    /// As a container's profile does it; the thread ends with the filter.
    #[test]
    fn a_seccomp_filter_is_recognized() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let filtered = std::thread::spawn(move || {
                filter_out_io_uring(errno as u32);
                check()
            });
            let checks = filtered.join().expect("the checks do not panic");
            assert_eq!(verdict(&checks), Verdict::Fail);
            let said = checks.last().expect("a failure").to_string();
            assert!(said.contains("a seccomp filter blocks it"), "{said}");
            assert!(said.contains("--security-opt seccomp=unconfined"), "{said}");
        }
    }
}
