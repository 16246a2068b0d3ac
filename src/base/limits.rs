//! Every limit of the store, with its unit and its reason. The relations between limits are checked at compile time.

use super::units::{KIB, MIB};

/// Bytes of a key. Long enough for a path or a URL; short enough that a lookup compares it in one go.
pub const KEY_BYTES_MAX: usize = 4 * KIB;
/// Bytes of a bucket name: its length is one byte in the position's input.
pub const BUCKET_BYTES_MAX: usize = 255;
/// Bytes of a value unless the operator raises it.
pub const VALUE_BYTES_DEFAULT: usize = MIB;
/// Bytes of a value that no setting exceeds: a value is one record, and a record lies in one segment.
pub const VALUE_BYTES_MAX: usize = 16 * MIB;
/// The siblings of a key may hold this many times the value limit together; a put that resolves is never refused.
pub const SIBLINGS_VALUE_RATIO: usize = 4;
/// Siblings of one key.
pub const SIBLINGS_MAX: usize = 128;
/// Entries of a version vector that is accepted from bytes.
pub const VECTOR_ENTRIES_MAX: usize = 1024;
/// Bytes of a context token: a full vector (8 incarnation, 5 birth, 10 counter), and the envelope.
pub const CONTEXT_BYTES_MAX: usize = VECTOR_ENTRIES_MAX * 23 + 64;

/// Room in a frame for all that is not the value.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 64 * KIB;
/// The prefix of a frame: the length of what follows, u32 little-endian.
pub const FRAME_PREFIX_BYTES: usize = 4;
/// A frame shorter than this cannot hold a root offset and an identifier.
pub const FRAME_BYTES_MIN: usize = 12;
/// Bytes of a request frame that no setting exceeds.
pub const REQUEST_FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
/// Bytes of a response frame that no setting exceeds: all siblings of a key.
pub const RESPONSE_FRAME_BYTES_MAX: usize =
    SIBLINGS_VALUE_RATIO * VALUE_BYTES_MAX + VALUE_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;

/// Connections of a shard; the next one is closed at once, with a typed refusal.
pub const CONNECTIONS_MAX: usize = 10_240;
/// Requests of one connection that wait for the disk; the next one answers `overloaded`.
pub const CONNECTION_REQUESTS_MAX: usize = 1024;
/// Requests of a shard that wait for the disk; the next one answers `overloaded`.
pub const SHARD_REQUESTS_MAX: usize = 32 * 1024;
/// Unsent reply bytes of a connection at which it is no longer read; it is read again at half.
pub const CONNECTION_UNSENT_BYTES_MAX: usize = MIB;
/// Bytes of a buffer that an idle connection keeps for its next frames or replies: a full shard of connections holds
/// three times this for each.
pub const CONNECTION_KEPT_BYTES_MAX: usize = 32 * KIB;
/// Asks of a shard that all other shards together may leave unanswered, in even parts; each takes two places in the
/// queues, of 40 bytes. The next one answers `overloaded`. A pipelining client keeps a thousand under way.
pub const SHARD_CREDITS: u32 = 8 * 1024;
/// Asks that a shard may always have under way at each other one, however many those are.
pub const PAIR_CREDITS_MIN: u32 = 64;
/// Writes of one key that wait for each other; the next one answers `overloaded`.
pub const KEY_QUEUE_MAX: usize = 256;

/// Milliseconds a request may take when it names no timeout.
pub const TIMEOUT_MS_DEFAULT: u64 = 1_000;
/// Milliseconds a request may ask for.
pub const TIMEOUT_MS_MAX: u64 = 60_000;
/// Milliseconds between two looks for requests past their deadline.
pub const DEADLINE_TICK_MS: u64 = 20;
/// Milliseconds that a graceful stop waits for requests under way.
pub const STOP_MS_MAX: u64 = 10_000;
/// The admin port is this far below the base port.
pub const ADMIN_PORT_BELOW: u16 = 10;
/// Bytes of an admin request's head: a scraper's is a few hundred.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 * KIB;

