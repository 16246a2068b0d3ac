//! Mail between the executors of one process: `rtrb` queues, and MSG_RING as the doorbell.
//!
//! A doorbell has one flag, `rung`: whoever is awake, or will look before it sleeps, has it up. Only a shard that
//! goes to sleep takes it down, and only who puts it up again rings. The two sides:
//!
//! ```text
//!   sender                                  receiver, before it sleeps
//!     push the letter                         rung := false
//!     fence                                   fence
//!     rung false -> true?  then ring          any queue not empty?  then rung := true, and do not sleep
//! ```
//!
//! This is Dekker's pattern: of the two fences (SeqCst) one comes first. If it is the sender's, the receiver's look
//! sees the letter; if it is the receiver's, the sender sees the flag down, and rings. A bell that rings after its
//! receiver woke by itself costs one completion that says nothing.
//!
//! `ended` is raised (Release) after the last letter of a shard was pushed. Who reads it (Acquire) and then empties the
//! queue has seen every letter of that shard.
#![allow(unsafe_code)]

use super::Shard;
use super::ring::{Kind, Tag};
use crate::base::units::Nanos;
use crate::runtime::mailbox::{AskRefused, Ledger, Letter, Ticket};
use crate::runtime::net::Event;
use io_uring::{opcode, types::Fd};
use rtrb::{Consumer, Producer, RingBuffer};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Letters of one queue that are taken in one turn: the rest waits for the next, so that connections have theirs.
const TURN_LETTERS: usize = 256;
/// How long a doorbell that the kernel refused to ring waits.
const RING_AGAIN: Duration = Duration::from_millis(1);

/// What the other shards know of one.
struct Doorbell {
    rung: AtomicBool,
    ended: AtomicBool,
    /// Its ring: a descriptor of our own, so that its number leads to that ring as long as anybody rings. Set before
    /// `rung` goes down for the first time.
    ring: OnceLock<OwnedFd>,
}

type Doorbells = Arc<[Doorbell]>;

/// Says that a shard has ended, however it did.
struct Presence {
    shard: u16,
    doorbells: Doorbells,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.doorbells[usize::from(self.shard)]
            .ended
            .store(true, Ordering::Release);
    }
}

/// One queue in each direction to and from one other shard.
struct Line {
    shard: u16,
    out: Producer<Letter>,
    into: Consumer<Letter>,
}

/// The place of a shard that does not run yet.
pub struct Post {
    // Before `presence`: a queue is closed when its shard has ended, not the other way round.
    lines: Vec<Line>,
    shards: u16,
    credits: u32,
    presence: Presence,
}

pub(in crate::runtime) fn posts(shards: u16, credits: u32) -> Vec<Post> {
    assert!(shards >= 1 && credits >= 1);
    let doorbells: Doorbells = (0..shards)
        .map(|_| Doorbell {
            rung: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            ring: OnceLock::new(),
        })
        .collect();
    let mut lines: Vec<Vec<Line>> = (0..shards).map(|_| Vec::new()).collect();
    for a in 0..shards {
        for b in a + 1..shards {
            let (out_of_a, into_b) = RingBuffer::new(2 * credits as usize);
            let (out_of_b, into_a) = RingBuffer::new(2 * credits as usize);
            lines[usize::from(a)].push(Line {
                shard: b,
                out: out_of_a,
                into: into_a,
            });
            lines[usize::from(b)].push(Line {
                shard: a,
                out: out_of_b,
                into: into_b,
            });
        }
    }
    (0..shards)
        .zip(lines)
        .map(|(shard, lines)| Post {
            lines,
            shards,
            credits,
            presence: Presence {
                shard,
                doorbells: doorbells.clone(),
            },
        })
        .collect()
}

/// What an executor has of the mail; nothing until it is given its post.
#[derive(Default)]
pub(super) struct Mail {
    open: RefCell<Option<Open>>,
    /// Rings that the kernel refused, to be tried again.
    refused: RefCell<Vec<u16>>,
    rings: Cell<u64>,
}

struct Open {
    lines: Vec<Line>,
    ledger: Ledger,
    shards: u16,
    presence: Presence,
}

