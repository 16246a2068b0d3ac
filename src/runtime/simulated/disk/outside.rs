//! What tests see and do with a disk from outside.

use super::image::Image;
use super::machine::{Inode, MachineDisk};
use super::names::Names;
use std::collections::BTreeMap;

/// The durable image of a machine's disk at one moment; the default one is an empty disk.
#[derive(Clone, Default)]
pub struct Snapshot {
    names: Names,
    images: BTreeMap<u64, Image>,
}

impl MachineDisk {
    pub fn paths(&self) -> Vec<String> {
        self.names.files().map(|(name, _)| name.clone()).collect()
    }

    pub fn bytes(&self, path: &str, durable: bool) -> Option<Vec<u8>> {
        let image = &self.inodes.get(&self.file(path).ok()?)?.image;
        if durable {
            return Some(image.read_durable());
        }
        let mut bytes = vec![0; image.len() as usize];
        image.read(0, &mut bytes);
        Some(bytes)
    }

    /// False if there is no such range.
    pub fn corrupt(&mut self, path: &str, offset: u64, len: usize) -> bool {
        let Ok(inode) = self.file(path) else {
            return false;
        };
        match self.image(inode) {
            Ok(image) if offset + len as u64 <= image.len() => {
                image.corrupt(offset, len, |bytes| {
                    bytes.iter_mut().for_each(|byte| *byte ^= 0xa5)
                });
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Puts bytes where they were never written by anybody; false if there is no such range.
    pub fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> bool {
        let Ok(inode) = self.file(path) else {
            return false;
        };
        match self.image(inode) {
            Ok(image) if offset + bytes.len() as u64 <= image.len() => {
                image.write_durable(offset, bytes);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// No read of this page of a file succeeds any more; false if there is no such file.
    pub fn kill_page(&mut self, path: &str, page: u64) -> bool {
        let inode = self.file(path);
        inode.is_ok_and(|inode| {
            self.dead_pages.insert((inode, page));
            true
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        let images = self.inodes.iter();
        Snapshot {
            names: self.names.durable_only(),
            images: images
                .map(|(id, inode)| (*id, inode.image.durable_only()))
                .collect(),
        }
    }

    pub fn restore(&mut self, snapshot: &Snapshot) {
        assert!(
            self.in_flight.is_empty() && self.locks.is_empty(),
            "the machine must be down"
        );
        self.names = snapshot.names.clone();
        let images = snapshot.images.iter();
        self.inodes = images
            .map(|(id, image)| {
                (
                    *id,
                    Inode {
                        image: image.clone(),
                        open: Vec::new(),
                    },
                )
            })
            .collect();
        self.sweep();
    }
}
