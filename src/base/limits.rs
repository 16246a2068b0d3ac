//! Every limit of the store, with its unit and its reason. The relations between limits are checked at compile time.

use super::units::{GIB, KIB, MIB};

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
/// Siblings of one key at which its coordinator mints no further one.
pub const SIBLINGS_MAX: usize = 128;
/// Siblings that a join may bring together: each replica may have come to its limit before it heard of the others, and
/// what each of them has acked must not be refused by the rest.
pub const SIBLINGS_JOINED_MAX: usize = REPLICAS_MAX as usize * SIBLINGS_MAX;
/// Bytes of the values that a join may bring together, for the same reason.
pub const JOINED_VALUE_BYTES_MAX: usize =
    REPLICAS_MAX as usize * SIBLINGS_VALUE_RATIO * VALUE_BYTES_MAX;
/// Entries of a version vector at which a coordinator mints for no further actor.
pub const VECTOR_ENTRIES_MAX: usize = 1024;
/// Entries of a version vector that a join may bring together, and that is accepted from bytes. Actors are made by
/// starts and by what memory forgets, not by clients: that replicas which do not hear of each other begin so many for
/// one key takes hundreds of starts of each.
pub const VECTOR_ENTRIES_JOINED_MAX: usize = 2 * VECTOR_ENTRIES_MAX;
/// Bytes of a context token: a full vector (8 incarnation, 5 birth, 10 counter), and the envelope.
pub const CONTEXT_BYTES_MAX: usize = VECTOR_ENTRIES_JOINED_MAX * 23 + 64;

/// Room in a frame for all that is not the value.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 64 * KIB;
/// The prefix of a frame: the length of what follows, u32 little-endian.
pub const FRAME_PREFIX_BYTES: usize = 4;
/// A frame shorter than this cannot hold a root offset and an identifier.
pub const FRAME_BYTES_MIN: usize = 12;
/// Bytes of a request frame that no setting exceeds.
pub const REQUEST_FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
/// Bytes of a frame that a sibling takes beside its value: dot, operation, times, hash, and what the table of its
/// fields needs.
pub const SIBLING_FRAME_BYTES_MAX: usize = 192;
/// Bytes of a response frame that no setting exceeds: all siblings of a key, and their context.
pub const RESPONSE_FRAME_BYTES_MAX: usize = JOINED_VALUE_BYTES_MAX
    + SIBLINGS_JOINED_MAX * SIBLING_FRAME_BYTES_MAX
    + FRAME_OVERHEAD_BYTES_MAX;

/// Bytes of a frame between nodes: a whole object, or a client's whole frame, and what stands around it.
pub const PEER_FRAME_BYTES_MAX: usize = RESPONSE_FRAME_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
/// Bytes of a frame of a node that has not proved that it is one: a ring on its way to a node that has none.
pub const STRANGER_FRAME_BYTES_MAX: usize = RING_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
/// Bytes of an address as text: an IPv6 one with its port.
pub const ADDRESS_BYTES_MAX: usize = 64;

