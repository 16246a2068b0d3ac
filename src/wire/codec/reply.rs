//! Replies: what a node answers.

use super::{Builder, bytes, fb, id128, number, verifier_options};
use crate::base::limits::{
    CONTEXT_BYTES_MAX, KEYS_PAGE_MAX, RESPONSE_FRAME_BYTES_MAX, SIBLINGS_JOINED_MAX,
};
use crate::base::units::UnixMillis;
use crate::causal::object::OperationId;
use crate::wire::frame::{BadFrame, REPLY_IDENTIFIER, check_whole};
use crate::wire::message::{DotView, HelloReply, Next, Receipt, Reply, SiblingView, Status};
use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};

/// The reply, its hello, its place of the next page, its siblings and its keys are a table each.
const TABLES_MAX: usize = SIBLINGS_JOINED_MAX + KEYS_PAGE_MAX + 3;

/// Encodes `reply` as one whole frame, which lives until the builder is used again. Values are copied once, into
/// the builder; nothing is allocated once the builder has grown to the size of the replies it sees.
pub fn encode_reply<'b>(builder: &'b mut Builder, reply: &Reply<'_>) -> &'b [u8] {
    let status = reply
        .status
        .expect("a reply is encoded once its outcome is decided");
    assert!(reply.siblings.len() <= SIBLINGS_JOINED_MAX);
    assert!(reply.context.len() <= CONTEXT_BYTES_MAX);
    assert!(reply.keys.len() <= KEYS_PAGE_MAX);
    let fbb = builder.reset();
    let siblings = (!reply.siblings.is_empty()).then(|| encode_siblings(fbb, reply.siblings));
    let context = (!reply.context.is_empty()).then(|| fbb.create_vector(reply.context));
    let message = (!reply.message.is_empty()).then(|| fbb.create_string(reply.message));
    let json = (!reply.status_json.is_empty()).then(|| fbb.create_string(reply.status_json));
    let hello = reply.hello.as_ref().map(|hello| encode_hello(fbb, hello));
    let keys = (!reply.keys.is_empty()).then(|| encode_keys(fbb, reply.keys));
    let next = reply.next.map(|next| encode_next(fbb, next));
    let receipt = reply
        .receipt
        .map(|r| fb::Receipt::new(r.votes, r.needed, r.replicas, r.hints, r.strict));
    let arguments = fb::ReplyArgs {
        id: reply.id,
        status: Some(fb::Status(status as u8)),
        message,
        siblings,
        context,
        receipt: receipt.as_ref(),
        hello,
        status_json: json,
        keys,
        next,
    };
    let root = fb::Reply::create(fbb, &arguments);
    fbb.finish_size_prefixed(root, Some(REPLY_IDENTIFIER));
    builder.finished(RESPONSE_FRAME_BYTES_MAX)
}

/// Appends the frame of `reply` to what a connection is about to send.
pub fn encode_reply_into(out: &mut Vec<u8>, builder: &mut Builder, reply: &Reply<'_>) {
    out.extend_from_slice(encode_reply(builder, reply));
}

fn encode_siblings(
    fbb: &mut FlatBufferBuilder<'static>,
    siblings: &[SiblingView<'_>],
) -> WIPOffset<Vector<'static, ForwardsUOffset<fb::Sibling<'static>>>> {
    // A table must be finished before the vector that names it begins: their places wait on the stack.
    let mut places = [WIPOffset::new(0); SIBLINGS_JOINED_MAX];
    for (sibling, place) in siblings.iter().zip(&mut places) {
        let value = (!sibling.value.is_empty()).then(|| fbb.create_vector(sibling.value));
        let dot = fb::Dot::new(
            sibling.dot.incarnation,
            sibling.dot.counter,
            sibling.dot.birth,
        );
        let operation = (sibling.operation.0 != 0).then(|| id128(sibling.operation.0));
        let arguments = fb::SiblingArgs {
            value,
            lost: sibling.lost,
            written_ms: sibling.written.0,
            expires_ms: sibling.expires.0,
            value_hash: sibling.value_hash,
            dot: Some(&dot),
            operation: operation.as_ref(),
        };
        *place = fb::Sibling::create(fbb, &arguments);
    }
    fbb.create_vector(&places[..siblings.len()])
}

fn encode_hello(
    fbb: &mut FlatBufferBuilder<'static>,
    hello: &HelloReply<'_>,
) -> WIPOffset<fb::Hello<'static>> {
    let shard_ports = fbb.create_vector(hello.shard_ports);
    let arguments = fb::HelloArgs {
        protocol: hello.protocol,
        features: hello.features,
        cluster: Some(&id128(hello.cluster)),
        node: Some(&id128(hello.node)),
        ring_epoch: hello.ring_epoch,
        virtual_nodes: hello.virtual_nodes,
        shard_ports: Some(shard_ports),
        value_bytes_max: hello.value_bytes_max,
    };
    fb::Hello::create(fbb, &arguments)
}

fn encode_keys(
    fbb: &mut FlatBufferBuilder<'static>,
    keys: &[&[u8]],
) -> WIPOffset<Vector<'static, ForwardsUOffset<fb::Key<'static>>>> {
    let tables = keys.iter().map(|key| {
        let key = Some(fbb.create_vector(key));
        fb::Key::create(fbb, &fb::KeyArgs { key })
    });
    let places: Vec<_> = tables.collect();
    fbb.create_vector(&places)
}

