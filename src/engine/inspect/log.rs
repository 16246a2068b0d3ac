//! What is in a segment of the log.

use super::{Flaw, NotRead};
use crate::base::limits::PAGE_BYTES;
use crate::causal::value_hash::value_hash;
use crate::engine::log::format::{GROUP_HEADER_BYTES, GroupHeader, LOG_FORMAT, WORD_BYTES};
use crate::engine::log::group::{self, LogId, NoGroup};
use crate::engine::log::record::{self, Found, Record};

/// A group whose header is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub number: u64,
    pub offset: u64,
    pub pages: u32,
    /// Of header and records.
    pub used_bytes: u32,
    pub records: u32,
    /// Of its first record; the others count on.
    pub first_sequence: u64,
    /// Groups up to this one were durable when it was written.
    pub durable_up_to: u64,
    pub previous: u64,
    /// Its records are as they were written.
    pub whole: bool,
}

/// What is met on the way through a segment, in its order.
pub enum LogPart<'a> {
    Group(&'a Group),
    /// A record of the group before it.
    Record {
        offset: u64,
        record: &'a Record<'a>,
        /// Values in it that differ from their hash.
        bad_values: usize,
    },
    Flaw(&'a Flaw),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSummary {
    pub segment: Option<u32>,
    /// `None`: no group says of which log it is.
    pub log: Option<LogId>,
    pub bytes: u64,
    /// Whole ones.
    pub groups: u64,
    pub records: u64,
    pub first: Option<u64>,
    pub last: Option<u64>,
    pub durable_up_to: u64,
    /// Where the last whole group ends.
    pub end: u64,
    /// Bytes up to which something stands behind that which is no whole group: a torn tail, or a group being written.
    pub tail: Option<u64>,
    pub flaws: u64,
}

/// Pages that should be groups.
struct Gap {
    from: u64,
    what: Option<String>,
}

struct Walk<'a, 'b> {
    bytes: &'a [u8],
    summary: LogSummary,
    /// Number and checksum of the last whole header.
    previous: Option<(u64, u32)>,
    gap: Option<Gap>,
    see: &'b mut dyn FnMut(LogPart<'_>),
}