/// Connections of clients to a shard; the next one is closed at once, with a typed refusal.
pub const CONNECTIONS_MAX: usize = 10_240;
/// Requests of one connection that wait for the disk; the next one answers `overloaded`.
pub const CONNECTION_REQUESTS_MAX: usize = 1024;
/// Requests of a shard that wait for the disk; the next one answers `overloaded`.
pub const SHARD_REQUESTS_MAX: usize = 32 * 1024;
/// Unsent reply bytes of a connection at which it is no longer read; it is read again at half.
pub const CONNECTION_UNSENT_BYTES_MAX: usize = MIB;
/// Bytes of a buffer that is kept for the next frames or replies: of what arrives for each connection that has more to
/// do, of what leaves for the shard. An idle connection keeps none.
pub const CONNECTION_KEPT_BYTES_MAX: usize = 32 * KIB;
/// Empty reply buffers that a shard keeps.
pub const KEPT_BUFFERS_MAX: usize = 64;
/// One part in so many of a shard's memory is for unfinished requests and unsent replies of all its connections.
pub const BUFFER_PART_OF_MEMORY: usize = 4;
/// Frames and replies up to this many bytes are small: a full buffer budget does not hold them up. One receive buffer.
pub const SMALL_BYTES_MAX: usize = RECV_BUFFER_BYTES;
/// Milliseconds without progress after which a connection that holds memory is closed when memory is short: a reader of
/// 200 KiB/s takes a full megabyte of replies in less.
pub const CONNECTION_STALL_MS: u64 = 5_000;
/// The same for the one unfinished frame that is let on while memory is short: the others wait for it.
pub const FRAME_STALL_MS: u64 = 1_000;
/// Connections beyond the limit that are told so at a time; one more is closed without a word.
pub const CONNECTIONS_REFUSED_MAX: usize = 256;
/// Closed connections that wait for their peer's end; one more, and the oldest is given up.
pub const CLOSE_LINGERING_MAX: usize = 1024;
/// Connections of the admin port, apart from those of clients; one more, and the oldest is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;
/// Milliseconds that an admin connection may take: a scraper is done in a few.
pub const ADMIN_MS_MAX: u64 = 10_000;
/// Descriptors that client connections leave to the admin port, to closed connections that linger, to segments and
/// tables.
pub const DESCRIPTORS_RESERVED: u64 = 2048;
/// Milliseconds between two looks for connections that had their time.
pub const CONNECTIONS_LOOK_MS: u64 = 500;
/// Milliseconds that a graceful stop waits for clients to end their side.
pub const STOP_CLOSE_MS_MAX: u64 = 200;
/// Work of one connection in one turn of its shard: a request is one, and one more for each 4 KiB of it and its reply.
/// A turn of a hundred floods takes a few milliseconds.
pub const TURN_WORK_MAX: usize = 64;
/// Work of a status report: it is made of text.
pub const STATUS_WORK: usize = 16;
/// Events that are handled between two looks at what else is runnable.
pub const EVENTS_A_BATCH: usize = 128;
/// Tasks of a shard that wait for the disk on behalf of requests, late ones too; one more is answered `overloaded`.
pub const DISK_TASKS_MAX: usize = 8 * 1024;
/// Asks of a shard that all other shards together may leave unanswered, in even parts; each takes two places in the
/// queues, of 40 bytes. The next one answers `overloaded`. A pipelining client keeps a thousand under way.
pub const SHARD_CREDITS: u32 = 8 * 1024;
/// Asks that a shard may always have under way at each other one, however many those are.
pub const PAIR_CREDITS_MIN: u32 = 64;
/// Keys of one page of a listing: a shard gathers them in a few milliseconds.
pub const KEYS_PAGE_MAX: usize = 1024;
/// Bytes of keys at which a page is full.
pub const KEYS_PAGE_BYTES_MAX: usize = 256 * KIB;
/// Writes of one key that wait for each other; the next one answers `overloaded`.
pub const KEY_QUEUE_MAX: usize = 256;

/// Bytes that wait for a link to another node, unless one frame alone is larger: some ten thousand small ones. Beyond
/// it the other node counts as not reachable.
pub const LINK_UNSENT_BYTES_MAX: usize = 8 * MIB;
/// Milliseconds after which a link on which nothing was heard is asked whether it lives.
pub const LINK_PING_MS: u64 = 200;
/// Milliseconds without a word, though one was due, after which a link is given up: requests go elsewhere.
pub const LINK_SILENT_MS: u64 = 1_000;
/// Milliseconds until a link that failed is dialled again: the first time, and at most.
pub const LINK_RETRY_MS_MIN: u64 = 20;
pub const LINK_RETRY_MS_MAX: u64 = 500;
/// Milliseconds that a start waits for its links before it says that it is ready: nodes that are there answer in a few.
pub const READY_LINKS_MS_MAX: u64 = 250;
/// Milliseconds until a get asks the replicas that it has spared so far.
pub const HEDGE_MS: u64 = 40;
/// Requests of a shard that are put to several replicas, and are not settled; the next one answers `overloaded`.
pub const FLIGHTS_MAX: usize = 16 * 1024;
/// Gets of a shard that bring other replicas up to date after their reply; beyond it that is left to later gets.
pub const REPAIRS_MAX: usize = 64;
/// Milliseconds until a key is mended again by itself whose values could not be read: two replicas that find the same
/// value bad would ask each other without end.
pub const MEND_PAUSE_MS: u64 = 10_000;
/// Keys of a page that a node that fills asks for, and how many of them it takes at a time.
pub const FILL_PAGE_KEYS: usize = 1024;
pub const FILL_KEYS_AT_ONCE: usize = 64;
/// Keys that a shard that fills leaves for later, because a value of theirs cannot be read.
pub const FILL_LEFT_MAX: usize = 4096;
/// Milliseconds until a node that fills tries again what failed.
pub const FILL_RETRY_MS: u64 = 250;
/// Ballots of one proposal of the next ring; whoever wishes for it asks again.
pub const BALLOTS_MAX: usize = 8;
/// Characters of a join token: 64 bits if each is a hex digit, which nobody tries all of.
pub const JOIN_TOKEN_CHARACTERS_MIN: usize = 16;
/// Milliseconds between two rounds in which a node without a ring asks the others for one.
pub const FORMATION_ASK_MS: u64 = 100;
/// Milliseconds between two tellings of which nodes are waited for.
pub const FORMATION_TELL_MS: u64 = 5_000;

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