impl Open {
    fn doorbell(&self, shard: u16) -> &Doorbell {
        &self.presence.doorbells[usize::from(shard)]
    }

    fn own(&self) -> &Doorbell {
        self.doorbell(self.presence.shard)
    }

    fn line(&mut self, shard: u16) -> &mut Line {
        let own = self.presence.shard;
        assert!(shard != own, "a shard does not write to itself");
        // The lines are in the order of the shards, without the own one.
        let line = &mut self.lines[usize::from(shard) - usize::from(shard > own)];
        assert_eq!(line.shard, shard);
        line
    }

    /// True: its doorbell is to be rung.
    fn push(&mut self, shard: u16, letter: Letter) -> bool {
        let pushed = self.line(shard).out.push(letter);
        assert!(pushed.is_ok(), "a credit has its place in the queue");
        self.is_to_be_rung(shard)
    }

    fn is_to_be_rung(&self, shard: u16) -> bool {
        // The sender's fence of the pattern above.
        fence(Ordering::SeqCst);
        let doorbell = self.doorbell(shard);
        // Acquire: who took the flag down has set its ring before.
        !doorbell.rung.load(Ordering::Relaxed) && !doorbell.rung.swap(true, Ordering::Acquire)
    }

    /// A look without taking anything.
    fn is_waiting(&self) -> bool {
        self.lines.iter().any(|line| {
            let news = self.doorbell(line.shard).ended.load(Ordering::Relaxed)
                && !self.ledger.has_ended(line.shard);
            news || !line.into.is_empty()
        })
    }

    fn take(&mut self, events: &mut Vec<Event>) {
        for index in 0..self.lines.len() {
            let shard = self.lines[index].shard;
            let ended = self.doorbell(shard).ended.load(Ordering::Acquire);
            let line = &mut self.lines[index];
            for _ in 0..TURN_LETTERS {
                match line.into.pop() {
                    Ok(Letter::Ask {
                        tag,
                        deadline,
                        bytes,
                    }) => {
                        self.ledger.on_asked(shard);
                        let ticket = Ticket { shard, tag };
                        events.push(Event::Asked {
                            ticket,
                            deadline,
                            bytes,
                        });
                    }
                    Ok(Letter::Answer { tag, bytes }) => {
                        self.ledger.on_answered(shard);
                        events.push(Event::Answered { tag, bytes });
                    }
                    Err(rtrb::PopError::Empty) => break,
                }
            }
            if ended && line.into.is_empty() && self.ledger.on_ended(shard) {
                events.push(Event::ShardEnded { shard });
            }
        }
    }
}

impl Mail {
    /// Moves what has arrived to the end of `events`.
    pub(super) fn take(&self, events: &mut Vec<Event>) {
        if let Some(open) = self.open.borrow_mut().as_mut() {
            open.take(events);
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.open.borrow().as_ref().is_some_and(Open::is_waiting)
    }

    /// Takes the flag down, and says whether it is safe to sleep.
    pub(super) fn prepare_to_sleep(&self) -> bool {
        let open = self.open.borrow();
        let Some(open) = open.as_ref() else {
            return true;
        };
        // Release: whoever sees it down sees our ring.
        open.own().rung.store(false, Ordering::Release);
        // The receiver's fence of the pattern above.
        fence(Ordering::SeqCst);
        !open.is_waiting()
    }

    pub(super) fn awake(&self) {
        if let Some(open) = self.open.borrow().as_ref() {
            open.own().rung.store(true, Ordering::Relaxed);
        }
    }

    /// Bells rung.
    pub(super) fn rings(&self) -> u64 {
        self.rings.get()
    }

    /// The answer to a ring of the bell of `shard`: what the kernel refused is tried again, unless that shard has
    /// ended.
    pub(super) fn on_rung(&self, shard: u16, result: i32) {
        let open = self.open.borrow();
        let ended = |open: &Open| open.doorbell(shard).ended.load(Ordering::Relaxed);
        if result < 0 && open.as_ref().is_some_and(|open| !ended(open)) {
            self.refused.borrow_mut().push(shard);
        }
    }

    /// Those to be rung again, after the time to wait.
    pub(super) fn take_refused(&self) -> (Duration, Vec<u16>) {
        (RING_AGAIN, std::mem::take(&mut self.refused.borrow_mut()))
    }
}

impl Shard {
    /// Takes its place among the shards of this process.
    pub fn mailbox(&self, post: Post) -> io::Result<Mailbox> {
        let mut open = self.0.mail.open.borrow_mut();
        assert!(open.is_none(), "a shard has one place");
        let doorbells = &post.presence.doorbells;
        let ring = self.0.ring.duplicate()?;
        let first = doorbells[usize::from(post.presence.shard)].ring.set(ring);
        assert!(first.is_ok(), "a place is taken once");
        *open = Some(Open {
            lines: post.lines,
            ledger: Ledger::new(post.shards, post.credits),
            shards: post.shards,
            presence: post.presence,
        });
        drop(open);
        // What was written to us before.
        self.0.bell.ring();
        Ok(Mailbox(self.clone()))
    }

