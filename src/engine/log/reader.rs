//! Finds the groups of a segment, from the front, page by page where there is none. Errors of the disk are errors here:
//! never the end of the log.

use super::format::{GROUP_HEADER_BYTES, GroupHeader, LOG_FORMAT};
use super::group::{self, LogId, NoGroup};
use super::segment;
use crate::base::limits::{BULK_READ_BYTES_MAX, PAGE_BYTES};
use crate::engine::outcome::OpenError;
use crate::runtime::disk::{DiskError, File};

/// Reads one segment up to `end`.
pub struct SegmentReader {
    file: File,
    log: LogId,
    number: u32,
    /// Where to look next.
    offset: u64,
    end: u64,
    /// Bytes of the file from `window_start` on.
    window: Vec<u8>,
    window_start: u64,
    /// Pages without a group since the last one hold something other than zeroes.
    dirty: bool,
}

/// A group whose header and body are whole.
pub struct FoundGroup<'a> {
    pub header: GroupHeader,
    pub offset: u64,
    /// Its pages.
    pub bytes: &'a [u8],
}

impl SegmentReader {
    /// `from` and `end`: whole pages, within the file.
    pub fn new(file: File, log: LogId, number: u32, from: u64, end: u64) -> SegmentReader {
        assert!(end.is_multiple_of(PAGE_BYTES as u64) && end <= file.len());
        assert!(from.is_multiple_of(PAGE_BYTES as u64) && from <= end);
        SegmentReader {
            file,
            log,
            number,
            offset: from,
            end,
            window: Vec::new(),
            window_start: from,
            dirty: false,
        }
    }

    /// Whether something stood between the last group and here that is none.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Where the next read of the file begins: an error of the disk was met there.
    pub fn reads_at(&self) -> u64 {
        self.window_start + self.window.len() as u64
    }

    /// The next whole group of this log at or behind `offset`; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<FoundGroup<'_>>, OpenError> {
        while self.offset < self.end {
            let offset = self.offset;
            let (log, number) = (self.log, self.number);
            let page = self.bytes(offset, PAGE_BYTES).await?;
            match group::read_header(page, log, number, offset) {
                Ok(header) => {
                    let len = header.pages as usize * PAGE_BYTES;
                    let fits = offset + len as u64 <= self.end;
                    if fits && group::body_is_whole(&header, self.bytes(offset, len).await?) {
                        self.offset += len as u64;
                        self.dirty = false;
                        let from = (offset - self.window_start) as usize;
                        let bytes = &self.window[from..from + len];
                        return Ok(Some(FoundGroup {
                            header,
                            offset,
                            bytes,
                        }));
                    }
                    self.dirty = true;
                }
                Err(NoGroup::OtherFormat(found)) => {
                    return Err(OpenError::other_format(
                        segment::name(number),
                        found,
                        LOG_FORMAT,
                    ));
                }
                Err(NoGroup::Foreign) => {
                    // Most pages of a segment that was cut early are zero: look at them in whole cache lines.
                    let line_is_zero =
                        |line: &[u8]| line.iter().fold(0, |all, byte| all | byte) == 0;
                    let rubbish = !page.chunks_exact(64).all(line_is_zero);
                    self.dirty |= rubbish;
                }
            }
            self.offset += PAGE_BYTES as u64;
        }
        Ok(None)
    }

    /// `len` bytes from `offset`; what lies before `offset` is let go.
    async fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], DiskError> {
        assert!(len >= GROUP_HEADER_BYTES && offset >= self.window_start);
        assert!(offset + len as u64 <= self.end);
        let gone = ((offset - self.window_start) as usize).min(self.window.len());
        if self.window.len() - gone < len {
            self.window.drain(..gone);
            self.window_start += gone as u64;
            if self.window.is_empty() {
                self.window_start = offset;
            }
        }
        while self.window_start + (self.window.len() as u64) < offset + len as u64 {
            let from = self.window_start + self.window.len() as u64;
            let step = (self.end - from).min(BULK_READ_BYTES_MAX as u64) as usize;
            let piece = self.file.read_bulk_at(from, step).await?;
            self.window.extend_from_slice(&piece[..step]);
        }
        let from = (offset - self.window_start) as usize;
        Ok(&self.window[from..from + len])
    }
}
