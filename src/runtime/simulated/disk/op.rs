//! The primitive steps on a disk. Each is one I/O: one count, one latency, one place to fail or to
//! crash.

use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{DiskCause, Persist, Space};

/// One primitive step on the disk: one I/O.
pub enum Op {
    MakeDir {
        path: String,
    },
    Open {
        path: String,
    },
    /// A new empty file.
    Create {
        path: String,
    },
    /// Room for a new file, all zeros.
    Allocate {
        inode: u64,
        len: u64,
    },
    /// A new empty file, in place of one that may be there.
    OpenFresh {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// Another name of a file.
    Link {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    List {
        path: String,
    },
    SyncDir {
        path: String,
        fence: u64,
    },
    Lock {
        path: String,
    },
    ReadSmall {
        path: String,
    },
    Space,
    Read {
        inode: u64,
        offset: u64,
        len: usize,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
        persist: Persist,
        fence: u64,
    },
    Sync {
        inode: u64,
        fence: u64,
    },
}

pub enum Done {
    Nothing,
    Opened { inode: u64 },
    Locked { token: u64, inode: u64 },
    Names(Vec<String>),
    Page(PageBuffer),
    Bytes(Vec<u8>),
    Space(Space),
}

pub type Answer = Result<Done, DiskCause>;

/// What a step costs, and which fault it can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Read,
    CachedWrite,
    DurableWrite,
    Sync,
    Metadata,
}

impl Op {
    pub fn class(&self) -> Class {
        match self {
            Op::Read { .. } | Op::ReadSmall { .. } => Class::Read,
            Op::Write { persist, .. } => match persist {
                Persist::Later => Class::CachedWrite,
                Persist::Dsync | Persist::WriteThenSync => Class::DurableWrite,
            },
            Op::Sync { .. } | Op::SyncDir { .. } => Class::Sync,
            Op::MakeDir { .. }
            | Op::Open { .. }
            | Op::Create { .. }
            | Op::Allocate { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Lock { .. }
            | Op::Space => Class::Metadata,
        }
    }

    /// The bytes that enter the trace.
    pub fn traced(&self) -> &[u8] {
        match self {
            Op::MakeDir { path }
            | Op::Open { path }
            | Op::Create { path }
            | Op::OpenFresh { path }
            | Op::Remove { path }
            | Op::List { path }
            | Op::SyncDir { path, .. }
            | Op::Lock { path }
            | Op::ReadSmall { path } => path.as_bytes(),
            Op::Rename { to, .. } | Op::Link { to, .. } => to.as_bytes(),
            Op::Write { bytes, .. } => bytes,
            Op::Space | Op::Allocate { .. } | Op::Read { .. } | Op::Sync { .. } => b"",
        }
    }
}
