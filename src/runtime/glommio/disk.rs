//! Names of one directory tree. All that may wait for the device goes through the ring; looking at names, the lock
//! and the free space are direct calls: they happen at start, or rarely.
#![allow(unsafe_code)]

use super::Shard;
use super::file::{File, Handle, error};
use super::operations::Held;
use super::sockets::owned;
use crate::base::limits::PAGE_BYTES;
use crate::runtime::disk::{DiskError, Open, Space};
use io_uring::{opcode, types::Fd};
use std::cell::Cell;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

const FILE_MODE: libc::mode_t = 0o600;
const DIRECTORY_MODE: libc::mode_t = 0o700;

/// The names under one root.
#[derive(Clone)]
pub struct Disk {
    shard: Shard,
    root: Rc<Path>,
}

/// Held as long as the file is open: flock goes with the descriptor.
pub struct Lock {
    _file: std::fs::File,
}

impl Disk {
    pub(super) fn new(shard: Shard, root: &Path) -> Disk {
        Disk {
            shard,
            root: Rc::from(root),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        assert!(inside, "a name stays under its root: {name}");
        self.root.join(name)
    }

    pub async fn create_dir(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name);
        let mut missing: Vec<&Path> = Vec::new();
        for ancestor in path.ancestors().filter(|a| !a.as_os_str().is_empty()) {
            if ancestor.is_dir() {
                break;
            }
            missing.push(ancestor);
        }
        for directory in missing.into_iter().rev() {
            let held = named(directory, None);
            let made = self.shard.operate(held, |held| {
                opcode::MkDirAt::new(Fd(libc::AT_FDCWD), name_of(held, 0))
                    .mode(DIRECTORY_MODE)
                    .build()
            });
            let (result, _) = made.await;
            let made_by_another = result == -libc::EEXIST && directory.is_dir();
            if result < 0 && !made_by_another {
                return Err(error("create directory", name, -result));
            }
            let parent = directory.parent().filter(|p| !p.as_os_str().is_empty());
            self.sync_path(parent.unwrap_or(Path::new(".")), name)
                .await?;
        }
        Ok(())
    }

    pub async fn open(&self, name: &str, how: Open) -> Result<File, DiskError> {
        let flags = libc::O_RDWR | libc::O_DIRECT;
        match how {
            Open::Existing => {
                let file = self.open_direct(name, flags).await?;
                let metadata =
                    std::fs::metadata(self.path(name)).map_err(|e| io("open", name, &e))?;
                file.len.set(metadata.len());
                Ok(file)
            }
            Open::Create { len } => {
                assert!(len.is_multiple_of(PAGE_BYTES as u64));
                let file = self
                    .open_direct(name, flags | libc::O_CREAT | libc::O_EXCL)
                    .await?;
                if len > 0 {
                    self.allocate(name, &file, len).await?;
                }
                file.len.set(len);
                Ok(file)
            }
        }
    }

    async fn open_direct(&self, name: &str, flags: i32) -> Result<File, DiskError> {
        let handle = self.open_handle(&self.path(name), name, flags).await;
        let handle = handle.map_err(|errno| match errno {
            libc::EINVAL => error("open for direct I/O", name, errno),
            _ => error("open", name, errno),
        })?;
        Ok(File {
            shard: self.shard.clone(),
            handle,
            len: Rc::new(Cell::new(0)),
        })
    }

    /// A file that could not be given its room is removed again.
    async fn allocate(&self, name: &str, file: &File, len: u64) -> Result<(), DiskError> {
        let held = Held {
            _file: Some(file.handle.clone()),
            ..Held::default()
        };
        let fd = file.handle.fd();
        let allocated = self
            .shard
            .operate(held, |_| opcode::Fallocate::new(fd, len).build());
        let (result, _) = allocated.await;
        if result < 0 {
            // The first error is the one to tell; a file that stays is rubbish that recovery removes.
            let _ = self.remove(name).await;
            return Err(error("preallocate", name, -result));
        }
        Ok(())
    }

    async fn open_handle(&self, path: &Path, name: &str, flags: i32) -> Result<Rc<Handle>, i32> {
        let held = named(path, None);
        let opened = self.shard.operate(held, |held| {
            opcode::OpenAt::new(Fd(libc::AT_FDCWD), name_of(held, 0))
                .flags(flags | libc::O_CLOEXEC)
                .mode(FILE_MODE)
                .build()
        });
        let (result, _) = opened.await;
        if result < 0 {
            return Err(-result);
        }
        Ok(Rc::new(Handle {
            descriptor: owned(result),
            name: name.to_owned(),
        }))
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let held = named(&self.path(from), Some(&self.path(to)));
        let renamed = self.shard.operate(held, |held| {
            let here = Fd(libc::AT_FDCWD);
            opcode::RenameAt::new(here, name_of(held, 0), here, name_of(held, 1)).build()
        });
        match renamed.await.0 {
            0.. => Ok(()),
            errno => Err(error("rename", from, -errno)),
        }
    }

