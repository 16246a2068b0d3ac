//! Commit groups: what stands or falls together. The header says where the group belongs, names the group before it,
//! and guards all its bytes.

use super::format::*;
use crate::base::checksum::crc32c;
use crate::base::limits::PAGE_BYTES;
use crate::base::planted::planted;

/// The arcs that a group touched, one bit each.
pub type Arcs = [u64; ARC_WORDS];

pub const ALL_ARCS: Arcs = [u64::MAX; ARC_WORDS];

pub fn set_arc(arcs: &mut Arcs, arc: usize) {
    arcs[arc / 64] |= 1 << (arc % 64);
}

pub fn has_arc(arcs: &Arcs, arc: usize) -> bool {
    arcs[arc / 64] & (1 << (arc % 64)) != 0
}

/// Which log the bytes must belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId {
    pub identity: u64,
    pub shard: u16,
}

/// The end of the chain of groups: what the next group says of its predecessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub number: u64,
    pub header_crc: u32,
    pub arcs: Arcs,
}

/// Why a page does not begin a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGroup {
    /// No header of this log at this place.
    Foreign,
    /// A header that is whole, of a format that this program does not read.
    OtherFormat(u32),
}

/// Fills in a group's header. `bytes` are its pages, records in place, zeroes behind `header.used_bytes`.
/// Returns the crc that names it.
pub fn seal(header: &mut GroupHeader, bytes: &mut [u8]) -> u32 {
    assert_eq!(bytes.len(), header.pages as usize * PAGE_BYTES);
    assert!((GROUP_HEADER_BYTES..=bytes.len()).contains(&(header.used_bytes as usize)));
    header.body_crc = crc32c(&bytes[GROUP_HEADER_BYTES..]);
    header.header_crc = crc32c(&bytemuck::bytes_of(header)[GROUP_CRC_FROM..]);
    bytes[..GROUP_HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(header));
    header.header_crc
}

/// The header at the front of `page`, if it is whole and belongs to this log and this place.
pub fn read_header(
    page: &[u8],
    log: LogId,
    segment: u32,
    offset: u64,
) -> Result<GroupHeader, NoGroup> {
    let bytes = page.get(..GROUP_HEADER_BYTES).ok_or(NoGroup::Foreign)?;
    let header: GroupHeader = bytemuck::pod_read_unaligned(bytes);
    let whole = header.magic == GROUP_MAGIC
        && header.header_crc == crc32c(&bytes[GROUP_CRC_FROM..])
        && header.identity == log.identity
        && header.shard == u32::from(log.shard)
        && header.segment == segment
        && u64::from(header.page) * PAGE_BYTES as u64 == offset;
    if !whole {
        return Err(NoGroup::Foreign);
    }
    if header.format != LOG_FORMAT {
        return Err(NoGroup::OtherFormat(header.format));
    }
    let lengths = header.pages > 0
        && header.used_bytes as usize >= GROUP_HEADER_BYTES
        && (header.used_bytes as usize).div_ceil(PAGE_BYTES) == header.pages as usize
        && (header.used_bytes as usize).is_multiple_of(WORD_BYTES);
    let order = header.number > header.previous_number
        && header.durable_up_to < header.number
        && header.reserved == [0; 5];
    if lengths && order {
        Ok(header)
    } else {
        Err(NoGroup::Foreign)
    }
}

/// Of which log and segment a page says that it is, wherever it lies; `None`: it begins no group that is whole so far.
pub fn claim(page: &[u8]) -> Option<(LogId, u32)> {
    let bytes = page.get(..GROUP_HEADER_BYTES)?;
    let header: GroupHeader = bytemuck::pod_read_unaligned(bytes);
    let whole =
        header.magic == GROUP_MAGIC && header.header_crc == crc32c(&bytes[GROUP_CRC_FROM..]);
    let log = LogId {
        identity: header.identity,
        shard: u16::try_from(header.shard).ok()?,
    };
    whole.then_some((log, header.segment))
}

/// Whether `bytes`, the group's pages, are what `header` was made for.
pub fn body_is_whole(header: &GroupHeader, bytes: &[u8]) -> bool {
    assert_eq!(bytes.len(), header.pages as usize * PAGE_BYTES);
    crc32c(&bytes[GROUP_HEADER_BYTES..]) == header.body_crc || planted!(TornGroupAccepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOG: LogId = LogId {
        identity: 0x0123_4567_89ab_cdef,
        shard: 3,
    };

    fn sample(used_bytes: usize) -> (GroupHeader, Vec<u8>) {
        let pages = used_bytes.div_ceil(PAGE_BYTES);
        let mut previous_arcs = [0; ARC_WORDS];
        set_arc(&mut previous_arcs, 1023);
        let mut header = GroupHeader {
            magic: GROUP_MAGIC,
            header_crc: 0,
            format: LOG_FORMAT,
            identity: LOG.identity,
            number: 9,
            previous_number: 7,
            durable_up_to: 7,
            segment: 12,
            page: 5,
            pages: pages as u32,
            used_bytes: used_bytes as u32,
            records: 1,
            body_crc: 0,
            previous_header_crc: 77,
            shard: 3,
            first_sequence: 3,
            reserved: [0; 5],
            previous_arcs,
        };
        let mut bytes = vec![0; pages * PAGE_BYTES];
        bytes[GROUP_HEADER_BYTES..used_bytes].fill(0xa5);
        seal(&mut header, &mut bytes);
        (header, bytes)
    }

    #[test]
    fn a_group_is_read_back_where_it_was_written_and_nowhere_else() {
        let (header, bytes) = sample(5000);
        let offset = 5 * PAGE_BYTES as u64;
        assert_eq!(read_header(&bytes, LOG, 12, offset), Ok(header));
        assert!(body_is_whole(&header, &bytes));
        let other = LogId { shard: 4, ..LOG };
        assert_eq!(
            read_header(&bytes, other, 12, offset),
            Err(NoGroup::Foreign)
        );
        assert_eq!(read_header(&bytes, LOG, 13, offset), Err(NoGroup::Foreign));
        assert_eq!(
            read_header(&bytes, LOG, 12, offset + 4096),
            Err(NoGroup::Foreign)
        );
    }

    #[test]
    fn another_format_is_named() {
        for format in [1, LOG_FORMAT + 1] {
            let (mut header, mut bytes) = sample(512);
            header.format = format;
            seal(&mut header, &mut bytes);
            let read = read_header(&bytes, LOG, 12, 5 * PAGE_BYTES as u64);
            assert_eq!(read, Err(NoGroup::OtherFormat(format)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_flipped_bit_is_seen(at in 0usize..2 * PAGE_BYTES, bit in 0u8..8) {
            let (_, mut bytes) = sample(5000);
            bytes[at] ^= 1 << bit;
            let whole = read_header(&bytes, LOG, 12, 5 * PAGE_BYTES as u64)
                .is_ok_and(|header| body_is_whole(&header, &bytes));
            prop_assert!(!whole);
        }

        #[test]
        fn arbitrary_bytes_are_no_group(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert_eq!(read_header(&bytes, LOG, 12, 0), Err(NoGroup::Foreign));
        }
    }
}
