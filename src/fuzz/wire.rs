//! Frames, requests and replies.

use crate::base::limits::FRAME_BYTES_MIN;
use crate::base::units::UnixMillis;
use crate::causal::object::OperationId;
use crate::wire::codec::*;
use crate::wire::frame::{BadFrame, REPLY_IDENTIFIER, REQUEST_IDENTIFIER, Split, split};
use crate::wire::message::*;

const LIMITS: RequestLimits = RequestLimits {
    value_bytes_max: 512,
};

/// Two bytes (the largest frame, in units of 16 bytes; which side listens), then a stream of frames.
pub fn frame(data: &[u8]) {
    let Some((&[limit, side], mut stream)) = data.split_first_chunk() else {
        return;
    };
    let identifier = [REQUEST_IDENTIFIER, REPLY_IDENTIFIER][usize::from(side % 2)];
    let len_max = FRAME_BYTES_MIN + usize::from(limit) * 16;
    loop {
        let mut verdict = Split::NeedMore { total: None };
        for cut in (0..stream.len().min(20)).chain([stream.len()]) {
            let now = split(&stream[..cut], identifier, len_max);
            assert!(may_become(verdict, now), "{verdict:?}, then {now:?}");
            verdict = now;
        }
        let Split::Frame { len } = verdict else {
            return;
        };
        assert!((FRAME_BYTES_MIN..=len_max).contains(&len));
        let (frame, rest) = stream.split_at(len);
        if identifier == REQUEST_IDENTIFIER {
            let refused = decode_request(frame, LIMITS).err().map(|bad| bad.reason);
            assert!(
                !matches!(refused, Some(RequestReason::Frame(_))),
                "{refused:?}"
            );
        } else {
            let refused = decode_reply(frame).err();
            assert!(!matches!(refused, Some(BadReply::Frame(_))), "{refused:?}");
        }
        stream = rest;
    }
}

/// Whether more bytes may turn the one verdict into the other.
fn may_become(before: Split, after: Split) -> bool {
    match (before, after) {
        (Split::NeedMore { total: None }, _) => true,
        (Split::NeedMore { total: Some(total) }, Split::NeedMore { total: Some(again) }) => {
            total == again
        }
        (Split::NeedMore { total: Some(total) }, Split::Frame { len }) => total == len,
        (Split::NeedMore { .. }, Split::Bad(reason)) => {
            matches!(reason, BadFrame::Identifier { .. })
        }
        (before, after) => before == after,
    }
}

pub fn frame_seeds() -> Vec<Vec<u8>> {
    let mut builder = Builder::new();
    let mut seeds = vec![
        b"\xff\x00GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![9, 1, 255, 255, 255, 255],
    ];
    for (side, payloads) in [(0, request_seeds()), (1, reply_seeds())] {
        let mut all = vec![200, side];
        payloads
            .iter()
            .for_each(|frame| all.extend_from_slice(frame));
        seeds.push(all);
    }
    let one = encode_request(&mut builder, &Request::default());
    seeds.push([&[10, 0][..], one, one, &one[..14]].concat());
    // One byte longer than is taken.
    let mut long = framed(&[0; FRAME_BYTES_MIN + 16 + 1], REQUEST_IDENTIFIER).expect("room");
    long.splice(0..0, [1, 0]);
    seeds.push(long);
    seeds
}

/// The bytes with the prefix and the identifier of a whole frame.
fn framed(data: &[u8], identifier: &str) -> Option<Vec<u8>> {
    let mut frame = data.to_vec();
    let len = data.len().checked_sub(4)? as u32;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame
        .get_mut(8..FRAME_BYTES_MIN)?
        .copy_from_slice(identifier.as_bytes());
    Some(frame)
}

/// Whether a part that was read lies in the frame it was read from.
fn inside(frame: &[u8], part: &[u8]) -> bool {
    let (frame, part) = (frame.as_ptr_range(), part.as_ptr_range());
    part.is_empty() || frame.start <= part.start && part.end <= frame.end
}

/// A request's frame, whose prefix and identifier are put right.
pub fn request(data: &[u8]) {
    let raw = decode_request(data, LIMITS);
    let Some(frame) = framed(data, REQUEST_IDENTIFIER) else {
        return assert!(raw.is_err());
    };
    let decoded = decode_request(&frame, LIMITS);
    // A connection's frames begin at any address.
    let moved = [&[0][..], &frame].concat();
    assert_eq!(decode_request(&moved[1..], LIMITS), decoded);
    match decoded {
        Ok(request) => {
            for part in [request.bucket, request.key, request.value, request.context] {
                assert!(inside(&frame, part));
            }
            let mut builder = Builder::new();
            let again = encode_request(&mut builder, &request);
            assert_eq!(decode_request(again, LIMITS), Ok(request));
        }
        Err(bad) => {
            assert!(
                !matches!(bad.reason, RequestReason::Frame(_)),
                "its frame is whole"
            );
            assert!(!bad.to_string().is_empty());
            assert_eq!(bad.reason.status().advice(), Advice::DoNotRetry);
        }
    }
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let put = Request {
        id: 7,
        op: Op::Put,
        bucket: b"bucket",
        key: b"key",
        value: b"a value",
        context: b"a context",
        operation: OperationId(u128::MAX / 3),
        expires: UnixMillis(5),
        write_quorum: 2,
        strict: true,
        timeout_ms: 1000,
        ..Request::default()
    };
    let overwrite = Request {
        context: &[],
        mode: PutMode::Overwrite,
        ..put.clone()
    };
    let get = Request {
        id: 8,
        key: b"key",
        read_quorum: 1,
        ..Request::default()
    };
    let hello = Request {
        op: Op::Hello,
        protocol: 1,
        features: 3,
        ..Request::default()
    };
    let delete = Request {
        op: Op::Delete,
        value: &[],
        ..put.clone()
    };
    let keys = Request {
        op: Op::Keys,
        position: 1 << 60,
        ..Request::default()
    };
    let mut builder = Builder::new();
    let all = [put, overwrite, get, hello, delete, keys];
    all.map(|request| encode_request(&mut builder, &request).to_vec())
        .to_vec()
}