    pub async fn link(&self, name: &str, other: &str) -> Result<(), DiskError> {
        let held = named(&self.path(name), Some(&self.path(other)));
        let linked = self.shard.operate(held, |held| {
            let here = Fd(libc::AT_FDCWD);
            opcode::LinkAt::new(here, name_of(held, 0), here, name_of(held, 1)).build()
        });
        match linked.await.0 {
            0.. => Ok(()),
            errno => Err(error("link", name, -errno)),
        }
    }

    pub fn under(&self, dir: &str) -> Disk {
        Disk::new(self.shard.clone(), &self.path(dir))
    }

    pub async fn remove(&self, name: &str) -> Result<(), DiskError> {
        let removed = self.shard.operate(named(&self.path(name), None), |held| {
            opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), name_of(held, 0)).build()
        });
        match removed.await.0 {
            0.. => Ok(()),
            errno => Err(error("remove", name, -errno)),
        }
    }

    pub async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let failed = |e: &std::io::Error| io("list", dir, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(dir)).map_err(|e| failed(&e))? {
            let name = entry.map_err(|e| failed(&e))?.file_name();
            // We make no other names; one that is not text is shown as far as it goes.
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    pub async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.sync_path(&self.path(dir), dir).await
    }

    async fn sync_path(&self, path: &Path, name: &str) -> Result<(), DiskError> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let handle = self.open_handle(path, name, flags).await;
        let handle = handle.map_err(|errno| error("open directory", name, errno))?;
        self.file(handle).sync().await
    }

    fn file(&self, handle: Rc<Handle>) -> File {
        File {
            shard: self.shard.clone(),
            handle,
            len: Rc::new(Cell::new(0)),
        }
    }

    pub async fn lock(&self, name: &str) -> Result<Lock, DiskError> {
        let failed = |e: std::io::Error| io("lock", name, &e);
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(self.path(name))
            .map_err(failed)?;
        // SAFETY: no memory is passed; the descriptor is open.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        super::sockets::check(locked).map_err(failed)?;
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Lock { _file: file })
    }

    pub async fn read_small(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        const STEP: usize = 64 * 1024;
        let handle = self
            .open_handle(&self.path(name), name, libc::O_RDONLY)
            .await;
        let handle = handle.map_err(|errno| error("open", name, errno))?;
        let mut bytes = Vec::new();
        loop {
            let held = Held {
                bytes: vec![0; STEP],
                _file: Some(handle.clone()),
                ..Held::default()
            };
            let (fd, at) = (handle.fd(), bytes.len() as u64);
            let read = self.shard.operate(held, |held| {
                let target = held.bytes.as_mut_ptr();
                opcode::Read::new(fd, target, STEP as u32)
                    .offset(at)
                    .build()
            });
            let (result, held) = read.await;
            match result {
                0 => return Ok(bytes),
                1.. => bytes.extend_from_slice(&held.bytes[..result as usize]),
                _ => return Err(handle.error("read", -result)),
            }
        }
    }

    pub async fn replace_small(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let new = format!("{name}.new");
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        let handle = self.open_handle(&self.path(&new), &new, flags).await;
        let handle = handle.map_err(|errno| error("create", &new, errno))?;
        let mut done = 0;
        while done < bytes.len() {
            let held = Held {
                bytes: bytes[done..].to_vec(),
                _file: Some(handle.clone()),
                ..Held::default()
            };
            let fd = handle.fd();
            let write = self.shard.operate(held, |held| {
                opcode::Write::new(fd, held.bytes.as_ptr(), held.bytes.len() as u32)
                    .offset(done as u64)
                    .build()
            });
            match write.await.0 {
                0 => return Err(handle.error("write", libc::EIO)),
                written @ 1.. => done += written as usize,
                errno => return Err(handle.error("write", -errno)),
            }
        }
        self.file(handle).sync().await?;
        self.rename(&new, name).await?;
        let directory = Path::new(name).parent().and_then(Path::to_str);
        self.sync_dir(directory.unwrap_or_default()).await
    }

    pub async fn space(&self) -> Result<Space, DiskError> {
        let path = c_string(&self.root);
        // SAFETY: all zeroes is a valid statvfs: plain integers.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers live through the call.
        let result = unsafe { libc::statvfs(path.as_ptr(), &mut found) };
        super::sockets::check(result).map_err(|e| io("measure", "the data directory", &e))?;
        Ok(Space {
            free_bytes: found.f_bavail * found.f_frsize,
            total_bytes: found.f_blocks * found.f_frsize,
        })
    }
}

fn io(verb: &'static str, name: &str, cause: &std::io::Error) -> DiskError {
    error(verb, name, cause.raw_os_error().unwrap_or(libc::EIO))
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path holds no NUL")
}

fn named(first: &Path, second: Option<&Path>) -> Held {
    Held {
        names: [Some(c_string(first)), second.map(c_string)],
        ..Held::default()
    }
}

fn name_of(held: &Held, which: usize) -> *const libc::c_char {
    held.names[which].as_ref().expect("it was named").as_ptr()
}
