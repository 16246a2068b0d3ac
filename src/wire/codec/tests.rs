use super::*;
use crate::base::limits::{
    CONTEXT_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, KEY_BYTES_MAX, RESPONSE_FRAME_BYTES_MAX,
    SIBLING_FRAME_BYTES_MAX, SIBLINGS_JOINED_MAX,
};
use crate::base::units::UnixMillis;
use crate::causal::object::OperationId;
use crate::wire::frame::{BadFrame, REQUEST_IDENTIFIER};
use crate::wire::message::*;
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: RequestLimits = RequestLimits {
    value_bytes_max: 4096,
};

fn put<'a>() -> Request<'a> {
    Request {
        id: 0x1122334455667788,
        op: Op::Put,
        key: b"user:42",
        value: b"hello",
        context: b"seen",
        operation: OperationId(0x000102030405060708090a0b0c0d0e0f),
        ..Request::default()
    }
}

fn sibling<'a>(value: &'a [u8]) -> SiblingView<'a> {
    SiblingView {
        value,
        lost: false,
        written: UnixMillis(1_700_000_000_000),
        expires: UnixMillis(0),
        value_hash: 0xfeedfacecafebeef,
        dot: DotView {
            incarnation: 0x0102030405060708,
            birth: 9,
            counter: 10,
        },
        operation: OperationId(11),
    }
}

fn found<'a>(siblings: &'a [SiblingView<'a>]) -> Reply<'a> {
    Reply {
        id: 7,
        status: Some(Status::Ok),
        siblings,
        context: b"token",
        receipt: Some(Receipt {
            votes: 2,
            needed: 2,
            replicas: 3,
            strict: true,
            hints: 1,
        }),
        ..Reply::default()
    }
}

fn hello() -> Reply<'static> {
    Reply {
        id: 1,
        status: Some(Status::Ok),
        hello: Some(HelloReply {
            protocol: 1,
            features: 5,
            cluster: 1 << 100 | 2,
            node: u128::MAX - 1,
            ring_epoch: 3,
            virtual_nodes: 1024,
            shard_ports: &[7701, 7702],
            value_bytes_max: 1 << 20,
        }),
        status_json: "{\"state\":\"serving\"}",
        ..Reply::default()
    }
}

fn keys() -> Reply<'static> {
    Reply {
        id: 10,
        status: Some(Status::Ok),
        keys: &[b"city", b"\xff"],
        next: Some(Next {
            position: 1 << 63,
            key: b"\xff",
        }),
        ..Reply::default()
    }
}

fn refused() -> Reply<'static> {
    let message = "too many requests are open on this connection";
    Reply {
        id: 9,
        status: Some(Status::Overloaded),
        message,
        ..Reply::default()
    }
}

/// Field by field: what was encoded is what comes out.
fn assert_same(view: &ReplyView<'_>, reply: &Reply<'_>) {
    assert_eq!((view.id, Some(view.status)), (reply.id, reply.status));
    assert_eq!(
        (view.message, view.status_json),
        (reply.message, reply.status_json)
    );
    assert_eq!((view.context, view.receipt), (reply.context, reply.receipt));
    assert_eq!(view.siblings.iter().collect::<Vec<_>>(), reply.siblings);
    assert_eq!(view.keys.iter().collect::<Vec<_>>(), reply.keys);
    assert_eq!(view.next, reply.next);
    match (view.hello(), &reply.hello) {
        (None, None) => {}
        (Some((fields, ports)), Some(sent)) => {
            let ports: Vec<u16> = ports.collect();
            assert_eq!(
                &HelloReply {
                    shard_ports: &ports,
                    ..fields
                },
                sent
            );
        }
        (got, sent) => panic!("hello: sent {sent:?}, got {}", got.is_some()),
    }
}

#[test]
fn numbers_equal_those_of_the_schema() {
    for value in fb::Op::ENUM_VALUES
        .iter()
        .filter(|op| **op != fb::Op::Missing)
    {
        let op = Op::from_wire(value.0).expect("an op of the schema");
        assert_eq!(value.variant_name(), Some(format!("{op:?}").as_str()));
    }
    assert_eq!(Op::from_wire(0), None);
    for value in fb::PutMode::ENUM_VALUES {
        let mode = PutMode::from_wire(value.0).expect("a mode of the schema");
        assert_eq!(value.variant_name(), Some(format!("{mode:?}").as_str()));
    }
    assert_eq!(fb::Status::ENUM_VALUES.len(), Status::ALL.len());
    for (value, status) in fb::Status::ENUM_VALUES.iter().zip(Status::ALL) {
        assert_eq!(value.0, status as u8);
        assert_eq!(value.variant_name(), Some(format!("{status:?}").as_str()));
    }
}