/// A reply's frame, whose prefix and identifier are put right.
pub fn reply(data: &[u8]) {
    let raw = decode_reply(data);
    let Some(frame) = framed(data, REPLY_IDENTIFIER) else {
        return assert!(raw.is_err());
    };
    let moved = [&[0][..], &frame].concat();
    let elsewhere = decode_reply(&moved[1..]).map(|view| Parts::of(&view));
    let decoded = decode_reply(&frame);
    match decoded {
        Ok(view) => {
            let parts = Parts::of(&view);
            assert_eq!(elsewhere.as_ref(), Ok(&parts));
            for part in parts.borrowed() {
                assert!(inside(&frame, part));
            }
            let mut builder = Builder::new();
            let again = encode_reply(&mut builder, &parts.reply());
            let view = decode_reply(again).expect("what we encode is a reply");
            assert_eq!(Parts::of(&view), parts);
        }
        Err(bad) => {
            assert_eq!(elsewhere, Err(bad));
            assert!(!matches!(bad, BadReply::Frame(_)), "its frame is whole");
            assert!(!bad.to_string().is_empty());
        }
    }
}

/// All that a reply says.
#[derive(Debug, PartialEq)]
struct Parts<'a> {
    id: u64,
    status: Status,
    texts: [&'a str; 2],
    siblings: Vec<SiblingView<'a>>,
    context: &'a [u8],
    receipt: Option<Receipt>,
    hello: Option<(HelloReply<'static>, Vec<u16>)>,
    keys: Vec<&'a [u8]>,
    next: Option<Next<'a>>,
}

impl<'a> Parts<'a> {
    fn of(view: &ReplyView<'a>) -> Parts<'a> {
        let siblings: Vec<_> = view.siblings.iter().collect();
        assert_eq!(siblings.len(), view.siblings.len());
        Parts {
            id: view.id,
            status: view.status,
            texts: [view.message, view.status_json],
            siblings,
            context: view.context,
            receipt: view.receipt,
            hello: view.hello().map(|(hello, ports)| (hello, ports.collect())),
            keys: view.keys.iter().collect(),
            next: view.next,
        }
    }

    fn borrowed(&self) -> impl Iterator<Item = &'a [u8]> {
        let texts = self.texts.map(str::as_bytes).into_iter();
        let values = self.siblings.iter().map(|sibling| sibling.value);
        let keys = self.keys.iter().copied();
        let next = self.next.map(|next| next.key);
        texts
            .chain(values)
            .chain(keys)
            .chain(next)
            .chain([self.context])
    }

    fn reply(&self) -> Reply<'_> {
        let hello = self.hello.as_ref().map(|(hello, ports)| HelloReply {
            shard_ports: ports,
            ..hello.clone()
        });
        Reply {
            id: self.id,
            status: Some(self.status),
            message: self.texts[0],
            siblings: &self.siblings,
            context: self.context,
            receipt: self.receipt,
            hello,
            status_json: self.texts[1],
            keys: &self.keys,
            next: self.next,
        }
    }
}

pub fn reply_seeds() -> Vec<Vec<u8>> {
    let sibling = |value, lost| SiblingView {
        value,
        lost,
        written: UnixMillis(1),
        expires: UnixMillis(0),
        value_hash: 99,
        dot: DotView {
            incarnation: 3,
            birth: 1,
            counter: 2,
        },
        operation: OperationId(6),
    };
    let receipt = Receipt {
        votes: 2,
        needed: 2,
        replicas: 3,
        strict: true,
        hints: 1,
    };
    let siblings = [sibling(&b"one"[..], false), sibling(b"", true)];
    let found = Reply {
        id: 4,
        status: Some(Status::Ok),
        siblings: &siblings,
        context: b"a context",
        receipt: Some(receipt),
        ..Reply::default()
    };
    let refused = Reply {
        status: Some(Status::Overloaded),
        message: "try again",
        ..Reply::default()
    };
    let keys = Reply {
        status: Some(Status::Ok),
        keys: &[b"one", b"two"],
        next: Some(Next {
            position: 7,
            key: b"two",
        }),
        ..Reply::default()
    };
    let hello = Reply {
        status: Some(Status::Ok),
        hello: Some(HelloReply {
            protocol: 1,
            cluster: 5,
            node: 6,
            virtual_nodes: 1024,
            shard_ports: &[7701, 7702],
            ..HelloReply::default()
        }),
        status_json: "{}",
        ..Reply::default()
    };
    let mut builder = Builder::new();
    let all = [found, refused, keys, hello];
    all.map(|reply| encode_reply(&mut builder, &reply).to_vec())
        .to_vec()
}