/// Shows the groups of a segment, and their records. `number`: the segment's, if its name says it; `sealed`: where the
/// manifest says that its groups end, if it does: what is missing before that was lost.
pub fn log(
    bytes: &[u8],
    number: Option<u32>,
    sealed: Option<u64>,
    see: &mut dyn FnMut(LogPart<'_>),
) -> Result<LogSummary, NotRead> {
    let claims = || bytes.chunks_exact(PAGE_BYTES).filter_map(group::claim);
    let named = claims().find(|(_, segment)| number == Some(*segment));
    let claim = named.or_else(|| claims().next());
    let summary = LogSummary {
        segment: claim.map(|(_, segment)| segment).or(number),
        log: claim.map(|(log, _)| log),
        bytes: bytes.len() as u64,
        groups: 0,
        records: 0,
        first: None,
        last: None,
        durable_up_to: 0,
        end: 0,
        tail: None,
        flaws: 0,
    };
    let mut walk = Walk {
        bytes,
        summary,
        previous: None,
        gap: None,
        see,
    };
    walk.all()?;
    walk.end(sealed);
    Ok(walk.summary)
}

impl Walk<'_, '_> {
    fn flaw(&mut self, offset: u64, bytes: u64, what: String) {
        self.summary.flaws += 1;
        (self.see)(LogPart::Flaw(&Flaw {
            offset,
            bytes,
            what,
        }));
    }

    fn all(&mut self) -> Result<(), NotRead> {
        let Some((segment, log)) = self.summary.segment.zip(self.summary.log) else {
            self.gap = (!self.bytes.is_empty()).then_some(Gap {
                from: 0,
                what: None,
            });
            return Ok(());
        };
        let mut offset = 0;
        while let Some(page) = self.bytes.get(offset..offset + PAGE_BYTES) {
            match group::read_header(page, log, segment, offset as u64) {
                Ok(header) => offset += self.group(&header, offset),
                Err(NoGroup::OtherFormat(found)) => {
                    return Err(NotRead::OtherFormat {
                        found,
                        known: LOG_FORMAT,
                    });
                }
                Err(NoGroup::Foreign) => {
                    self.no_group(page, offset);
                    offset += PAGE_BYTES;
                }
            }
        }
        if offset < self.bytes.len() {
            let rest = (self.bytes.len() - offset) as u64;
            let what = "the file does not end with a whole page";
            self.flaw(offset as u64, rest, what.to_owned());
        }
        Ok(())
    }

    fn no_group(&mut self, page: &[u8], offset: usize) {
        let elsewhere = group::claim(page).map(|(_, segment)| {
            format!("what lies here was written for another place, in segment {segment}")
        });
        let gap = self.gap.get_or_insert(Gap {
            from: offset as u64,
            what: None,
        });
        if gap.what.is_none() {
            gap.what = elsewhere;
        }
    }

    /// A header that is whole. Returns the bytes that it says the group has, as far as there are any.
    fn group(&mut self, header: &GroupHeader, offset: usize) -> usize {
        let rest = &self.bytes[offset..];
        let len = (header.pages as usize).saturating_mul(PAGE_BYTES);
        let pages = rest.get(..len);
        let whole = pages.is_some_and(|pages| group::body_is_whole(header, pages));
        let group = Group {
            number: header.number,
            offset: offset as u64,
            pages: header.pages,
            used_bytes: header.used_bytes,
            records: header.records,
            first_sequence: header.first_sequence,
            durable_up_to: header.durable_up_to,
            previous: header.previous_number,
            whole,
        };
        // One group is written at a time: a header that is whole proves that all before it were.
        self.follows(header, offset as u64);
        (self.see)(LogPart::Group(&group));
        if whole {
            let summary = &mut self.summary;
            summary.groups += 1;
            summary.first = summary.first.or(Some(group.number));
            summary.last = Some(group.number);
            summary.durable_up_to = summary.durable_up_to.max(group.durable_up_to);
            summary.end = (offset + len) as u64;
        } else {
            let what = match pages {
                Some(_) => format!("group {} fails its checksum", group.number),
                None => format!("the file ends within group {}", group.number),
            };
            self.gap = Some(Gap {
                from: offset as u64,
                what: Some(what),
            });
        }
        self.previous = Some((header.number, header.header_crc));
        let pages = &rest[..len.min(rest.len())];
        self.records(&group, pages);
        len.min(rest.len()).next_multiple_of(PAGE_BYTES)
    }

    /// What stands before a group is told: nothing may be missing there.
    fn follows(&mut self, header: &GroupHeader, offset: u64) {
        if let Some(gap) = self.gap.take() {
            let what = gap.what.unwrap_or_else(|| "no group".to_owned());
            let what = format!("{what}; group {} stands behind it", header.number);
            self.flaw(gap.from, offset - gap.from, what);
        } else if let Some((number, crc)) = self.previous
            && (header.previous_number, header.previous_header_crc) != (number, crc)
        {
            let what = format!(
                "group {} follows group {}, and stands behind group {number}",
                header.number, header.previous_number
            );
            self.flaw(offset, 0, what);
        }
    }

    fn records(&mut self, group: &Group, pages: &[u8]) {
        let segment = self.summary.segment.expect("a group has one");
        let used = (group.used_bytes as usize).min(pages.len());
        let (mut at, mut records) = (GROUP_HEADER_BYTES, 0);
        while at < used {
            let offset = group.offset + at as u64;
            let offset_words = (offset / WORD_BYTES as u64) as u32;
            let decoded = record::decode(&pages[at..used], segment, offset_words);
            let record = match decoded {
                Ok(record) => record,
                Err(error) => {
                    let what = format!("{error}; what follows it in its group is not read");
                    // What belongs to a group that is not whole is told with it.
                    if group.whole {
                        self.flaw(offset, (used - at) as u64, what);
                    }
                    return;
                }
            };
            let bad_values = bad_values(&record);
            if bad_values > 0 {
                let what = format!("{bad_values} value(s) of a record differ from their hash");
                self.flaw(offset, record.bytes.into(), what);
            }
            (self.see)(LogPart::Record {
                offset,
                record: &record,
                bad_values,
            });
            at += record.bytes as usize;
            records += 1;
        }
        if group.whole {
            self.summary.records += records;
        }
        if group.whole && records != u64::from(group.records) {
            let what = format!(
                "group {} has {records} record(s) and says {}",
                group.number, group.records
            );
            let bytes = pages.len() as u64;
            self.flaw(group.offset, bytes, what);
        }
    }

    /// What stands behind the last whole group: nothing, a torn tail, or what was lost.
    fn end(&mut self, sealed: Option<u64>) {
        let end = self.summary.end;
        let behind = &self.bytes[end as usize..];
        let used = behind.iter().rposition(|&byte| byte != 0);
        let used = used.map(|last| end + last as u64 + 1);
        let what = self.gap.take().and_then(|gap| gap.what);
        match sealed.filter(|&sealed| sealed > end) {
            Some(sealed) => {
                let what = what.unwrap_or_else(|| "no group".to_owned());
                let what = format!("{what}; by the manifest there were groups up to byte {sealed}");
                self.flaw(end, sealed - end, what);
                self.summary.tail = used.filter(|&used| used > sealed);
            }
            None => self.summary.tail = used,
        }
    }
}

fn bad_values(record: &Record<'_>) -> usize {
    let key = record.key;
    let bad = record.object.siblings.iter().filter(|sibling| {
        matches!(sibling.value, Found::Here(value)
            if value_hash(key.bucket, key.key, sibling.dot, sibling.operation, value)
                != sibling.value_hash)
    });
    bad.count()
}
