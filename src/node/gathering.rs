//! Status reports: a row from each shard, gathered by the one that was asked.

use super::admin::{self, Page};
use super::crossing::{self, Awaited};
use super::shard::Shard;
use super::status;
use super::waiters::{Asker, ReplyTo};
use crate::base::limits;
use crate::base::units::Nanos;
use crate::ring::shard_map::ShardId;
use crate::runtime::mailbox::Ticket;
use crate::runtime::net::ConnectionId;
use crate::wire::codec;
use crate::wire::message::{Op, Reply, Request, Status};
use serde_json::Value;
use std::collections::BTreeMap;

/// Who wants to know.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Client(Asker),
    Admin(ConnectionId, Page),
}

#[derive(Debug)]
struct Gathering {
    reader: Reader,
    rows: Vec<Value>,
    missing: usize,
}

/// The reports that are being gathered.
#[derive(Debug, Default)]
pub struct Gatherings {
    open: BTreeMap<u64, Gathering>,
    next: u64,
}

/// A client asks how this node is, or that all shards flush, look for rot, or make an image of themselves.
pub fn on_status(shard: &mut Shard, id: ConnectionId, request: &Request<'_>) {
    shard.more_work += limits::STATUS_WORK;
    if request.op == Op::Snapshot && !is_name(request.key) {
        let message = "a snapshot has a name of at most 64 letters, digits and dashes";
        return shard.reply_message(
            ReplyTo::Connection(id),
            request.id,
            Status::BadRequest,
            message,
        );
    }
    let asker = shard.begin(ReplyTo::Connection(id), request);
    gather(shard, Reader::Client(asker), asker.deadline, request);
}

/// The admin port asks for a page that tells of all shards.
pub fn on_page(shard: &mut Shard, id: ConnectionId, page: Page) {
    let deadline = Nanos(shard.runtime.now().0 + limits::TIMEOUT_MS_DEFAULT * 1_000_000);
    let request = Request {
        op: Op::Status,
        ..Request::default()
    };
    gather(shard, Reader::Admin(id, page), deadline, &request);
}

/// Another shard gathers a report: this one's row. No reply to a client, and not counted as one.
pub fn on_asked(shard: &mut Shard, ticket: Ticket, request: &Request<'_>) {
    let row = own_row(shard, request).to_string();
    let reply = Reply {
        id: request.id,
        status: Some(Status::Ok),
        status_json: &row,
        ..Reply::default()
    };
    let mut builder = codec::Builder::new();
    let frame = codec::encode_reply(&mut builder, &reply);
    shard.mailbox.answer(ticket, frame);
}

/// Letters, digits and dashes: it becomes the name of a directory.
fn is_name(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    (1..=limits::SNAPSHOT_NAME_BYTES_MAX).contains(&name.len()) && name.iter().all(plain)
}

fn own_row(shard: &Shard, request: &Request<'_>) -> Value {
    if let Some(store) = &shard.store {
        match request.op {
            Op::Flush => store.engine.flush(),
            Op::Scrub => store.engine.scrub(),
            Op::Snapshot => {
                let name = std::str::from_utf8(request.key);
                store
                    .engine
                    .snapshot(name.expect("its door has checked it"));
            }
            _ => {}
        }
    }
    status::row(shard)
}

fn gather(shard: &mut Shard, reader: Reader, deadline: Nanos, request: &Request<'_>) {
    let number = shard.gatherings.next;
    shard.gatherings.next += 1;
    let gathering = Gathering {
        reader,
        rows: vec![own_row(shard, request)],
        missing: usize::from(shard.mailbox.shards()) - 1,
    };
    if gathering.missing == 0 {
        return finish(shard, gathering);
    }
    shard.gatherings.open.insert(number, gathering);
    let request = Request {
        op: request.op,
        key: request.key,
        ..Request::default()
    };
    let mut builder = codec::Builder::new();
    let frame = codec::encode_request(&mut builder, &request);
    let own = shard.mailbox.shard();
    for other in (0..shard.mailbox.shards()).filter(|&other| other != own) {
        let awaited = Awaited::Row {
            gathering: number,
            deadline,
        };
        if crossing::ask(shard, ShardId(other), awaited, frame).is_err() {
            on_row(shard, number, status::silent(other));
        }
    }
}

/// The row of another shard has come, or one that says that it does not answer.
pub fn on_row(shard: &mut Shard, number: u64, row: Value) {
    let Some(gathering) = shard.gatherings.open.get_mut(&number) else {
        return;
    };
    gathering.rows.push(row);
    gathering.missing -= 1;
    if gathering.missing == 0
        && let Some(whole) = shard.gatherings.open.remove(&number)
    {
        finish(shard, whole);
    }
}

fn finish(shard: &mut Shard, gathering: Gathering) {
    let mut rows = gathering.rows;
    rows.sort_by_key(|row| row["shard"].as_u64());
    match gathering.reader {
        Reader::Client(asker) => {
            let state = status::state(&rows);
            let report = status::report(shard, rows).to_string();
            shard.end(asker);
            let reply = Reply {
                id: asker.request,
                status: Some(match state.is_serving() {
                    true => Status::Ok,
                    false => Status::NotReady,
                }),
                message: state.message(),
                status_json: &report,
                ..Reply::default()
            };
            shard.reply(asker.to, &reply);
        }
        Reader::Admin(id, page) => {
            let answer = admin::page(page, shard, rows);
            if let Some(connection) = shard.connections.get(id) {
                connection.outbox.extend_from_slice(&answer);
                connection.close_after_replies();
                shard.connections.touch(id);
            }
        }
    }
}