/// Bytes that a closed connection throws away while it waits for the peer's end: the rest of the longest request that a
/// well-behaved client may be in the midst of. Beyond it the connection is cut.
pub const CLOSE_DRAIN_BYTES_MAX: usize = REQUEST_FRAME_BYTES_MAX;

/// Bytes of memory that a shard takes whatever it holds: rings, groups being written, tables being written and merged,
/// its part of the program. Measured: 1 GiB of values through a budget of 128 MiB.
pub const SHARD_FIXED_BYTES: usize = 6 * MIB;
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
/// The largest number of a group, a record or a manifest that is believed: counting never comes to it.
pub const LOG_NUMBER_MAX: u64 = u64::MAX / 2;
/// Arcs of the circle by which the log tells where a lost group may have been: the top ten bits of a position.
pub const LOG_ARCS: usize = 1024;
/// Hundredths of the disk budget at which puts are refused; deletes may use what is left.
pub const PUT_DISK_PERCENT_MAX: u64 = 90;
/// Milliseconds until a full disk is asked again.
pub const DISK_FULL_RETRY_MS: u64 = 250;
/// Bytes of a manifest file that are kept for edits behind its first block.
pub const MANIFEST_EDIT_BYTES: usize = 256 * KIB;
/// Entries of an index table: its block index, filter and dictionary then take a few MiB of memory at most.
pub const TABLE_ENTRIES_MAX: u64 = 1 << 20;
/// Bytes of the blocks of an index table at which it is full: a merge needs that much disk before it gives any back,
/// and a million entries of common size fit.
pub const TABLE_BYTES_MAX: u64 = 256 * MIB as u64;
/// Pages of the block of the largest entry: every sibling, the largest vector, the largest key.
pub const TABLE_BLOCK_PAGES_MAX: usize = 56;
/// Bytes of one write of a table that is being built.
pub const TABLE_WRITE_BYTES: usize = 256 * KIB;
/// Bytes that a scan or a merge reads ahead of itself in one table; a merge of twenty tables holds a few MiB.
pub const TABLE_READ_AHEAD_BYTES: usize = 128 * KIB;
/// Places of files of a shard that are listed as unreadable, each with its note: a disk that fails in more is to be
/// replaced, not read about; further ones are counted.
pub const DAMAGED_PLACES_MAX: usize = 256;
/// Positions of one part of a table's filter: it is built in one go, in less than a millisecond.
pub const TABLE_FILTER_PART_POSITIONS: usize = 8 * 1024;
/// A shard's memory is frozen, to become a table, at this part of its budget: while one is written, the next fills,
/// and the cache keeps the rest.
pub const MEMTABLE_MEMORY_PART: usize = 4;
/// Percent of a shard's memory that entries may take, frozen ones too; then writes that grow it are refused.
pub const ENTRIES_MEMORY_PERCENT_MAX: usize = 65;
/// Bytes of log that a start may have to replay: a second or two of reading.
pub const REPLAY_BYTES_MAX: u64 = GIB as u64;
/// Bytes of log below which memory is not frozen for the sake of a short replay.
pub const REPLAY_BYTES_MIN: u64 = 16 * MIB as u64;
/// The replayed part of the log is at most this part of the shard's disk, since nothing in it can be collected.
pub const REPLAY_DISK_PART: u64 = 16;
/// The same of what lives in it: what has just been overwritten should not have to wait long.
pub const REPLAY_LIVE_PART: u64 = 8;
/// Runs of tables, of a like size and neighbours in age, that are merged into one.
pub const COMPACTION_FANOUT: usize = 8;
/// Runs of tables of a shard, each of which a lookup may have to ask: beyond it the cheapest neighbours are merged.
pub const RUNS_MAX: usize = 16;
/// Bytes of disk for 100 bytes of keys and values, unless set otherwise; beyond it segments are collected.
pub const SPACE_GOAL_PERCENT: u64 = 160;
/// Bytes of disk that a shard may take beside what users hold, whatever the goal: a few segments make a poor choice for
/// collection, and so much room is not worth to write three bytes for one.
pub const SPACE_SLACK_BYTES: u64 = 128 * MIB as u64;
/// Bytes of segments that are always allowed for 100 bytes that live in them: with less to choose from, collection
/// would write four bytes for one of a user.
pub const LOG_PERCENT_MIN: u64 = 125;
/// Puts are slowed to `BRAKE_BYTES_PER_SECOND` as the log comes this many hundredths of what lives beyond its goal, and
/// less before.
pub const BRAKE_EXCESS_PERCENT: u64 = 12;
/// Bytes of log a second while the brake is pulled all the way, if groups are short.
pub const BRAKE_BYTES_PER_SECOND: u64 = 4 * MIB as u64;
/// Milliseconds that one group waits at most because collection has fallen behind.
pub const BRAKE_MS_MAX: u64 = 40;
/// Percent of a segment that may live and its collection still give something back.
pub const COLLECT_LIVE_PERCENT_MAX: u64 = 90;
/// Percent of the disk budget at which collection no longer minds the space goal; below the one at which puts are
/// refused.
pub const COLLECT_DISK_PERCENT: u64 = 80;
/// Milliseconds until collection looks again for a segment that pays.
pub const COLLECT_LOOK_MS: u64 = 100;
/// Milliseconds until collection tries again what the log had no room for.
pub const COLLECT_RETRY_MS: u64 = 10;
/// Bytes of records that collection moves at a time, unless one alone is larger: they wait for the log beside the
/// records of requests.
pub const COLLECT_BATCH_BYTES: usize = MIB;
/// Records that collection asks the index about at a time: enough to keep a disk busy that a request can still use.
pub const COLLECT_MOVES_MAX: usize = 256;
/// Milliseconds that collection rests at most between two batches.
pub const COLLECT_REST_MS_MAX: u64 = 50;
/// Emptied segments that wait until the flips away from them stand in a table may take this part of what lives; then
/// memory becomes a table for their sake.
pub const COLLECT_HELD_PART: u64 = 32;
/// Snapshots under the data directory that nobody has taken away; the next one is refused: each keeps files from giving
/// their room back.
pub const SNAPSHOTS_LEFT_MAX: usize = 4;
/// Bytes of the name of a snapshot: a time and a number fit.
pub const SNAPSHOT_NAME_BYTES_MAX: usize = 64;
/// MiB a second that a node reads in the background to find what has rotted, unless set otherwise: 2.3 TiB in the seven
/// days in which everything should be looked at once, and a hundredth of what a disk gives.
pub const SCRUB_MIB_PER_SECOND_DEFAULT: u64 = 4;
/// The same, where that is more, for a pass that somebody has asked for and waits for.
pub const SCRUB_ASKED_MIB_PER_SECOND: u64 = 64;
/// MiB a second that an operator may set: nothing reads faster.
pub const SCRUB_MIB_PER_SECOND_MAX: u64 = 64 * 1024;
/// Hours between the beginnings of two passes: what is small would else be read all the time.
pub const SCRUB_PASS_HOURS: u64 = 24;
/// Entries that one step of a count or of a scan reads.
pub const SCAN_BATCH_ENTRIES: usize = 256;
/// Events that wait for the log thread; further ones are dropped and counted. All that happens at a start or a stop of
/// many shards fits; it is half a megabyte of words.
pub const LOG_EVENTS_WAITING_MAX: usize = 1024;
/// Milliseconds in which an event that a client can cause at will is logged once, with its count.
pub const LOG_REPEAT_MS: u64 = 10_000;
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
/// Virtual nodes of a ring: a thousand nodes with 64 each.
pub const VIRTUAL_NODES_MAX: u32 = 64 * 1024;
/// Nodes of a ring: each talks to each.
pub const MEMBERS_MAX: usize = 1024;
/// Replicas of a key unless its bucket says otherwise: the fewest of which one may fail and a majority remain.
pub const REPLICAS_DEFAULT: u8 = 3;
/// Replicas of a key: three may fail and a majority remain, with one to spare.
pub const REPLICAS_MAX: u8 = 8;
/// The weight of a node unless the operator gives one: a share can then be said to a hundredth.
pub const WEIGHT_DEFAULT: u16 = 100;
/// The weight of a node: a hundred times the common one.
pub const WEIGHT_MAX: u16 = 10_000;
/// Bytes of the name of a zone.
pub const ZONE_BYTES_MAX: usize = 64;
/// Nodes that were taken out of a ring and may not come back: as many as it can hold, four times over.
pub const BANNED_MAX: usize = 4 * MEMBERS_MAX;
/// Bytes of a ring: each member, banned and filling node at its longest, two bytes for the owner of each virtual node.
pub const RING_BYTES_MAX: usize = MEMBERS_MAX * (16 + 19 + 3 + 3 + 1 + ZONE_BYTES_MAX)
    + BANNED_MAX * 16
    + REPLICAS_MAX as usize * 16
    + 2 * VIRTUAL_NODES_MAX as usize
    + 64;