/// Entries of a shard's submission queue; the completion queue has four times as many.
pub const RING_ENTRIES: u32 = 1024;
/// Receive buffers of a shard's ring, a power of two.
pub const RECV_BUFFERS: u16 = 512;
/// Bytes of one receive buffer: a pipeline of small requests arrives in one.
pub const RECV_BUFFER_BYTES: usize = 16 * KIB;
/// Receive buffers that one connection may hold while its events are not taken.
pub const RECV_BUFFERS_PER_CONNECTION_MAX: usize = 4;

/// Bytes of memory below which a shard has no room for its buffers and a few keys.
pub const MEMORY_BYTES_MIN: usize = 16 * MIB;

/// What a disk page is: alignment of every offset, length and address of direct I/O.
pub const PAGE_BYTES: usize = 4 * KIB;
/// Bytes of a log segment. Small shards use small ones, so that collection has something to choose from.
pub const SEGMENT_BYTES_MIN: usize = 4 * MIB;
/// Bytes of a log segment when values are not huge.
pub const SEGMENT_BYTES_MAX: usize = 64 * MIB;
/// Bytes of a commit group at which it is closed, unless one record alone is larger.
pub const GROUP_BYTES_MAX: usize = MIB;
/// Values up to this many bytes stand in the index entry.
pub const INLINE_VALUE_BYTES_MAX: usize = 64;
/// Milliseconds after its last commit at which an idle log writes its mark.
pub const IDLE_MARK_MS: u64 = 100;
/// Bytes of one bulk read: replay goes on in such steps.
pub const BULK_READ_BYTES_MAX: usize = MIB;
/// Segments that are made ready ahead of the log, so that no commit waits for a file to be made.
pub const SEGMENTS_AHEAD: usize = 2;
/// Bytes of records that wait for the log; beyond it, unless a single record is larger, the next one answers
/// `overloaded`.
pub const LOG_WAITING_BYTES_MAX: usize = 8 * MIB;
/// Arcs of the circle by which the log tells where a lost group may have been: the top ten bits of a position.
pub const LOG_ARCS: usize = 1024;
/// Hundredths of the disk budget at which puts are refused; deletes may use what is left.
pub const PUT_DISK_PERCENT_MAX: u64 = 90;
/// Milliseconds until a full disk is asked again.
pub const DISK_FULL_RETRY_MS: u64 = 250;
/// Bytes of a manifest file that are kept for edits behind its first block.
pub const MANIFEST_EDIT_BYTES: usize = 256 * KIB;
/// Shards of a node.
pub const SHARDS_MAX: usize = 1024;
/// Asks that one shard of `shards` may have unanswered at each other one.
pub const fn pair_credits(shards: u16) -> u32 {
    let others = if shards > 1 { shards as u32 - 1 } else { 1 };
    let even = SHARD_CREDITS / others;
    if even > PAIR_CREDITS_MIN {
        even
    } else {
        PAIR_CREDITS_MIN
    }
}
/// Virtual nodes of a ring unless formed otherwise; a power of two.
pub const VIRTUAL_NODES_DEFAULT: u32 = 1024;

const _: () = assert!(VALUE_BYTES_DEFAULT <= VALUE_BYTES_MAX);
const _: () = assert!(
    REQUEST_FRAME_BYTES_MAX
        >= VALUE_BYTES_MAX + KEY_BYTES_MAX + CONTEXT_BYTES_MAX + BUCKET_BYTES_MAX
);
const _: () = assert!(RESPONSE_FRAME_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(SEGMENT_BYTES_MAX >= 2 * VALUE_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_MIN >= 2 * VALUE_BYTES_DEFAULT);
const _: () = assert!(GROUP_BYTES_MAX <= SEGMENT_BYTES_MIN / 2);
const _: () = assert!(BULK_READ_BYTES_MAX.is_multiple_of(PAGE_BYTES));
const _: () = assert!(LOG_ARCS.is_power_of_two() && SHARDS_MAX <= LOG_ARCS);
const _: () = assert!(LOG_WAITING_BYTES_MAX >= 2 * GROUP_BYTES_MAX);
const _: () = assert!(PAGE_BYTES.is_power_of_two() && RECV_BUFFERS.is_power_of_two());
const _: () = assert!(VIRTUAL_NODES_DEFAULT.is_power_of_two());
const _: () = assert!(CONNECTION_REQUESTS_MAX <= SHARD_REQUESTS_MAX);