fn encode_next(
    fbb: &mut FlatBufferBuilder<'static>,
    next: Next<'_>,
) -> WIPOffset<fb::Next<'static>> {
    let key = (!next.key.is_empty()).then(|| fbb.create_vector(next.key));
    let position = next.position;
    fb::Next::create(fbb, &fb::NextArgs { position, key })
}

/// A frame that is no reply. What became of its request is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    #[error("{0}")]
    Frame(BadFrame),
    #[error("the frame holds no reply table: it is damaged, or of another schema")]
    Malformed,
    #[error("the reply has no status")]
    NoStatus,
    #[error("the reply has {0} siblings: a key has at most {max}", max = SIBLINGS_JOINED_MAX)]
    Siblings(usize),
    #[error("the reply has {0} keys: a page has at most {max}", max = KEYS_PAGE_MAX)]
    Keys(usize),
    #[error("the reply has a context of {0} bytes: no node gives one longer than {max}", max = CONTEXT_BYTES_MAX)]
    Context(usize),
}

/// A verified reply that borrows from its frame; its siblings are read as one walks over them, so that
/// decoding allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct ReplyView<'a> {
    pub id: u64,
    pub status: Status,
    pub message: &'a str,
    pub siblings: Siblings<'a>,
    pub context: &'a [u8],
    pub receipt: Option<Receipt>,
    pub status_json: &'a str,
    pub keys: Keys<'a>,
    pub next: Option<Next<'a>>,
    hello: Option<fb::Hello<'a>>,
}

impl<'a> ReplyView<'a> {
    /// The hello without its ports, and the ports: they stand in the frame unaligned and cannot be borrowed
    /// as numbers.
    pub fn hello(&self) -> Option<(HelloReply<'static>, impl Iterator<Item = u16> + use<'a>)> {
        let hello = self.hello?;
        let fields = HelloReply {
            protocol: hello.protocol(),
            features: hello.features(),
            cluster: number(hello.cluster()),
            node: number(hello.node()),
            ring_epoch: hello.ring_epoch(),
            virtual_nodes: hello.virtual_nodes(),
            shard_ports: &[],
            value_bytes_max: hello.value_bytes_max(),
        };
        Some((fields, hello.shard_ports().into_iter().flatten()))
    }
}

/// The siblings of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Siblings<'a>(Option<Vector<'a, ForwardsUOffset<fb::Sibling<'a>>>>);

impl<'a> Siblings<'a> {
    pub fn len(&self) -> usize {
        self.0.map_or(0, |vector| vector.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = SiblingView<'a>> + use<'a> {
        self.0.into_iter().flatten().map(|sibling| SiblingView {
            value: bytes(sibling.value()),
            lost: sibling.lost(),
            written: UnixMillis(sibling.written_ms()),
            expires: UnixMillis(sibling.expires_ms()),
            value_hash: sibling.value_hash(),
            dot: DotView {
                incarnation: sibling.dot().incarnation(),
                birth: sibling.dot().birth(),
                counter: sibling.dot().counter(),
            },
            operation: OperationId(number(sibling.operation())),
        })
    }
}

/// The keys of a page.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a>(Option<Vector<'a, ForwardsUOffset<fb::Key<'a>>>>);

impl<'a> Keys<'a> {
    pub fn len(&self) -> usize {
        self.0.map_or(0, |vector| vector.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.into_iter().flatten().map(|key| bytes(key.key()))
    }
}

/// Decodes one whole frame, prefix included.
pub fn decode_reply(frame: &[u8]) -> Result<ReplyView<'_>, BadReply> {
    check_whole(frame, REPLY_IDENTIFIER, RESPONSE_FRAME_BYTES_MAX).map_err(BadReply::Frame)?;
    let options = verifier_options(frame.len(), TABLES_MAX);
    let table = flatbuffers::size_prefixed_root_with_opts::<fb::Reply>(&options, frame)
        .map_err(|_| BadReply::Malformed)?;
    let reply = ReplyView {
        id: table.id(),
        status: Status::from_wire(table.status().ok_or(BadReply::NoStatus)?.0),
        message: table.message().unwrap_or_default(),
        siblings: Siblings(table.siblings()),
        context: bytes(table.context()),
        receipt: table.receipt().map(|r| Receipt {
            votes: r.votes(),
            needed: r.needed(),
            replicas: r.replicas(),
            strict: r.strict(),
            hints: r.hints(),
        }),
        status_json: table.status_json().unwrap_or_default(),
        keys: Keys(table.keys()),
        next: table.next().map(|next| Next {
            position: next.position(),
            key: bytes(next.key()),
        }),
        hello: table.hello(),
    };
    if reply.keys.len() > KEYS_PAGE_MAX {
        return Err(BadReply::Keys(reply.keys.len()));
    }
    if reply.siblings.len() > SIBLINGS_JOINED_MAX {
        return Err(BadReply::Siblings(reply.siblings.len()));
    }
    if reply.context.len() > CONTEXT_BYTES_MAX {
        return Err(BadReply::Context(reply.context.len()));
    }
    Ok(reply)
}