#[test]
fn an_unknown_status_keeps_its_band_and_never_turns_into_done() {
    for number in 0..=u8::MAX {
        let advice = Status::from_wire(number).advice();
        let expected = match number {
            0 | 1 => Advice::Done,
            10..=29 => Advice::Retry,
            30..=59 => Advice::DoNotRetry,
            _ => Advice::Unknown,
        };
        assert_eq!(advice, expected, "{number}");
    }
}

/// The bytes that other clients are tested against. A new file is written with ARMILLA_BLESS=1; an old one
/// never changes.
#[test]
fn golden_frames() {
    let one = [sibling(b"hello")];
    let lost = SiblingView {
        lost: true,
        value: b"",
        ..sibling(b"")
    };
    let many = [sibling(b"hello"), lost, sibling(b"")];
    let mut builder = Builder::new();
    let get = Request {
        id: 2,
        op: Op::Get,
        bucket: b"b",
        key: b"user:42",
        ..Request::default()
    };
    let delete = Request {
        op: Op::Delete,
        value: b"",
        ..put()
    };
    let overwrite = Request {
        mode: PutMode::Overwrite,
        context: b"",
        ..put()
    };
    let hi = Request {
        id: 1,
        op: Op::Hello,
        protocol: 1,
        features: 5,
        ..Request::default()
    };
    let list = Request {
        id: 3,
        op: Op::Keys,
        position: 1 << 63,
        ..Request::default()
    };
    let requests = [
        ("request-keys", list),
        ("request-get", get),
        ("request-put", put()),
        ("request-put-overwrite", overwrite),
        ("request-delete", delete),
        ("request-hello", hi),
    ];
    for (name, request) in &requests {
        golden(name, encode_request(&mut builder, request));
        let frame = unhex(&golden_text(name));
        assert_eq!(
            decode_request(&frame, LIMITS).as_ref(),
            Ok(request),
            "{name}"
        );
    }
    let replies = [
        ("reply-get-one", found(&one)),
        ("reply-get-siblings", found(&many)),
        ("reply-keys", keys()),
        ("reply-hello", hello()),
        ("reply-overloaded", refused()),
    ];
    for (name, reply) in &replies {
        golden(name, encode_reply(&mut builder, reply));
        let frame = unhex(&golden_text(name));
        assert_same(&decode_reply(&frame).expect("a golden reply"), reply);
    }
}

fn golden_path(name: &str) -> String {
    format!("{}/schema/vectors/{name}.hex", env!("CARGO_MANIFEST_DIR"))
}

fn golden_text(name: &str) -> String {
    std::fs::read_to_string(golden_path(name)).expect("a golden frame; ARMILLA_BLESS=1 writes it")
}