const _: () = assert!(VALUE_BYTES_DEFAULT <= VALUE_BYTES_MAX);
const _: () = assert!(CONTEXT_BYTES_MAX + KEY_BYTES_MAX < FRAME_OVERHEAD_BYTES_MAX);
const _: () = assert!(
    REQUEST_FRAME_BYTES_MAX
        >= VALUE_BYTES_MAX + KEY_BYTES_MAX + CONTEXT_BYTES_MAX + BUCKET_BYTES_MAX
);
const _: () = assert!(RESPONSE_FRAME_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(SEGMENT_BYTES_MAX >= 2 * VALUE_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_MIN >= 2 * VALUE_BYTES_DEFAULT);
const _: () = assert!(GROUP_BYTES_MAX <= SEGMENT_BYTES_MIN / 2);
const _: () = assert!(BULK_READ_BYTES_MAX.is_multiple_of(PAGE_BYTES));
const _: () = assert!(TABLE_WRITE_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(TABLE_BLOCK_PAGES_MAX * PAGE_BYTES <= BULK_READ_BYTES_MAX);
const _: () = assert!(TABLE_READ_AHEAD_BYTES <= BULK_READ_BYTES_MAX);
const _: () = assert!(LOG_ARCS.is_power_of_two() && SHARDS_MAX <= LOG_ARCS);
const _: () = assert!(LOG_WAITING_BYTES_MAX >= 2 * GROUP_BYTES_MAX);
const _: () = assert!(COLLECT_BATCH_BYTES <= LOG_WAITING_BYTES_MAX / 4);
const _: () = assert!(PAGE_BYTES.is_power_of_two() && RECV_BUFFERS.is_power_of_two());
const _: () =
    assert!(VIRTUAL_NODES_DEFAULT.is_power_of_two() && VIRTUAL_NODES_MAX.is_power_of_two());
const _: () =
    assert!(VIRTUAL_NODES_DEFAULT <= VIRTUAL_NODES_MAX && MEMBERS_MAX <= u16::MAX as usize);
const _: () = assert!(REPLICAS_DEFAULT <= REPLICAS_MAX && WEIGHT_DEFAULT <= WEIGHT_MAX);
const _: () = assert!(COLLECT_DISK_PERCENT < PUT_DISK_PERCENT_MAX);
const _: () = assert!(200 / MEMTABLE_MEMORY_PART < ENTRIES_MEMORY_PERCENT_MAX);
const _: () = assert!(ENTRIES_MEMORY_PERCENT_MAX < 100 && COMPACTION_FANOUT < RUNS_MAX);
const _: () = assert!(
    CLOSE_LINGERING_MAX + CONNECTIONS_REFUSED_MAX + ADMIN_CONNECTIONS_MAX
        < DESCRIPTORS_RESERVED as usize
);
const _: () = assert!(DISK_TASKS_MAX <= SHARD_REQUESTS_MAX);
const _: () = assert!(CONNECTION_REQUESTS_MAX <= SHARD_REQUESTS_MAX);
