//! The data directory: whether it is free, durable, and takes what a commit does: a preallocated, direct, synced write.
#![allow(unsafe_code)]

use super::Check;
use crate::base::limits::{PAGE_BYTES, SEGMENT_BYTES_MIN, SEGMENTS_AHEAD};
use crate::base::units::{GIB, HumanBytes};
use crate::runtime::buffer::PageBuffer;
use crate::runtime::glommio::holder;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "data directory";
const SPACE: &str = "free space";
/// A directory without two segments and a manifest takes no first put.
const FREE_BYTES_MIN: u64 = ((SEGMENTS_AHEAD + 1) * SEGMENT_BYTES_MIN) as u64;
/// Below this much an operator should know that it will be used up soon.
const FREE_BYTES_WANTED: u64 = GIB as u64;
const PASS_ANOTHER: &str = "pass --data DIR on a local disk (ext4, xfs, btrfs)";

/// Whether `path`, or what there is of it, lies on a file system that forgets all when the machine stops.
pub fn is_in_memory(path: &Path) -> bool {
    FileSystem::of(&existing(path)).is_ok_and(|fs| fs.in_memory)
}

pub(super) fn check(data: &Path, disk_bytes: Option<u64>) -> Vec<Check> {
    let there = existing(data);
    let shown = data.display();
    if !there.is_dir() {
        let found = format!(
            "data directory {shown}: {} is no directory",
            there.display()
        );
        return vec![Check::fail(DIRECTORY, found, "pass another --data DIR")];
    }
    let system = match FileSystem::of(&there) {
        Ok(system) => system,
        Err(error) => {
            let found = format!("data directory {shown}: its file system says {error}");
            return vec![Check::fail(DIRECTORY, found, PASS_ANOTHER)];
        }
    };
    if let Some(holder) = user(data) {
        let found = format!("data directory {shown} is used by {holder}");
        let fix = format!("{}, or pass another --data DIR", holder.remedy());
        return vec![
            Check::fail(DIRECTORY, found, fix),
            system.space(data, disk_bytes),
        ];
    }
    let usable = match try_commit(&there) {
        Err(refused) => refused.check(data, &there, &system),
        Ok(()) if system.in_memory => {
            let found = format!(
                "data directory {shown} lies in memory ({}): what was acked would not outlive the machine",
                system.name
            );
            Check::fail(DIRECTORY, found, PASS_ANOTHER)
        }
        Ok(()) => {
            let made = if there == data { "" } else { " (to be made)" };
            let found = format!("{shown}{made} on {}, direct synced writes", system.name);
            Check::ok(DIRECTORY, found)
        }
    };
    match system.in_memory {
        true => vec![usable],
        false => vec![usable, system.space(data, disk_bytes)],
    }
}

/// The nearest directory that is there.
fn existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// The process whose lock it is. The lock itself is not touched: a node that starts now must not meet ours.
fn user(data: &Path) -> Option<holder::Holder> {
    let lock = data.join("LOCK");
    let pid = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
    holder::of_file(&lock, pid)
}