fn golden(name: &str, frame: &[u8]) {
    let lines: Vec<String> = frame
        .chunks(16)
        .map(|line| {
            line.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("ARMILLA_BLESS").is_some() {
        std::fs::write(golden_path(name), &text).expect("schema/vectors is there");
    }
    assert_eq!(
        golden_text(name),
        text,
        "{name}: what is on the wire has changed"
    );
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
        .collect()
}

#[test]
fn every_rule_of_the_door_refuses() {
    let long_bucket = [b'b'; 256];
    let long_key = [b'k'; KEY_BYTES_MAX];
    let long_value = [0; 4097];
    let exact_value = [0; 4096];
    let cases = [
        (
            Request {
                bucket: &long_bucket[..255],
                ..put()
            },
            None,
        ),
        (
            Request {
                key: &long_key,
                ..put()
            },
            None,
        ),
        (
            Request {
                value: &exact_value,
                ..put()
            },
            None,
        ),
        (Request { key: b"", ..put() }, Some(RequestReason::Key(0))),
        (
            Request {
                op: Op::Get,
                key: b"",
                ..put()
            },
            Some(RequestReason::Key(0)),
        ),
        (
            Request {
                op: Op::Hello,
                key: b"",
                ..put()
            },
            None,
        ),
        (
            Request {
                value: &long_value,
                ..put()
            },
            Some(RequestReason::Value {
                len: 4097,
                max: 4096,
            }),
        ),
        (
            Request {
                mode: PutMode::Overwrite,
                ..put()
            },
            Some(RequestReason::ContextWithMode),
        ),
        (
            Request {
                mode: PutMode::IfAbsent,
                context: b"",
                ..put()
            },
            None,
        ),
        (
            Request {
                op: Op::Delete,
                ..put()
            },
            Some(RequestReason::Delete),
        ),
        (
            Request {
                op: Op::Delete,
                value: b"",
                context: b"",
                mode: PutMode::IfAbsent,
                ..put()
            },
            Some(RequestReason::Delete),
        ),
    ];
    let mut builder = Builder::new();
    for (request, refusal) in cases {
        let frame = encode_request(&mut builder, &request);
        let expected = match refusal {
            None => Ok(request),
            Some(reason) => Err(BadRequest {
                id: Some(request.id),
                reason,
            }),
        };
        assert_eq!(decode_request(frame, LIMITS), expected);
    }
}

/// What the encoder cannot write is written with the generated code.
fn raw(arguments: impl FnOnce(&mut fb::RequestArgs<'_>), key: &[u8], bucket: &[u8]) -> Vec<u8> {
    let mut fbb = flatbuffers::FlatBufferBuilder::new();
    let key = Some(fbb.create_vector(key));
    let bucket = Some(fbb.create_vector(bucket));
    let mut all = fb::RequestArgs {
        id: 3,
        op: fb::Op::Get,
        key,
        bucket,
        ..Default::default()
    };
    arguments(&mut all);
    let root = fb::Request::create(&mut fbb, &all);
    fbb.finish_size_prefixed(root, Some(REQUEST_IDENTIFIER));
    fbb.finished_data().to_vec()
}

#[test]
fn foreign_numbers_and_lengths_are_refused_with_the_id() {
    let reason = |frame: Vec<u8>| {
        let bad = decode_request(&frame, RequestLimits::default()).expect_err("refused");
        assert_eq!(bad.id, Some(3));
        bad.reason
    };
    assert_eq!(
        reason(raw(|r| r.op = fb::Op(0), b"k", b"")),
        RequestReason::Op(0)
    );
    assert_eq!(
        reason(raw(|r| r.op = fb::Op(77), b"k", b"")),
        RequestReason::Op(77)
    );
    assert_eq!(
        reason(raw(|r| r.mode = fb::PutMode(3), b"k", b"")),
        RequestReason::Mode(3)
    );
    assert_eq!(
        reason(raw(|_| {}, &[1; 4097], b"")),
        RequestReason::Key(4097)
    );
    assert_eq!(
        reason(raw(|_| {}, b"k", &[1; 256])),
        RequestReason::Bucket(256)
    );
    let mut fbb = flatbuffers::FlatBufferBuilder::new();
    let context = Some(fbb.create_vector(&[0u8; CONTEXT_BYTES_MAX + 1]));
    let arguments = fb::RequestArgs {
        id: 3,
        op: fb::Op::Hello,
        context,
        ..Default::default()
    };
    let root = fb::Request::create(&mut fbb, &arguments);
    fbb.finish_size_prefixed(root, Some(REQUEST_IDENTIFIER));
    let frame = fbb.finished_data().to_vec();
    assert_eq!(reason(frame), RequestReason::Context(CONTEXT_BYTES_MAX + 1));
}

#[test]
fn what_the_verifier_lets_pass_is_refused() {
    let mut builder = Builder::new();
    let frame = encode_request(&mut builder, &put()).to_vec();
    let refusal = |bytes: &[u8]| decode_request(bytes, LIMITS).expect_err("refused").reason;
    let trailing = [frame.as_slice(), &[0]].concat();
    assert_eq!(refusal(&trailing), RequestReason::Frame(BadFrame::Length));
    let mut prefix = frame.clone();
    prefix[0] -= 1;
    assert_eq!(refusal(&prefix), RequestReason::Frame(BadFrame::Length));
    let reply = encode_reply(&mut builder, &refused());
    assert!(matches!(
        refusal(reply),
        RequestReason::Frame(BadFrame::Identifier { .. })
    ));
    assert!(matches!(
        decode_reply(&frame),
        Err(BadReply::Frame(BadFrame::Identifier { .. }))
    ));
    let mut fbb = flatbuffers::FlatBufferBuilder::new();
    let root = fb::Reply::create(
        &mut fbb,
        &fb::ReplyArgs {
            id: 1,
            ..Default::default()
        },
    );
    fbb.finish_size_prefixed(root, Some("ARMR"));
    assert_eq!(
        decode_reply(fbb.finished_data()).err(),
        Some(BadReply::NoStatus)
    );
}

#[test]
fn the_most_siblings_take_no_more_than_their_part_of_a_frame() {
    let siblings = vec![sibling(b"v"); SIBLINGS_JOINED_MAX];
    let context = vec![7; CONTEXT_BYTES_MAX];
    let mut builder = Builder::new();
    let reply = Reply {
        context: &context,
        ..found(&siblings)
    };
    let frame = encode_reply(&mut builder, &reply).to_vec();
    let beside = SIBLINGS_JOINED_MAX * SIBLING_FRAME_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
    assert!(frame.len() <= beside, "{} > {beside}", frame.len());
    let read = decode_reply(&frame).expect("it was just written");
    assert_eq!(read.siblings.len(), SIBLINGS_JOINED_MAX);
}

#[test]
fn the_largest_reply_fits_and_its_builder_is_given_back() {
    let value = vec![3u8; 17 << 20];
    let siblings = [sibling(&value), sibling(&value)];
    let mut builder = Builder::new();
    let len = encode_reply(&mut builder, &found(&siblings)).len();
    assert!(len <= RESPONSE_FRAME_BYTES_MAX);
    assert!(builder.finished_bytes > BUILDER_KEEP_BYTES_MAX);
    let small = encode_reply(&mut builder, &refused()).len();
    assert_eq!(builder.finished_bytes, small);
    let (buffer, _) = std::mem::take(&mut builder.inner).collapse();
    assert!(buffer.len() <= BUILDER_KEEP_BYTES_MAX, "{}", buffer.len());
}

#[test]
fn damaged_frames_are_refused_or_read_but_never_panic() {
    let mut builder = Builder::new();
    let many = [sibling(b"hello"), sibling(b"")];
    let frames = [
        encode_request(&mut builder, &put()).to_vec(),
        encode_reply(&mut builder, &found(&many)).to_vec(),
        encode_reply(&mut builder, &hello()).to_vec(),
    ];
    for frame in frames {
        for cut in 0..frame.len() {
            assert!(decode_request(&frame[..cut], LIMITS).is_err());
            assert!(decode_reply(&frame[..cut]).is_err());
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            read_all(&flipped);
        }
    }
}

/// Touches every byte that a decoded message claims to have.
fn read_all(frame: &[u8]) -> usize {
    let request = decode_request(frame, LIMITS).map_or(0, |r| format!("{r:?}").len());
    let reply = decode_reply(frame).map_or(0, |r| {
        let siblings: Vec<_> = r.siblings.iter().collect();
        let hello = r
            .hello()
            .map(|(fields, ports)| (fields, ports.collect::<Vec<_>>()));
        format!(
            "{siblings:?}{hello:?}{}{}{:?}{:?}{:?}",
            r.message,
            r.status_json,
            r.context,
            r.next,
            r.keys.iter().collect::<Vec<_>>()
        )
        .len()
    });
    request + reply
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn requests_round_trip(
        id: u64, op in 2usize..4, key in vec(any::<u8>(), 1..64), value in vec(any::<u8>(), 0..2048),
        bucket in vec(any::<u8>(), 0..256), context in vec(any::<u8>(), 0..300), operation: u128,
        numbers: (u64, u8, u8, bool, u32, u16, u64, u64),
    ) {
        let op = [Op::Hello, Op::Status, Op::Get, Op::Put][op];
        let (expires, read_quorum, write_quorum, strict, timeout_ms, protocol, features, position) = numbers;
        let request = Request {
            id, op, bucket: &bucket, key: &key, value: &value, context: &context,
            mode: PutMode::ByContext, operation: OperationId(operation), expires: UnixMillis(expires),
            read_quorum, write_quorum, strict, timeout_ms, protocol, features, position,
        };
        let mut builder = Builder::new();
        encode_reply(&mut builder, &refused());
        prop_assert_eq!(decode_request(encode_request(&mut builder, &request), LIMITS), Ok(request));
    }

    #[test]
    fn replies_round_trip(
        values in vec((vec(any::<u8>(), 0..200), any::<(bool, u64, u64, u64, u64, u32, u64, u128)>()), 0..130),
        context in vec(any::<u8>(), 0..300), message in ".{0,40}", status in 0usize..20,
    ) {
        let siblings: Vec<SiblingView<'_>> = values.iter().take(128).map(|(value, n)| SiblingView {
            value, lost: n.0, written: UnixMillis(n.1), expires: UnixMillis(n.2), value_hash: n.3,
            dot: DotView { incarnation: n.4, birth: n.5, counter: n.6 }, operation: OperationId(n.7),
        }).collect();
        let reply = Reply {
            id: 5, status: Some(Status::ALL[status]), message: &message, siblings: &siblings,
            context: &context, ..Reply::default()
        };
        let mut builder = Builder::new();
        let mut out = vec![1, 2, 3];
        encode_reply_into(&mut out, &mut builder, &reply);
        assert_same(&decode_reply(&out[3..]).expect("a reply"), &reply);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut body in vec(any::<u8>(), 8..256), reply: bool) {
        body[4..8].copy_from_slice(if reply { b"ARMR" } else { b"ARMQ" });
        let frame = [(body.len() as u32).to_le_bytes().to_vec(), body].concat();
        read_all(&frame);
    }
}
