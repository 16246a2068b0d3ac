//! The bytes of a file, as far as the disk gives them.

use crate::base::limits::{BULK_READ_BYTES_MAX, PAGE_BYTES};
use crate::engine::inspect::Flaw;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) struct Contents {
    pub bytes: Vec<u8>,
    /// Pages that the disk does not give; they are zeroes in `bytes`.
    pub unreadable: Vec<Flaw>,
}

impl Contents {
    pub fn read(path: &Path) -> io::Result<Contents> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut contents = Contents {
            bytes: vec![0; file.metadata()?.len() as usize],
            unreadable: Vec::new(),
        };
        for offset in (0..contents.bytes.len()).step_by(BULK_READ_BYTES_MAX) {
            contents.piece(&file, offset);
        }
        Ok(contents)
    }

    /// What cannot be read in one go is read page by page.
    fn piece(&mut self, file: &File, offset: usize) {
        let end = self.bytes.len().min(offset + BULK_READ_BYTES_MAX);
        if file
            .read_exact_at(&mut self.bytes[offset..end], offset as u64)
            .is_ok()
        {
            return;
        }
        for offset in (offset..end).step_by(PAGE_BYTES) {
            let end = end.min(offset + PAGE_BYTES);
            let page = &mut self.bytes[offset..end];
            if let Err(error) = file.read_exact_at(page, offset as u64) {
                page.fill(0);
                self.unreadable.push(Flaw {
                    offset: offset as u64,
                    bytes: (end - offset) as u64,
                    what: format!("it cannot be read: {error}"),
                });
            }
        }
    }
}
