//! A request from its beginning to its reply: what it is counted for meanwhile, and where the reply goes.
//!
//! Whatever `begin` registers is ended once, by `end` or by one of the `finish` family.

use super::away::{Back, Leave};
use super::shard::Shard;
use super::waiters::{Asker, ReplyTo};
use super::writes;
use crate::base::limits;
use crate::base::planted::planted;
use crate::base::units::Nanos;
use crate::coordinator::put::Verdict;
use crate::wire::codec;
use crate::wire::message::{Receipt, Reply, Request, Status};

impl Shard {
    pub fn finish_put(&mut self, asker: Asker, verdict: Verdict) {
        let message = match verdict.status {
            Status::Ok => "",
            Status::Timeout => "the disk did not answer in time; the write may still happen",
            _ => "the log failed while the write was under way; it may or may not be there",
        };
        self.finish(asker, verdict.status, message, verdict.receipt);
    }

    /// Registers a request that is answered later.
    pub fn begin(&mut self, to: ReplyTo, request: &Request<'_>) -> Asker {
        self.in_flight += 1;
        let (began, deadline) = match to {
            ReplyTo::Shard { deadline, .. } => (None, deadline),
            ReplyTo::Peer { .. } => (None, self.deadline(request)),
            ReplyTo::Connection(id) => {
                if let Some(connection) = self.connections.get(id) {
                    connection.in_flight += 1;
                }
                (Some(self.connections.now), self.deadline(request))
            }
        };
        Asker {
            to,
            request: request.id,
            op: request.op,
            began,
            deadline,
            promised: 0,
        }
    }

    /// It came with this turn: what it waited for those before it counts.
    fn deadline(&self, request: &Request<'_>) -> Nanos {
        let timeout_ms = match u64::from(request.timeout_ms) {
            0 => limits::TIMEOUT_MS_DEFAULT,
            ms => ms.min(limits::TIMEOUT_MS_MAX),
        };
        Nanos(self.connections.now.0 + timeout_ms * 1_000_000)
    }

    /// Answers what waits for the disk, or for its key's turn, past its deadline. Nothing of it was minted.
    pub fn end_late(&mut self) {
        let now = self.runtime.now();
        let message = "the disk did not answer in time; nothing was changed";
        for asker in self.away.expired(now) {
            // What its task holds is given back by the task.
            self.release(asker);
            self.reply_message(asker.to, asker.request, Status::Overloaded, message);
        }
        let Some(store) = &mut self.store else {
            return;
        };
        for turn in store.key_queue.take(|turn| turn.is_late(now)) {
            let writes::Turn::Write(job) = turn else {
                unreachable!("a task waits for its turn, however long");
            };
            let message =
                "other writes of this key were before it until its deadline; nothing was changed";
            self.finish_message(job.asker, Status::Overloaded, message);
        }
    }

    /// The reply, or the waiting request, will hold so many bytes of values: until then they count for the connection
    /// as unsent, and for the shard's budget. False: there is no room for them, and the request has been answered.
    pub fn promise(&mut self, asker: &mut Asker, bytes: usize) -> bool {
        let more = bytes.saturating_sub(asker.promised);
        if !self.connections.budget.has_room_for_values(more) {
            let message = "no memory is left for the values of this request; \
                           ask for fewer at a time, read the replies faster, or raise --memory";
            self.finish_message(*asker, Status::Overloaded, message);
            return false;
        }
        self.connections.budget.change(0, more);
        asker.promised += more;
        let ReplyTo::Connection(id) = asker.to else {
            // Its door counts it for the connection.
            return true;
        };
        if let Some(connection) = self.connections.get(id) {
            connection.promised += more;
            // It may be clogged now.
            self.connections.touch(id);
        }
        true
    }

    /// The request goes on in a task that waits for the disk. `None`: too many do, and it has been answered.
    pub fn leave(&mut self, asker: Asker) -> Option<Leave> {
        if self.away.len() >= limits::DISK_TASKS_MAX {
            let message = "too many requests wait for the disk; send fewer at a time";
            self.finish_message(asker, Status::Overloaded, message);
            return None;
        }
        Some(self.away.leave(asker))
    }

    /// The task is back. `None`: its request was answered when its deadline passed.
    pub fn back(&mut self, leave: Leave) -> Option<Asker> {
        match self.away.back(leave) {
            Back::InTime(asker) => Some(asker),
            Back::TooLate(asker) => {
                self.connections.budget.change(asker.promised, 0);
                None
            }
        }
    }

    /// Ends what `begin` registered; the reply itself is the caller's.
    pub fn end(&mut self, asker: Asker) {
        if !planted!(BudgetLeaked) {
            self.connections.budget.change(asker.promised, 0);
        }
        self.release(asker);
    }

    fn release(&mut self, asker: Asker) {
        assert!(self.in_flight > 0, "a request ended that was not begun");
        self.in_flight -= 1;
        if let Some(began) = asker.began {
            let took = self.runtime.now().0.saturating_sub(began.0);
            self.counters.latency[asker.op as usize].record_ns(took);
        }
        if let ReplyTo::Connection(id) = asker.to
            && let Some(connection) = self.connections.get(id)
        {
            connection.in_flight -= 1;
            connection.promised -= asker.promised;
        }
    }

    pub fn finish_message(&mut self, asker: Asker, status: Status, message: &str) {
        self.finish(asker, status, message, None);
    }

    /// Ends a request that another node has answered with this reply frame.
    pub fn finish_with_frame(&mut self, asker: Asker, frame: &[u8]) {
        self.end(asker);
        match asker.to {
            ReplyTo::Connection(id) => {
                if let Some(outbox) = self.connections.outbox(id) {
                    outbox.extend_from_slice(frame);
                    self.connections.touch(id);
                }
            }
            ReplyTo::Shard { ticket, .. } => self.mailbox.answer(ticket, frame),
            ReplyTo::Peer { .. } => unreachable!("a request is forwarded once"),
        }
    }

    pub fn finish(
        &mut self,
        asker: Asker,
        status: Status,
        message: &str,
        receipt: Option<Receipt>,
    ) {
        self.end(asker);
        let reply = Reply {
            id: asker.request,
            status: Some(status),
            message,
            receipt,
            ..Reply::default()
        };
        self.reply(asker.to, &reply);
    }

    pub fn reply_message(&mut self, to: ReplyTo, request: u64, status: Status, message: &str) {
        let reply = Reply {
            id: request,
            status: Some(status),
            message,
            ..Reply::default()
        };
        self.reply(to, &reply);
    }

    /// Puts a reply into the connection's outbox, which `flush` sends; or into the mail of the shard that asked.
    pub fn reply(&mut self, to: ReplyTo, reply: &Reply<'_>) {
        self.counters.on_reply(reply.status);
        match to {
            ReplyTo::Connection(id) => {
                if let Some(outbox) = self.connections.outbox(id) {
                    codec::encode_reply_into(outbox, &mut self.builder, reply);
                    self.connections.touch(id);
                }
            }
            ReplyTo::Shard { ticket, .. } => {
                let frame = codec::encode_reply(&mut self.builder, reply);
                self.mailbox.answer(ticket, frame);
            }
            ReplyTo::Peer { connection, id } => self.reply_to_peer(connection, id, reply),
        }
    }
}
