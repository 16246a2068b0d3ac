//! Commit groups whose checksums are right, and the records in them.

use super::record as records;
use crate::base::limits::PAGE_BYTES;
use crate::engine::log::format::*;
use crate::engine::log::group::{self, LogId, NoGroup};
use crate::engine::log::record;

pub const LOG: LogId = LogId {
    identity: 0x0123_4567_89ab_cdef,
    shard: 0,
};
const SEGMENT: u32 = 3;

/// What is left as it came.
const RAW_PLACE: u8 = 1;
const RAW_LENGTHS: u8 = 2;
const RAW_BODY_CRC: u8 = 4;
const RAW_HEADER_CRC: u8 = 8;
const RAW_RECORDS: u8 = 16;
const RAW_COUNT: u8 = 32;

/// Two bytes (the page; what is not put right), a header, then records.
pub fn run(data: &[u8]) {
    let Some((&[page, raw], bytes)) = data.split_first_chunk() else {
        return;
    };
    let page = u32::from(page);
    let Some((header, body)) = bytes.split_at_checked(GROUP_HEADER_BYTES) else {
        return assert!(group::read_header(bytes, LOG, SEGMENT, 0).is_err());
    };
    let bytes = built(
        bytemuck::pod_read_unaligned(header),
        body,
        SEGMENT,
        page,
        raw,
    );
    let offset = u64::from(page) * PAGE_BYTES as u64;
    let header = match group::read_header(&bytes, LOG, SEGMENT, offset) {
        Ok(header) => header,
        Err(NoGroup::OtherFormat(format)) => return assert_ne!(format, LOG_FORMAT),
        Err(NoGroup::Foreign) => return,
    };
    let other = LogId { shard: 1, ..LOG };
    assert!(group::read_header(&bytes, other, SEGMENT, offset).is_err());
    assert!(group::read_header(&bytes, LOG, SEGMENT + 1, offset).is_err());
    assert!(group::read_header(&bytes, LOG, SEGMENT, offset + PAGE_BYTES as u64).is_err());
    if header.pages as usize * PAGE_BYTES != bytes.len() || !group::body_is_whole(&header, &bytes) {
        return;
    }
    let (mut sealed, mut again) = (header, bytes.clone());
    again[..GROUP_HEADER_BYTES].fill(0);
    (sealed.header_crc, sealed.body_crc) = (0, 0);
    assert_eq!(group::seal(&mut sealed, &mut again), header.header_crc);
    assert_eq!(again, bytes);
    let used = header.used_bytes as usize;
    for_each_record(&bytes[..used], |at, record| {
        let offset = offset_words(page, at);
        record::decode(record, SEGMENT, offset)
            .ok()
            .map(|r| r.bytes as usize)
    });
    again[GROUP_HEADER_BYTES + header.number as usize % (bytes.len() - GROUP_HEADER_BYTES)] ^= 1;
    assert!(
        !group::body_is_whole(&header, &again),
        "a spoilt body is whole"
    );
}

fn offset_words(page: u32, at: usize) -> u32 {
    page * (PAGE_BYTES / WORD_BYTES) as u32 + (at / WORD_BYTES) as u32
}

/// Calls `each` with the place of each record and the bytes from there on, until it gives no length; returns how many
/// there were.
fn for_each_record(bytes: &[u8], mut each: impl FnMut(usize, &[u8]) -> Option<usize>) -> u32 {
    let (mut at, mut count) = (GROUP_HEADER_BYTES, 0);
    while at < bytes.len() {
        let Some(len) = each(at, &bytes[at..]) else {
            break;
        };
        (at, count) = (at + len, count + 1);
    }
    count
}

/// Whole pages with this header and body, put right for this place but for what `raw` names.
pub fn built(mut header: GroupHeader, body: &[u8], segment: u32, page: u32, raw: u8) -> Vec<u8> {
    let used = (GROUP_HEADER_BYTES + body.len()).next_multiple_of(WORD_BYTES);
    let mut bytes = vec![0; used.next_multiple_of(PAGE_BYTES)];
    bytes[GROUP_HEADER_BYTES..][..body.len()].copy_from_slice(body);
    if raw & RAW_RECORDS == 0 {
        // Each record is as long as it says.
        let unsigned = bytes.clone();
        let count = for_each_record(&unsigned[..used], |at, rest| {
            let len = *rest.get(4..8)?.first_chunk().expect("four bytes");
            let len = u32::from_le_bytes(len) as usize;
            let whole =
                (RECORD_HEADER_BYTES..=rest.len()).contains(&len) && len.is_multiple_of(WORD_BYTES);
            whole.then(|| {
                records::put_right(&mut bytes[at..at + len], segment, offset_words(page, at), 0);
                len
            })
        });
        if raw & RAW_COUNT == 0 {
            header.records = count;
        }
    }
    if raw & RAW_PLACE == 0 {
        header.magic = GROUP_MAGIC;
        header.format = LOG_FORMAT;
        (header.identity, header.shard) = (LOG.identity, LOG.shard.into());
        (header.segment, header.page) = (segment, page);
        header.reserved = [0; 5];
    }
    if raw & RAW_LENGTHS == 0 {
        header.pages = (bytes.len() / PAGE_BYTES) as u32;
        header.used_bytes = used as u32;
    }
    let (body_crc, header_crc) = (header.body_crc, header.header_crc);
    header.body_crc = crate::base::checksum::crc32c(&bytes[GROUP_HEADER_BYTES..]);
    if raw & RAW_BODY_CRC != 0 {
        header.body_crc = body_crc;
    }
    header.header_crc =
        crate::base::checksum::crc32c(&bytemuck::bytes_of(&header)[GROUP_CRC_FROM..]);
    if raw & RAW_HEADER_CRC != 0 {
        header.header_crc = header_crc;
    }
    bytes[..GROUP_HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    bytes
}

pub fn header(number: u64, previous_number: u64, previous_header_crc: u32) -> GroupHeader {
    GroupHeader {
        number,
        previous_number,
        previous_header_crc,
        first_sequence: number.wrapping_mul(8),
        durable_up_to: previous_number,
        ..bytemuck::Zeroable::zeroed()
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |records: u64| {
        let mut body = Vec::new();
        for n in 0..records {
            let offset = offset_words(2, GROUP_HEADER_BYTES + body.len());
            body.extend(records::sample(&n.to_le_bytes(), n + 1, SEGMENT, offset));
        }
        let pages = built(header(9, 7, 5), &body, SEGMENT, 2, 0);
        [&[2, 0][..], &pages[..GROUP_HEADER_BYTES + body.len()]].concat()
    };
    [0, 1, 3].map(seed).to_vec()
}
