//! Armilla's own protocol as a session, by the core of the client library.

use crate::session::{Answer, Session};
use armilla::causal::object::OperationId;
use armilla::client::core::Core;
use armilla::wire::codec::ReplyView;
use armilla::wire::message::{Advice, Op, PutMode, Request, Status};

pub struct Protocol {
    core: Core,
}

impl Protocol {
    fn submit(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> u64 {
        let id = self.core.submit(request);
        // The driver owns the socket, and tells the fate of what was open by itself: to the core all has left.
        out.extend_from_slice(self.core.unsent());
        self.core.on_sent(self.core.unsent().len());
        id.0
    }
}

impl Session for Protocol {
    fn new(_: &mut Vec<u8>) -> Protocol {
        Protocol { core: Core::new() }
    }

    fn get(&mut self, key: &str, out: &mut Vec<u8>) -> u64 {
        let request = Request {
            op: Op::Get,
            key: key.as_bytes(),
            ..Request::default()
        };
        self.submit(&request, out)
    }

    fn put(&mut self, key: &str, value: &[u8], operation: u128, out: &mut Vec<u8>) -> u64 {
        let request = Request {
            op: Op::Put,
            key: key.as_bytes(),
            value,
            mode: PutMode::Overwrite,
            operation: OperationId(operation),
            ..Request::default()
        };
        self.submit(&request, out)
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        on_answer: &mut dyn FnMut(u64, Answer<'_>),
    ) -> Result<(), String> {
        self.core.on_bytes(bytes);
        while let Some((id, reply)) = self.core.next_reply().map_err(|cause| cause.to_string())? {
            answer(&reply, |answer| on_answer(id.0, answer));
        }
        Ok(())
    }
}

fn answer(reply: &ReplyView<'_>, take: impl FnOnce(Answer<'_>)) {
    // The status alone: messages hold numbers, and endings are counted by their name.
    let why = || format!("{:?}", reply.status);
    match reply.status.advice() {
        Advice::Done if reply.status == Status::NotFound => take(Answer::Values(&[])),
        Advice::Done if reply.siblings.iter().any(|sibling| sibling.lost) => {
            take(Answer::Refused("a sibling's value is lost"));
        }
        Advice::Done => {
            let values: Vec<&[u8]> = reply.siblings.iter().map(|s| s.value).collect();
            take(Answer::Values(&values));
        }
        Advice::Retry | Advice::DoNotRetry => take(Answer::Refused(&why())),
        Advice::Unknown => take(Answer::Unknown(&why())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use armilla::wire::codec::{Builder, encode_reply};
    use armilla::wire::message::{Reply, SiblingView};

    fn reply<'a>(id: u64, status: Status, siblings: &'a [SiblingView<'a>]) -> Vec<u8> {
        let reply = Reply {
            id,
            status: Some(status),
            siblings,
            ..Reply::default()
        };
        encode_reply(&mut Builder::new(), &reply).to_vec()
    }

    fn sibling(value: &[u8], lost: bool) -> SiblingView<'_> {
        SiblingView {
            value,
            lost,
            written: Default::default(),
            expires: Default::default(),
            value_hash: 0,
            dot: Default::default(),
            operation: Default::default(),
        }
    }

    #[test]
    fn each_reply_is_told_as_what_it_means() {
        let mut out = Vec::new();
        let mut session = Protocol::new(&mut out);
        let ids: Vec<u64> = (0..6).map(|_| session.get("k", &mut out)).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
        let two = [sibling(b"a", false), sibling(b"b", false)];
        let bytes = [
            reply(1, Status::Ok, &two),
            reply(2, Status::NotFound, &[]),
            reply(3, Status::Ok, &[sibling(b"", true)]),
            reply(4, Status::Full, &[]),
            reply(5, Status::ValueTooLarge, &[]),
            reply(6, Status::Timeout, &[]),
        ]
        .concat();
        let mut told = Vec::new();
        for piece in bytes.chunks(11) {
            let take = &mut |id, answer: Answer<'_>| told.push((id, format!("{answer:?}")));
            session.receive(piece, take).unwrap();
        }
        let expected = [
            "Values([[97], [98]])",
            "Values([])",
            "Refused(\"a sibling's value is lost\")",
            "Refused(\"Full\")",
            "Refused(\"ValueTooLarge\")",
            "Unknown(\"Timeout\")",
        ];
        let expected: Vec<_> = ids.into_iter().zip(expected.map(str::to_string)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn rubbish_and_strangers_end_the_connection() {
        let mut session = Protocol::new(&mut Vec::new());
        let none = &mut |_, _: Answer<'_>| panic!("nothing was asked");
        assert!(session.receive(&reply(9, Status::Ok, &[]), none).is_err());
        let mut session = Protocol::new(&mut Vec::new());
        assert!(
            session
                .receive(b"HTTP/1.1 400 Bad Request\r\n", none)
                .is_err()
        );
    }
}