    /// Queues a ring of the bell of another shard.
    pub(super) fn ring_doorbell(&self, shard: u16) {
        let open = self.0.mail.open.borrow();
        let Some(ring) = open.as_ref().and_then(|o| o.doorbell(shard).ring.get()) else {
            return;
        };
        let told = Tag {
            kind: Kind::Mail,
            slot: 0,
            generation: 0,
        };
        let sent = Tag {
            kind: Kind::Doorbell,
            slot: u32::from(shard),
            generation: 0,
        };
        let entry = opcode::MsgRingData::new(Fd(ring.as_raw_fd()), 0, told.encode(), None).build();
        // SAFETY: it points to nothing; the descriptor lives as long as our own doorbells, which outlive the ring: they
        // are dropped with the shard, after its last completion.
        unsafe { self.0.ring.push(entry.user_data(sent.encode())) };
        self.0.mail.rings.set(self.0.mail.rings.get() + 1);
        drop(open);
        self.0.bell.ring();
    }

    /// Nothing is sent any more; who waits for an answer hears of it.
    pub(super) fn end_mail(&self) {
        let rings: Vec<u16> = {
            let open = self.0.mail.open.borrow();
            let Some(open) = open.as_ref() else {
                return;
            };
            open.own().ended.store(true, Ordering::Release);
            let others = open.lines.iter().map(|line| line.shard);
            others.filter(|&shard| open.is_to_be_rung(shard)).collect()
        };
        rings
            .into_iter()
            .for_each(|shard| self.ring_doorbell(shard));
    }
}

/// The mailbox of one executor.
#[derive(Clone)]
pub struct Mailbox(Shard);

impl Mailbox {
    fn with<T>(&self, what: impl FnOnce(&mut Open) -> T) -> T {
        let mut open = self.0.0.mail.open.borrow_mut();
        what(
            open.as_mut()
                .expect("a mailbox is made when its place is taken"),
        )
    }

    pub fn shard(&self) -> u16 {
        self.with(|open| open.presence.shard)
    }

    pub fn shards(&self) -> u16 {
        self.with(|open| open.shards)
    }

    pub fn ask(
        &self,
        shard: u16,
        tag: u64,
        deadline: Nanos,
        bytes: &[u8],
    ) -> Result<(), AskRefused> {
        if self.0.0.ending.get() {
            return Err(AskRefused::Ended);
        }
        let to_be_rung = self.with(|open| {
            open.ledger.ask(shard)?;
            let bytes = bytes.into();
            Ok(open.push(
                shard,
                Letter::Ask {
                    tag,
                    deadline,
                    bytes,
                },
            ))
        })?;
        if to_be_rung {
            self.0.ring_doorbell(shard);
        }
        Ok(())
    }

    pub fn answer(&self, ticket: Ticket, bytes: &[u8]) {
        if self.0.0.ending.get() {
            return;
        }
        let Ticket { shard, tag } = ticket;
        let to_be_rung = self.with(|open| {
            let bytes = bytes.into();
            open.ledger.answer(shard) && open.push(shard, Letter::Answer { tag, bytes })
        });
        if to_be_rung {
            self.0.ring_doorbell(shard);
        }
    }

    pub fn unanswered(&self) -> u64 {
        self.with(|open| open.ledger.unanswered())
    }
}
