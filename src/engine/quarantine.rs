//! The quarantine: one small file a place that could not be read, so that a restart does not forget it and an operator
//! finds the bytes. The name says all that the program reads again; what stands in it is for people.
//!
//! The damaged file itself stays where it is: the rest of it is served, and nothing merges or collects it. A note goes
//! when its file is no longer named by the manifest, or when an operator removes it.

use super::Engine;
use super::damage::{Bad, BadFile, News, Spot};
use super::log::segment;
use super::manifest::State as ManifestState;
use super::shell::Shell;
use super::table;
use crate::base::limits::DAMAGED_PLACES_MAX;
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::runtime::disk::{Disk, DiskCause, DiskError};

/// The directory of the notes of all shards; it is there once something is.
pub const DIRECTORY: &str = "quarantine";

/// The name of the note of a place, under the data directory: the file, where, how many bytes.
pub fn name(spot: Spot) -> String {
    let file = spot.file.name();
    let file = file.rsplit('/').next().expect("a name has an end");
    format!("{DIRECTORY}/{file}+{}+{}", spot.offset, spot.bytes)
}

/// The place in a name as `list("quarantine")` gives it; `None` for anything that `name` does not write.
fn parse_name(note: &str) -> Option<Spot> {
    let mut parts = note.split('+');
    let (file, offset, bytes) = (parts.next()?, parts.next()?, parts.next()?);
    let table = table::parse_name(file).map(BadFile::Table);
    let spot = Spot {
        file: table.or_else(|| segment::parse_name(file).map(BadFile::Segment))?,
        offset: offset.parse().ok()?,
        bytes: bytes.parse().ok()?,
    };
    let written = name(spot);
    written.ends_with(note).then_some(spot)
}

/// What earlier lives of this shard noted; notes of files that are gone are removed.
pub(super) async fn load(disk: &Disk, state: &ManifestState) -> Result<Vec<Spot>, DiskError> {
    let notes = match disk.list(DIRECTORY).await {
        Ok(notes) => notes,
        Err(error) if error.cause == DiskCause::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut spots = Vec::new();
    for spot in notes.iter().filter_map(|note| parse_name(note)) {
        let (BadFile::Table(number) | BadFile::Segment(number)) = spot.file;
        if !segment::belongs(number, state.shard, state.shards) || planted!(QuarantineForgotten) {
            continue;
        }
        let named = match spot.file {
            BadFile::Table(number) => state.tables.iter().any(|row| row.number == number),
            BadFile::Segment(number) => state.all_segments().any(|one| one.number == number),
        };
        if !named {
            disk.remove(&name(spot)).await?;
        } else if spots.len() < DAMAGED_PLACES_MAX {
            spots.push(spot);
        }
    }
    Ok(spots)
}

impl Shell {
    async fn record(&self, bad: &Bad) -> Result<(), DiskError> {
        let spot = bad.spot;
        let mut text = format!(
            "{}, {} bytes at byte {}: {}\n",
            spot.file.name(),
            spot.bytes,
            spot.offset,
            bad.what
        );
        if let Some(sums) = bad.sums {
            let (stated, found) = (sums.stated, sums.found);
            text +=
                &format!("checksum: {stated:08x} is written there, the bytes have {found:08x}\n");
        }
        text += &format!(
            "met first: {} ms after 1970\n\
             What is read there answers an error; the rest of the file is served, and it is not merged or collected.\n\
             Check the disk. Stop the node, put back a sound copy of the file, remove this note, start the node.\n",
            self.runtime.unix_time().0
        );
        self.disk().create_dir(DIRECTORY).await?;
        self.disk()
            .replace_small(&name(spot), text.as_bytes())
            .await
    }
}

impl Engine {
    /// Waits for something that an operator should hear of. A place that could not be read is noted durably before it
    /// is returned; the error says why it could not be.
    pub async fn next_damage(&self) -> (News, Result<(), DiskError>) {
        let shell = &self.shell;
        loop {
            let news = shell.state.borrow_mut().damage().next_news();
            let Some(news) = news else {
                shell.damaged.notified().await;
                continue;
            };
            let mut recorded = Ok(());
            if let News::Unreadable(bad) = &news
                && !shell.state.borrow_mut().damage().is_recorded(bad.spot)
            {
                recorded = shell.record(bad).await;
                if recorded.is_ok() {
                    mark!(Quarantined);
                    shell.state.borrow_mut().damage().on_recorded(bad.spot);
                }
            }
            return (news, recorded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_others() {
        for (file, name_of) in [
            (BadFile::Table(12), "0000000012.table+8192+4096"),
            (BadFile::Segment(u32::MAX), "4294967295.segment+8192+4096"),
        ] {
            let spot = Spot {
                file,
                offset: 8192,
                bytes: 4096,
            };
            assert_eq!(name(spot), format!("quarantine/{name_of}"));
            assert_eq!(parse_name(name_of), Some(spot));
        }
        for other in [
            "0000000012.table",
            "0000000012.table+8192",
            "0000000012.table+08192+4096",
            "0000000012.table+8192+4096.new",
            "0000000012.table+8192+4096+1",
            "12.table+8192+4096",
            "0000000012.table+-1+4096",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
