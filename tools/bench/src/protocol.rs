//! Armilla's own protocol as a session, by the core of the client library.

use crate::environment::Server;
use crate::session::{Answer, Ask, Session};
use armilla::causal::object::OperationId;
use armilla::client::Client;
use armilla::client::core::Core;
use armilla::wire::codec::ReplyView;
use armilla::wire::message::{Advice, Op, PutMode, Request, Status};
use std::net::SocketAddr;

pub struct Protocol {
    core: Core,
    bucket: Vec<u8>,
}

impl Session for Protocol {
    fn who(address: SocketAddr) -> Server {
        let client = Client::connect(&address.to_string());
        let report = client.and_then(|client| client.status());
        let json = report.map(|report| report.json).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        Server {
            address: address.to_string(),
            version: json["version"].as_str().unwrap_or_default().to_string(),
            shards: json["by_shard"].as_array().map_or(0, Vec::len),
        }
    }

    fn new(bucket: &[u8], _: &mut Vec<u8>) -> Protocol {
        Protocol {
            core: Core::new(),
            bucket: bucket.to_vec(),
        }
    }

    fn submit(&mut self, ask: &Ask<'_>, out: &mut Vec<u8>) -> u64 {
        let id = self.core.submit(&request(&self.bucket, ask));
        // The driver owns the socket, and tells the fate of what was open by itself: to the core all has left.
        out.extend_from_slice(self.core.unsent());
        self.core.on_sent(self.core.unsent().len());
        id.0
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

fn request<'a>(bucket: &'a [u8], ask: &Ask<'a>) -> Request<'a> {
    match *ask {
        Ask::Get { key } => Request {
            op: Op::Get,
            bucket,
            key,
            ..Request::default()
        },
        Ask::Put {
            key,
            value,
            context,
            operation,
        } => Request {
            op: Op::Put,
            bucket,
            key,
            value,
            mode: match context {
                Some(_) => PutMode::ByContext,
                None => PutMode::Overwrite,
            },
            context: context.unwrap_or_default(),
            operation: OperationId(operation),
            ..Request::default()
        },
    }
}

/// Siblings that are told without an allocation: a key seldom has more.
const SIBLINGS_FEW: usize = 4;

fn answer(reply: &ReplyView<'_>, take: impl FnOnce(Answer<'_>)) {
    // The status alone: messages hold numbers, and endings are counted by their name.
    let why = || format!("{:?}", reply.status);
    let context = reply.context;
    match reply.status.advice() {
        Advice::Done if reply.status == Status::NotFound => take(Answer::Done {
            values: &[],
            context,
        }),
        Advice::Done if reply.siblings.iter().any(|sibling| sibling.lost) => {
            take(Answer::Refused("ValueLost"));
        }
        Advice::Done if reply.siblings.len() <= SIBLINGS_FEW => {
            let mut few: [&[u8]; SIBLINGS_FEW] = [&[]; SIBLINGS_FEW];
            for (place, sibling) in few.iter_mut().zip(reply.siblings.iter()) {
                *place = sibling.value;
            }
            let values = &few[..reply.siblings.len()];
            take(Answer::Done { values, context });
        }
        Advice::Done => {
            let values: Vec<&[u8]> = reply.siblings.iter().map(|s| s.value).collect();
            take(Answer::Done {
                values: &values,
                context,
            });
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
        let mut session = Protocol::new(b"", &mut out);
        let ids: Vec<u64> = (0..6)
            .map(|_| session.submit(&Ask::Get { key: b"k" }, &mut out))
            .collect();
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
            "Done { values: [[97], [98]], context: [] }",
            "Done { values: [], context: [] }",
            "Refused(\"ValueLost\")",
            "Refused(\"Full\")",
            "Refused(\"ValueTooLarge\")",
            "Unknown(\"Timeout\")",
        ];
        let expected: Vec<_> = ids.into_iter().zip(expected.map(str::to_string)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn rubbish_and_strangers_end_the_connection() {
        let mut session = Protocol::new(b"", &mut Vec::new());
        let none = &mut |_, _: Answer<'_>| panic!("nothing was asked");
        assert!(session.receive(&reply(9, Status::Ok, &[]), none).is_err());
        let mut session = Protocol::new(b"", &mut Vec::new());
        assert!(
            session
                .receive(b"HTTP/1.1 400 Bad Request\r\n", none)
                .is_err()
        );
    }
}
