//! The disk side of the facade: each verb is one or more primitive steps, each its own I/O and its
//! own place to crash.

mod flight;
mod image;
#[cfg(test)]
mod image_tests;
pub(super) mod machine;
mod names;
mod op;
mod outside;
#[cfg(test)]
mod tests;

use super::executor::Wait;
use super::process::Process;
use crate::base::limits::PAGE_BYTES;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{DiskCause, DiskError, Open, Persist, Space};
use names::parent;
use op::{Answer, Done, Op};
pub use outside::Snapshot;
use std::path::{Component, Path};
use std::rc::Rc;

#[derive(Clone)]
pub struct Disk {
    process: Process,
    root: Rc<str>,
}

/// Does one step; never returns in a dead process.
async fn step(process: &Process, op: Op) -> Answer {
    let issued = process
        .live(|state| state.disk_issue(process.id, op))
        .flatten();
    Wait(issued).await
}

fn failed(verb: &'static str, name: &str) -> impl Fn(DiskCause) -> DiskError {
    move |cause| DiskError {
        verb,
        name: name.to_string(),
        cause,
    }
}

impl Disk {
    /// The directories of `root` are there and durable before the world begins.
    pub(super) fn new(process: Process, root: &Path) -> Disk {
        let parts = root.iter().map(|part| part.to_string_lossy());
        let root = parts
            .filter(|part| part != "/")
            .collect::<Vec<_>>()
            .join("/");
        process.live(|state| {
            let machine = state.process(process.id).machine;
            state.machine(machine).disk.names.found(&root);
        });
        Disk {
            process,
            root: root.into(),
        }
    }

    fn path(&self, name: &str) -> String {
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        assert!(inside, "a name stays under its root: {name}");
        match (&*self.root, name) {
            ("", name) => name.to_string(),
            (root, "") => root.to_string(),
            (root, name) => format!("{root}/{name}"),
        }
    }

    pub async fn create_dir(&self, name: &str) -> Result<(), DiskError> {
        let failed = failed("create", name);
        let ends = name.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([name.len()]) {
            let path = self.path(&name[..end]);
            if end == 0 {
                continue;
            }
            let above = parent(&path).to_string();
            step(&self.process, Op::MakeDir { path })
                .await
                .map_err(&failed)?;
            self.sync_path(above).await.map_err(&failed)?;
        }
        Ok(())
    }

    async fn sync_path(&self, path: String) -> Result<(), DiskCause> {
        let fence = 0;
        step(&self.process, Op::SyncDir { path, fence }).await?;
        Ok(())
    }

    fn file(&self, name: &str, inode: u64) -> File {
        File {
            handle: Rc::new(Handle {
                process: self.process.clone(),
                name: name.to_string(),
                inode,
            }),
        }
    }

    async fn open_by(&self, op: Op, name: &str) -> Result<File, DiskCause> {
        match step(&self.process, op).await? {
            Done::Opened { inode } => Ok(self.file(name, inode)),
            _ => unreachable!("an open answers with a file"),
        }
    }

    pub async fn open(&self, name: &str, how: Open) -> Result<File, DiskError> {
        let path = self.path(name);
        let failed = failed("open", name);
        let Open::Create { len } = how else {
            return self.open_by(Op::Open { path }, name).await.map_err(failed);
        };
        assert!(len.is_multiple_of(PAGE_BYTES as u64), "whole pages");
        let file = self
            .open_by(Op::Create { path }, name)
            .await
            .map_err(&failed)?;
        let inode = file.handle.inode;
        if let Err(cause) = step(&self.process, Op::Allocate { inode, len }).await {
            // The first error is the one to tell; an empty file that stays is rubbish.
            let _ = self.remove(name).await;
            return Err(failed(cause));
        }
        Ok(file)
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let op = Op::Rename {
            from: self.path(from),
            to: self.path(to),
        };
        let done = step(&self.process, op).await;
        done.map(drop).map_err(failed("rename", from))
    }

    pub async fn link(&self, name: &str, other: &str) -> Result<(), DiskError> {
        let op = Op::Link {
            from: self.path(name),
            to: self.path(other),
        };
        let done = step(&self.process, op).await;
        done.map(drop).map_err(failed("link", name))
    }

    pub fn under(&self, dir: &str) -> Disk {
        Disk {
            process: self.process.clone(),
            root: self.path(dir).into(),
        }
    }

