//! An open file: direct reads and writes of whole pages through the shard's ring.
#![allow(unsafe_code)]

use super::Shard;
use super::operations::Held;
use crate::base::limits::PAGE_BYTES;
use crate::base::units::MIB;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{DiskCause, DiskError, Persist};
use io_uring::{opcode, squeue, types::Fd, types::FsyncFlags};
use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// Bytes of one request to the kernel; larger ones are taken in pieces.
const PIECE_BYTES: usize = MIB;

/// A descriptor with its name. Slots of operations hold it too, so it is closed after its last completion.
pub(super) struct Handle {
    pub(super) descriptor: OwnedFd,
    pub(super) name: String,
}

impl Handle {
    pub(super) fn fd(&self) -> Fd {
        Fd(self.descriptor.as_raw_fd())
    }

    pub(super) fn error(&self, verb: &'static str, errno: i32) -> DiskError {
        error(verb, &self.name, errno)
    }
}

pub(super) fn error(verb: &'static str, name: &str, errno: i32) -> DiskError {
    let cause = match errno {
        libc::ENOENT => DiskCause::NotFound,
        libc::EEXIST => DiskCause::Exists,
        libc::ENOSPC | libc::EDQUOT => DiskCause::NoSpace,
        libc::EMFILE | libc::ENFILE => DiskCause::TooManyOpen,
        libc::EWOULDBLOCK => DiskCause::Locked,
        other => DiskCause::Os(other),
    };
    DiskError {
        verb,
        name: name.to_owned(),
        cause,
    }
}

/// An open file; clones are the same one.
#[derive(Clone)]
pub struct File {
    pub(super) shard: Shard,
    pub(super) handle: Rc<Handle>,
    pub(super) len: Rc<Cell<u64>>,
}

// `is_empty` stands in the facade.
#[allow(clippy::len_without_is_empty)]
impl File {
    pub fn len(&self) -> u64 {
        self.len.get()
    }

    pub async fn read_at(&self, offset: u64, len: usize) -> Result<PageBuffer, DiskError> {
        self.read(offset, len, false).await
    }

    pub async fn read_bulk_at(&self, offset: u64, len: usize) -> Result<PageBuffer, DiskError> {
        self.read(offset, len, true).await
    }

    async fn read(&self, offset: u64, len: usize, bulk: bool) -> Result<PageBuffer, DiskError> {
        assert!(
            len > 0 && len.is_multiple_of(PAGE_BYTES) && offset.is_multiple_of(PAGE_BYTES as u64)
        );
        // SAFETY: it leaves this function only when the kernel has written all of it.
        let mut buffer = unsafe { PageBuffer::unwritten(len) };
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(PIECE_BYTES);
            let fd = self.handle.fd();
            let held = Held {
                pages: Some(buffer),
                _file: Some(self.handle.clone()),
                ..Held::default()
            };
            let read = self.shard.operate(held, |held| {
                let target = held.pages.as_ref().expect("just put there").address();
                opcode::Read::new(fd, target.wrapping_add(done), piece as u32)
                    .offset(offset + done as u64)
                    .build()
            });
            let (result, held) = read.await;
            buffer = held.pages.expect("just put there");
            match result {
                0 => {
                    return Err(DiskError {
                        verb: "read",
                        name: self.handle.name.clone(),
                        cause: DiskCause::PastEnd,
                    });
                }
                1.. => done += whole_pages(result),
                _ if again(result) => {}
                _ => return Err(self.handle.error("read", -result)),
            }
            // A file that ends inside a page ends before the range does.
            if result > 0 && whole_pages(result) == 0 {
                return Err(DiskError {
                    verb: "read",
                    name: self.handle.name.clone(),
                    cause: DiskCause::PastEnd,
                });
            }
            if bulk && done < len {
                self.shard.yield_now().await;
            }
        }
        Ok(buffer)
    }

    pub async fn write_at(
        &self,
        offset: u64,
        mut buffer: PageBuffer,
        len: usize,
        persist: Persist,
    ) -> (PageBuffer, Result<(), DiskError>) {
        assert!(len > 0 && len <= buffer.len() && len.is_multiple_of(PAGE_BYTES));
        assert!(offset.is_multiple_of(PAGE_BYTES as u64));
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(PIECE_BYTES);
            let at = offset + done as u64;
            let (returned, result) = self.write_piece(at, buffer, done, piece, persist).await;
            buffer = returned;
            match result {
                1.. => done += whole_pages(result),
                0 => return (buffer, Err(self.handle.error("write", libc::EIO))),
                _ if again(result) => {}
                _ => return (buffer, Err(self.handle.error("write", -result))),
            }
            if result > 0 && whole_pages(result) == 0 {
                return (buffer, Err(self.handle.error("write", libc::EIO)));
            }
        }
        self.len.set(self.len.get().max(offset + len as u64));
        (buffer, Ok(()))
    }

    /// One request: the bytes written, all of them as durable as `persist` says, or a negative errno.
    async fn write_piece(
        &self,
        offset: u64,
        buffer: PageBuffer,
        from: usize,
        len: usize,
        persist: Persist,
    ) -> (PageBuffer, i32) {
        let flags = match persist {
            Persist::Dsync => libc::RWF_DSYNC,
            Persist::Later | Persist::WriteThenSync => 0,
        };
        let mut held = Held {
            pages: Some(buffer),
            _file: Some(self.handle.clone()),
            ..Held::default()
        };
        let fd = self.handle.fd();
        let entry = |held: &mut Held| {
            let source = held.pages.as_ref().expect("just put there").address();
            opcode::Write::new(fd, source.wrapping_add(from), len as u32)
                .offset(offset)
                .rw_flags(flags)
                .build()
        };
        if persist != Persist::WriteThenSync {
            let (result, held) = self.shard.operate(held, entry).await;
            return (held.pages.expect("just put there"), result);
        }
        let write = entry(&mut held);
        let then = Held {
            _file: Some(self.handle.clone()),
            ..Held::default()
        };
        let sync = self.sync_entry(FsyncFlags::DATASYNC);
        let (write, sync) = self.shard.operate_linked((held, write), (then, sync));
        let (written, held) = write.await;
        let (synced, _) = sync.await;
        let buffer = held.pages.expect("just put there");
        if written <= 0 || synced == 0 {
            return (buffer, written);
        }
        // A short write breaks the link: what it wrote is synced on its own.
        if synced == -libc::ECANCELED && (written as usize) < len {
            let synced = self.fsync(FsyncFlags::DATASYNC).await;
            return (buffer, if synced < 0 { synced } else { written });
        }
        (buffer, synced)
    }

    pub async fn sync(&self) -> Result<(), DiskError> {
        match self.fsync(FsyncFlags::empty()).await {
            0.. => Ok(()),
            errno => Err(self.handle.error("sync", -errno)),
        }
    }

    fn sync_entry(&self, flags: FsyncFlags) -> squeue::Entry {
        opcode::Fsync::new(self.handle.fd()).flags(flags).build()
    }

    async fn fsync(&self, flags: FsyncFlags) -> i32 {
        let held = Held {
            _file: Some(self.handle.clone()),
            ..Held::default()
        };
        let entry = self.sync_entry(flags);
        self.shard.operate(held, |_| entry).await.0
    }
}

/// What of a count lies in whole pages: a short count may end inside one, which is then taken again.
fn whole_pages(count: i32) -> usize {
    count as usize / PAGE_BYTES * PAGE_BYTES
}

/// An interrupted request is sent again: it did nothing.
fn again(result: i32) -> bool {
    -result == libc::EINTR || -result == libc::EAGAIN
}
