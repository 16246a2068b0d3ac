//! Mail between shards: each case is run by every shard of a process at once, with its own mailbox.

use crate::support::PATIENCE;
use armilla::base::units::Nanos;
use armilla::runtime::Runtime;
use armilla::runtime::mailbox::{AskRefused, Mailbox, Ticket};
use armilla::runtime::net::Event;
use armilla::runtime::time::timeout;
use std::collections::VecDeque;
use std::time::Duration;

/// Credits of a pair in these cases: few, so that queues are full all the time.
pub const CREDITS: u32 = 4;

/// The mail of one shard, letter by letter.
struct Letters {
    runtime: Runtime,
    queue: VecDeque<Event>,
}

impl Letters {
    fn of(runtime: &Runtime) -> Letters {
        Letters {
            runtime: runtime.clone(),
            queue: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Event {
        while self.queue.is_empty() {
            let mut taken = Vec::new();
            let net = self.runtime.net();
            timeout(&self.runtime, PATIENCE, net.events(&mut taken))
                .await
                .expect("a letter comes in time");
            self.queue.extend(taken);
        }
        self.queue.pop_front().expect("seen above")
    }

    async fn asked(&mut self) -> (Ticket, Nanos, Box<[u8]>) {
        match self.next().await {
            Event::Asked {
                ticket,
                deadline,
                bytes,
            } => (ticket, deadline, bytes),
            other => panic!("unexpected {other:?}"),
        }
    }

    async fn answered(&mut self) -> (u64, Box<[u8]>) {
        match self.next().await {
            Event::Answered { tag, bytes } => (tag, bytes),
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// Shard 0 asks one at a time, and sleeps and is slept on in between: every letter wakes who it is for.
pub async fn a_letter_wakes_who_sleeps(runtime: Runtime, mailbox: Mailbox) {
    const ROUNDS: u64 = 50;
    let mut letters = Letters::of(&runtime);
    for round in 0..ROUNDS {
        if mailbox.shard() == 0 {
            let deadline = Nanos(round);
            let asked = mailbox.ask(1, 7 * round, deadline, &round.to_le_bytes());
            assert_eq!(asked, Ok(()));
            assert_eq!(mailbox.unanswered(), 1);
            let (tag, bytes) = letters.answered().await;
            assert_eq!((tag, number(&bytes)), (7 * round, round + 1));
            assert_eq!(mailbox.unanswered(), 0);
            // Long enough for both to be asleep.
            runtime.sleep(Duration::from_millis(3)).await;
        } else {
            let (ticket, deadline, bytes) = letters.asked().await;
            assert_eq!((ticket.shard(), deadline), (0, Nanos(round)));
            mailbox.answer(ticket, &(number(&bytes) + 1).to_le_bytes());
        }
    }
    // The last answer is read before its shard ends.
}

/// Each shard floods the other with asks, and answers what it is asked in the order in which that comes. No letter is
/// lost or overtaken, whatever runs full.
pub async fn two_that_flood_each_other(runtime: Runtime, mailbox: Mailbox) {
    const ASKS: u64 = 3_000;
    let other = 1 - mailbox.shard();
    let mut letters = Letters::of(&runtime);
    let (mut asks, mut answers, mut served, mut refused) = (0, 0, 0, 0);
    while answers < ASKS || served < ASKS {
        while asks < ASKS {
            match mailbox.ask(other, asks, Nanos(0), &asks.to_le_bytes()) {
                Ok(()) => asks += 1,
                Err(AskRefused::NoCredit) => {
                    refused += 1;
                    break;
                }
                Err(AskRefused::Ended) => panic!("it has not had all its answers"),
            }
        }
        assert!(mailbox.unanswered() <= u64::from(CREDITS));
        match letters.next().await {
            Event::Asked { ticket, bytes, .. } => {
                assert_eq!(number(&bytes), served, "asks keep their order");
                served += 1;
                mailbox.answer(ticket, &bytes);
            }
            Event::Answered { tag, bytes } => {
                assert_eq!(
                    (tag, number(&bytes)),
                    (answers, answers),
                    "answers keep theirs"
                );
                answers += 1;
            }
            // It has answered all, and had all its answers: nothing of ours is missing.
            Event::ShardEnded { .. } => {
                assert!(answers == ASKS && served == ASKS);
                return;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(refused > 0, "the credits never ran out");
}

/// Asks beyond the credits are refused, and each answer gives one back: in any order, for the tag tells them apart.
pub async fn credits_run_out_and_come_back(runtime: Runtime, mailbox: Mailbox) {
    const ROUNDS: usize = 20;
    let mut letters = Letters::of(&runtime);
    let credits = u64::from(CREDITS);
    for _ in 0..ROUNDS {
        if mailbox.shard() == 0 {
            for tag in 0..credits {
                assert_eq!(mailbox.ask(1, tag, Nanos(0), &[tag as u8]), Ok(()));
            }
            let refused = mailbox.ask(1, 99, Nanos(0), b"too many");
            assert_eq!(refused, Err(AskRefused::NoCredit));
            for tag in (0..credits).rev() {
                let (answered, bytes) = letters.answered().await;
                assert_eq!((answered, &bytes[..]), (tag, &[tag as u8][..]));
                // Several may have been taken at once.
                assert!(mailbox.unanswered() <= tag);
            }
        } else {
            let mut asked = Vec::new();
            for _ in 0..credits {
                asked.push(letters.asked().await);
            }
            for (ticket, _, bytes) in asked.into_iter().rev() {
                mailbox.answer(ticket, &bytes);
            }
        }
    }
}

/// A shard that ends is known to have ended once all it sent was taken; what it did not answer it never will.
pub async fn the_end_of_a_shard_is_told_last(runtime: Runtime, mailbox: Mailbox) {
    let mut letters = Letters::of(&runtime);
    if mailbox.shard() == 1 {
        let (first, _, bytes) = letters.asked().await;
        letters.asked().await;
        mailbox.answer(first, &bytes);
        return;
    }
    assert_eq!(mailbox.ask(1, 1, Nanos(0), b"answered"), Ok(()));
    assert_eq!(mailbox.ask(1, 2, Nanos(0), b"not answered"), Ok(()));
    assert_eq!(letters.answered().await, (1, b"answered"[..].into()));
    match letters.next().await {
        Event::ShardEnded { shard } => assert_eq!(shard, 1),
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!(mailbox.unanswered(), 0);
    let late = mailbox.ask(1, 3, Nanos(0), b"nobody there");
    assert_eq!(late, Err(AskRefused::Ended));
}

/// Large letters arrive whole, and each is its own.
pub async fn large_letters(runtime: Runtime, mailbox: Mailbox) {
    let mut letters = Letters::of(&runtime);
    for len in [0, 1, 100_000, 1_000_000] {
        let letter = crate::support::pattern(len, len);
        if mailbox.shard() == 0 {
            assert_eq!(mailbox.ask(1, 0, Nanos(0), &letter), Ok(()));
            let (_, answer) = letters.answered().await;
            assert!(answer.iter().eq(letter.iter().rev()));
        } else {
            let (ticket, _, bytes) = letters.asked().await;
            assert!(*bytes == *letter);
            let answer: Vec<u8> = bytes.iter().rev().copied().collect();
            mailbox.answer(ticket, &answer);
        }
    }
}