    pub async fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name);
        let done = step(&self.process, Op::Remove { path }).await;
        done.map(drop).map_err(failed("remove", name))
    }

    pub async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let path = self.path(dir);
        match step(&self.process, Op::List { path }).await {
            Ok(Done::Names(names)) => Ok(names),
            Ok(_) => unreachable!("a list answers with names"),
            Err(cause) => Err(failed("list", dir)(cause)),
        }
    }

    pub async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let synced = self.sync_path(self.path(dir)).await;
        synced.map_err(failed("sync", dir))
    }

    pub async fn lock(&self, name: &str) -> Result<Lock, DiskError> {
        let failed = failed("lock", name);
        let path = self.path(name);
        let locked = step(&self.process, Op::Lock { path })
            .await
            .map_err(&failed)?;
        let Done::Locked { token, inode } = locked else {
            unreachable!("a lock answers with a lock");
        };
        let file = self.file(name, inode);
        let process_id = format!("{}\n", self.process.id.0);
        file.write_small(process_id.as_bytes())
            .await
            .map_err(&failed)?;
        Ok(Lock { file, token })
    }

    pub async fn read_small(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        let path = self.path(name);
        match step(&self.process, Op::ReadSmall { path }).await {
            Ok(Done::Bytes(bytes)) => Ok(bytes),
            Ok(_) => unreachable!("a read answers with bytes"),
            Err(cause) => Err(failed("read", name)(cause)),
        }
    }

    pub async fn replace_small(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let failed = failed("replace", name);
        let temporary = format!("{name}.new");
        let path = self.path(&temporary);
        let op = Op::OpenFresh { path };
        let file = self.open_by(op, &temporary).await.map_err(&failed)?;
        file.write_small(bytes).await.map_err(&failed)?;
        file.sync().await?;
        self.rename(&temporary, name).await?;
        let above = parent(&self.path(name)).to_string();
        self.sync_path(above).await.map_err(&failed)
    }

    pub async fn space(&self) -> Result<Space, DiskError> {
        match step(&self.process, Op::Space).await {
            Ok(Done::Space(space)) => Ok(space),
            Ok(_) => unreachable!("space answers with space"),
            Err(cause) => Err(failed("measure", "")(cause)),
        }
    }
}

/// An open file; clones are the same one.
#[derive(Clone)]
pub struct File {
    handle: Rc<Handle>,
}

struct Handle {
    process: Process,
    name: String,
    inode: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.process.live(|state| {
            let machine = state.process(self.process.id).machine;
            state
                .machine(machine)
                .disk
                .close(self.inode, self.process.id);
        });
    }
}

impl File {
    #[allow(
        clippy::len_without_is_empty,
        reason = "the facade answers that for both backends"
    )]
    pub fn len(&self) -> u64 {
        let handle = &self.handle;
        let len = handle.process.live(|state| {
            let machine = state.process(handle.process.id).machine;
            state.machine(machine).disk.len(handle.inode)
        });
        len.unwrap_or(0)
    }

    pub async fn read_at(&self, offset: u64, len: usize) -> Result<PageBuffer, DiskError> {
        assert!(
            len > 0 && len.is_multiple_of(PAGE_BYTES) && offset.is_multiple_of(PAGE_BYTES as u64)
        );
        let inode = self.handle.inode;
        match step(&self.handle.process, Op::Read { inode, offset, len }).await {
            Ok(Done::Page(page)) => Ok(page),
            Ok(_) => unreachable!("a read answers with pages"),
            Err(cause) => Err(failed("read", &self.handle.name)(cause)),
        }
    }

    pub async fn read_bulk_at(&self, offset: u64, len: usize) -> Result<PageBuffer, DiskError> {
        self.read_at(offset, len).await
    }

    pub async fn write_at(
        &self,
        offset: u64,
        buffer: PageBuffer,
        len: usize,
        persist: Persist,
    ) -> (PageBuffer, Result<(), DiskError>) {
        assert!(len > 0 && len <= buffer.len() && len.is_multiple_of(PAGE_BYTES));
        assert!(offset.is_multiple_of(PAGE_BYTES as u64));
        let op = Op::Write {
            inode: self.handle.inode,
            offset,
            bytes: buffer[..len].to_vec(),
            persist,
            fence: 0,
        };
        let done = step(&self.handle.process, op).await;
        let done = done.map(drop).map_err(failed("write", &self.handle.name));
        (buffer, done)
    }

    /// Bytes of any length at the start of a small file.
    async fn write_small(&self, bytes: &[u8]) -> Result<(), DiskCause> {
        let op = Op::Write {
            inode: self.handle.inode,
            offset: 0,
            bytes: bytes.to_vec(),
            persist: Persist::Later,
            fence: 0,
        };
        step(&self.handle.process, op).await.map(drop)
    }

    pub async fn sync(&self) -> Result<(), DiskError> {
        let inode = self.handle.inode;
        let done = step(&self.handle.process, Op::Sync { inode, fence: 0 }).await;
        done.map(drop).map_err(failed("sync", &self.handle.name))
    }
}

/// The lock of a data directory; a crash or a kill releases it too.
pub struct Lock {
    file: File,
    token: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let process = &self.file.handle.process;
        process.live(|state| {
            let machine = state.process(process.id).machine;
            state.machine(machine).disk.unlock(self.token);
        });
    }
}
