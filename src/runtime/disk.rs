//! Files of one data directory: direct I/O on page-aligned ranges, names made durable explicitly.

use super::buffer::PageBuffer;

/// What a failed call was about, and why. The caller decides whether its log is poisoned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} {name}: {cause}")]
pub struct DiskError {
    pub verb: &'static str,
    pub name: String,
    pub cause: DiskCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskCause {
    #[error("no such file")]
    NotFound,
    #[error("it exists already")]
    Exists,
    #[error("the disk is full")]
    NoSpace,
    #[error("too many files are open; raise the limit: ulimit -n")]
    TooManyOpen,
    #[error("held by another process")]
    Locked,
    #[error("the file ends before the range")]
    PastEnd,
    /// An errno, for example 5 for an I/O error.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Os(i32),
}

impl DiskCause {
    /// Nothing has failed: the same call may succeed later, when there is room again.
    pub fn passes(self) -> bool {
        matches!(self, DiskCause::NoSpace | DiskCause::TooManyOpen)
    }
}

/// How far a write is carried before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// To the device's cache at best; a later `sync` decides.
    Later,
    /// Durable on return: RWF_DSYNC. These pages, and what it takes to read them.
    Dsync,
    /// Durable on return: a write linked to fdatasync. These pages, and all that was written to the file before.
    WriteThenSync,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Read and write an existing file.
    Existing,
    /// Make a new file of this many preallocated bytes (whole pages); an existing name is an error.
    /// Neither its name nor its size is durable before `sync` and `sync_dir`.
    Create { len: u64 },
}

/// The names under one root; clones are the same directory. Names are relative, with `/`.
#[derive(Clone)]
pub enum Disk {
    Glommio(super::glommio::Disk),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Disk),
}

impl Disk {
    /// Makes a directory (mode 0700) and its parents; an existing one is fine. Durable on return.
    pub async fn create_dir(&self, name: &str) -> Result<(), DiskError> {
        match self {
            Disk::Glommio(x) => x.create_dir(name).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.create_dir(name).await,
        }
    }
    pub async fn open(&self, name: &str, how: Open) -> Result<File, DiskError> {
        match self {
            Disk::Glommio(x) => x.open(name, how).await.map(File::Glommio),
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.open(name, how).await.map(File::Simulated),
        }
    }
    /// Replaces `to` if it exists. Durable only after `sync_dir` of both directories.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        match self {
            Disk::Glommio(x) => x.rename(from, to).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.rename(from, to).await,
        }
    }
    /// Another name of a file; one that is there is an error. Durable only after `sync_dir` of its directory.
    pub async fn link(&self, name: &str, other: &str) -> Result<(), DiskError> {
        match self {
            Disk::Glommio(x) => x.link(name, other).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.link(name, other).await,
        }
    }
    /// The names under a directory of this root.
    pub fn under(&self, dir: &str) -> Disk {
        match self {
            Disk::Glommio(x) => Disk::Glommio(x.under(dir)),
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => Disk::Simulated(x.under(dir)),
        }
    }
    pub async fn remove(&self, name: &str) -> Result<(), DiskError> {
        match self {
            Disk::Glommio(x) => x.remove(name).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.remove(name).await,
        }
    }
    /// Names in a directory ("" is the root), sorted, without `.` and `..`.
    pub async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        match self {
            Disk::Glommio(x) => x.list(dir).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.list(dir).await,
        }
    }
    /// A full fsync of the directory: creations, renames and removals in it are durable on return.
    pub async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        match self {
            Disk::Glommio(x) => x.sync_dir(dir).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.sync_dir(dir).await,
        }
    }
    /// Takes the lock file `name` for this process until the `Lock` is dropped, and writes the process id into it.
    /// `Locked` if another process holds it.
    pub async fn lock(&self, name: &str) -> Result<Lock, DiskError> {
        match self {
            Disk::Glommio(x) => x.lock(name).await.map(Lock::Glommio),
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.lock(name).await.map(Lock::Simulated),
        }
    }
    /// The whole of a small file, of any length; not for segments or tables.
    pub async fn read_small(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        match self {
            Disk::Glommio(x) => x.read_small(name).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.read_small(name).await,
        }
    }
    /// Replaces a small file as a whole (mode 0600): new file, write, fsync, rename, fsync of the directory.
    /// Durable on return; after a crash the file is the old one or the new one.
    pub async fn replace_small(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        match self {
            Disk::Glommio(x) => x.replace_small(name, bytes).await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.replace_small(name, bytes).await,
        }
    }
    /// Bytes free to this process on the file system, and its total.
    pub async fn space(&self) -> Result<Space, DiskError> {
        match self {
            Disk::Glommio(x) => x.space().await,
            #[cfg(feature = "sim")]
            Disk::Simulated(x) => x.space().await,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// An open file; clones are the same one, the last drop closes it.
#[derive(Clone)]
pub enum File {
    Glommio(super::glommio::File),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::File),
}

impl File {
    pub fn len(&self) -> u64 {
        match self {
            File::Glommio(x) => x.len(),
            #[cfg(feature = "sim")]
            File::Simulated(x) => x.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Exactly `len` bytes from `offset`, both whole pages; `PastEnd` if the file is shorter. A point read of the
    /// foreground.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<PageBuffer, DiskError> {
        match self {
            File::Glommio(x) => x.read_at(offset, len).await,
            #[cfg(feature = "sim")]
            File::Simulated(x) => x.read_at(offset, len).await,
        }
    }
    /// The same for bulk work (replay, scans, copies), which yields to the foreground.
    pub async fn read_bulk_at(&self, offset: u64, len: usize) -> Result<PageBuffer, DiskError> {
        match self {
            File::Glommio(x) => x.read_bulk_at(offset, len).await,
            #[cfg(feature = "sim")]
            File::Simulated(x) => x.read_bulk_at(offset, len).await,
        }
    }
    /// Writes the first `len` bytes of `buffer` at `offset`, all whole pages, and hands the buffer back.
    /// Short writes are continued inside. After an error the bytes may be there in part, or appear later.
    pub async fn write_at(
        &self,
        offset: u64,
        buffer: PageBuffer,
        len: usize,
        persist: Persist,
    ) -> (PageBuffer, Result<(), DiskError>) {
        match self {
            File::Glommio(x) => x.write_at(offset, buffer, len, persist).await,
            #[cfg(feature = "sim")]
            File::Simulated(x) => x.write_at(offset, buffer, len, persist).await,
        }
    }
    /// A full fsync: data, length and allocation are durable on return. Never called again on a file where it failed.
    pub async fn sync(&self) -> Result<(), DiskError> {
        match self {
            File::Glommio(x) => x.sync().await,
            #[cfg(feature = "sim")]
            File::Simulated(x) => x.sync().await,
        }
    }
}

/// The lock of a data directory.
pub enum Lock {
    Glommio(super::glommio::Lock),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Lock),
}