fn user_id() -> libc::uid_t {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

struct FileSystem {
    name: String,
    in_memory: bool,
    free_bytes: u64,
}

impl FileSystem {
    fn of(directory: &Path) -> io::Result<FileSystem> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        // SAFETY: all zeroes is a valid statfs: plain integers.
        let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends with a zero, and both live through the call.
        if unsafe { libc::statfs(path.as_ptr(), &mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The numbers of linux/magic.h; their type differs between machines.
        #[allow(clippy::unnecessary_cast)]
        let (name, in_memory) = match stat.f_type as u32 {
            0x0102_1994 => ("tmpfs", true),
            0x8584_58f6 => ("ramfs", true),
            0xef53 => ("ext4", false),
            0x5846_5342 => ("xfs", false),
            0x9123_683e => ("btrfs", false),
            0xf2f5_2010 => ("f2fs", false),
            0x2fc1_2fc1 => ("zfs", false),
            0x794c_7630 => ("overlayfs", false),
            0x6969 => ("nfs", false),
            0x6573_5546 => ("fuse", false),
            _ => ("", false),
        };
        let name = match name {
            "" => format!("file system {:#x}", stat.f_type),
            name => name.to_owned(),
        };
        #[allow(clippy::unnecessary_cast)]
        let free_bytes = (stat.f_bavail as u64).saturating_mul(stat.f_bsize as u64);
        Ok(FileSystem {
            name,
            in_memory,
            free_bytes,
        })
    }

    /// A node with data starts on a full disk too: it serves reads, takes deletes and gives space back.
    fn space(&self, data: &Path, disk_bytes: Option<u64>) -> Check {
        let is_new = !data.join("node.toml").exists();
        space(self.free_bytes, is_new, disk_bytes)
    }
}

fn space(free: u64, is_new: bool, disk_bytes: Option<u64>) -> Check {
    let found = format!("{} are free", HumanBytes(free));
    let fix = "make room (run: df -h), or pass --data DIR on a larger disk";
    if is_new && free < FREE_BYTES_MIN {
        let found = format!("{found}, a new node needs {}", HumanBytes(FREE_BYTES_MIN));
        return Check::fail(SPACE, found, fix);
    }
    if free < FREE_BYTES_WANTED {
        let found = format!("{found}; when they are used up, puts are refused");
        return Check::warn(SPACE, found, fix);
    }
    match disk_bytes {
        Some(bytes) if is_new && bytes > free => {
            let found = format!("{found}, less than --disk {}", HumanBytes(bytes));
            Check::warn(SPACE, found, fix)
        }
        _ => Check::ok(SPACE, found),
    }
}

/// What a commit does, and which part of it failed.
struct Refused {
    step: Step,
    error: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    OpenDirect,
    Preallocate,
    Write,
}

impl Refused {
    /// `at`: the directory that was tried, for `data`.
    fn check(&self, data: &Path, at: &Path, system: &FileSystem) -> Check {
        let (at, error, name) = (at.display(), &self.error, &system.name);
        let errno = error.raw_os_error().unwrap_or(0);
        let (found, fix) = match self.step {
            // Said by the check of the free space too; a full disk is no reason not to start.
            _ if errno == libc::ENOSPC => {
                let found = format!("{at} on {name} is full");
                return Check::warn(DIRECTORY, found, "make room (run: df -h)");
            }
            Step::Create if errno == libc::EROFS => (
                format!("{at} on {name} is mounted read-only"),
                format!(
                    "run: mount -o remount,rw {at} (its mount point), or pass another --data DIR"
                ),
            ),
            Step::Create => (
                format!("no file can be made in {at} ({error})"),
                format!(
                    "run as root: install -d -m 700 -o {} '{}', or pass another --data DIR",
                    user_id(),
                    data.display()
                ),
            ),
            Step::OpenDirect => (
                format!("{at} on {name} refuses direct I/O (O_DIRECT: {error})"),
                PASS_ANOTHER.to_owned(),
            ),
            Step::Preallocate => (
                format!("{at} on {name} cannot preallocate files (fallocate: {error})"),
                PASS_ANOTHER.to_owned(),
            ),
            Step::Write => (
                format!("{at} on {name} refuses a direct, synced write (RWF_DSYNC: {error})"),
                PASS_ANOTHER.to_owned(),
            ),
        };
        Check::fail(DIRECTORY, found, fix)
    }
}

/// Makes a file, preallocates a page, writes it directly and durably, and removes the file.
fn try_commit(directory: &Path) -> Result<(), Refused> {
    let refused = |step| move |error| Refused { step, error };
    // If this process is killed in the middle, a node that is formed here later takes the name for its own rubbish.
    let path = directory.join(format!("node.toml.preflight-{}", std::process::id()));
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    made.map_err(refused(Step::Create))?;
    let tried = write_directly(&path);
    // Whatever came of it; what cannot be removed is harmless.
    let _ = fs::remove_file(&path);
    tried
}

fn write_directly(path: &Path) -> Result<(), Refused> {
    let refused = |step| move |error| Refused { step, error };
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(refused(Step::OpenDirect))?;
    let fd = file.as_raw_fd();
    let len = PAGE_BYTES as libc::off_t;
    // SAFETY: no memory is passed.
    if unsafe { libc::fallocate(fd, 0, 0, len) } != 0 {
        return Err(refused(Step::Preallocate)(io::Error::last_os_error()));
    }
    let page = PageBuffer::zeroed(PAGE_BYTES);
    let piece = libc::iovec {
        iov_base: page.address().cast(),
        iov_len: PAGE_BYTES,
    };
    // SAFETY: one piece of memory, which lives through the call.
    let written = unsafe { libc::pwritev2(fd, &piece, 1, 0, libc::RWF_DSYNC) };
    match written {
        ..0 => Err(refused(Step::Write)(io::Error::last_os_error())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::base::units::MIB;

    #[test]
    fn little_space_is_a_warning_and_none_for_a_new_node_a_failure() {
        let mib = |n: usize| (n * MIB) as u64;
        for (free, is_new, disk, verdict) in [
            (mib(1), true, None, Verdict::Fail),
            (mib(1), false, None, Verdict::Warn),
            (mib(900), true, None, Verdict::Warn),
            (mib(5000), true, None, Verdict::Ok),
            (mib(5000), true, Some(mib(6000)), Verdict::Warn),
            (mib(5000), false, Some(mib(6000)), Verdict::Ok),
        ] {
            assert_eq!(
                space(free, is_new, disk).verdict,
                verdict,
                "{free} {disk:?}"
            );
        }
    }

    #[test]
    fn each_step_that_is_refused_says_what_to_do_on_one_line() {
        let system = FileSystem {
            name: "ext4".to_owned(),
            in_memory: false,
            free_bytes: 0,
        };
        for (step, errno, word) in [
            (Step::Create, libc::EACCES, "install -d -m 700"),
            (Step::Create, libc::EROFS, "remount,rw"),
            (Step::OpenDirect, libc::EINVAL, "--data DIR"),
            (Step::Preallocate, libc::EOPNOTSUPP, "--data DIR"),
            (Step::Write, libc::EOPNOTSUPP, "--data DIR"),
            (Step::Write, libc::ENOSPC, "df -h"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let check = Refused { step, error }.check(Path::new("/d/e"), Path::new("/d"), &system);
            let full = errno == libc::ENOSPC;
            let verdict = if full { Verdict::Warn } else { Verdict::Fail };
            assert_eq!(check.verdict, verdict, "{step:?}");
            assert!(check.to_string().contains(word), "{check}");
            assert!(!check.to_string().contains('\n'));
        }
    }

    #[test]
    fn nothing_is_left_behind() {
        let root = std::env::current_dir().expect("a directory to work in");
        let directory = root.join(format!("target/preflight-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory of its own");
        let checks = check(&directory.join("data/deeper"), None);
        assert_eq!(checks[0].verdict, Verdict::Ok, "{checks:?}");
        let left = fs::read_dir(&directory).expect("it is there").count();
        let _ = fs::remove_dir_all(&directory);
        assert_eq!(left, 0);
    }
}
