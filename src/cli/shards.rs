//! The shards of one node: a pinned executor each, started together and ended together.

use crate::base::limits;
use crate::node::config::Options;
use crate::node::{self, Announce, Seat, StartError};
use crate::runtime::mailbox;
use crate::runtime::{self, Running, signals};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

type Ended = Result<(), StartError>;

/// Tells which shard has ended, however its thread did.
struct Tell(Sender<usize>, usize);

impl Drop for Tell {
    fn drop(&mut self) {
        // Nobody listens once the start has failed.
        let _ = self.0.send(self.1);
    }
}

/// Runs a node of one shard on each of `cpus` until it is asked to stop; `say` is told of each shard from its own
/// thread. A shard that cannot start ends them all. The error is a line for the user.
pub(super) fn run_all(
    cpus: &[usize],
    options: Options,
    say: impl Fn(u16, Announce<'_>) + Send + Sync + 'static,
) -> Result<(), String> {
    let shards = cpus.len() as u16;
    let posts = mailbox::posts(shards, limits::pair_credits(shards));
    let node = Node {
        options,
        say: Arc::new(say),
    };
    let (ended, endings) = mpsc::channel();
    let mut running: Vec<Option<Running<Ended>>> = Vec::new();
    let mut failed = None;

    let (hand_out, handed) = mpsc::channel();
    let (first, tell) = (node.clone(), Tell(ended.clone(), 0));
    let hand_out = move |seats| {
        // Whoever started us waits for it.
        let _ = hand_out.send(seats);
    };
    let founder = runtime::run(cpus[0], move |runtime| {
        let announce = first.announce(tell);
        node::found_and_run(runtime, first.options, posts, hand_out, announce)
    });
    running.push(Some(founder.map_err(|e| cannot_start(cpus[0], &e))?));
    // Without seats the founder has failed, and says why when it is joined.
    let seats: Vec<Seat> = handed.recv().unwrap_or_default();
    for (index, (seat, &cpu)) in seats.into_iter().zip(&cpus[1..]).enumerate() {
        let (node, tell) = (node.clone(), Tell(ended.clone(), index + 1));
        let started = runtime::run(cpu, move |runtime| {
            let announce = node.announce(tell);
            node::run(runtime, node.options, seat, announce)
        });
        match started {
            Ok(started) => running.push(Some(started)),
            Err(error) => {
                failed = Some(cannot_start(cpu, &error));
                break;
            }
        }
    }
    drop(ended);
    let handles: Vec<_> = running.iter().flatten().map(Running::stop_handle).collect();
    let stop_all = || handles.iter().for_each(|handle| handle.stop());
    if let Err(error) = signals::stop_on_signals(handles.clone()) {
        failed.get_or_insert(format!("cannot take signals: {error}"));
    }
    if failed.is_some() {
        stop_all();
    }
    for shard in endings {
        let Some(ended) = running[shard].take() else {
            continue;
        };
        let why = match ended.join() {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the thread of shard {shard} ended: {error}"),
        };
        failed.get_or_insert(why);
        stop_all();
    }
    match failed {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

fn cannot_start(cpu: usize, error: &std::io::Error) -> String {
    const NO_MEMORY: i32 = 12;
    let hint = match error.raw_os_error() {
        Some(NO_MEMORY) => {
            "; the kernel refuses memory for another io_uring ring: pass fewer --cores, or raise the memlock limit \
             (ulimit -l)"
        }
        _ => "",
    };
    format!("cannot start an executor on CPU {cpu}: {error}{hint}")
}

#[derive(Clone)]
struct Node {
    options: Options,
    say: Arc<dyn Fn(u16, Announce<'_>) + Send + Sync>,
}

impl Node {
    /// Lives as long as its shard.
    fn announce(&self, tell: Tell) -> Rc<dyn Fn(Announce<'_>)> {
        let say = self.say.clone();
        Rc::new(move |what: Announce<'_>| {
            let tell: &Tell = &tell;
            say(tell.1 as u16, what);
        })
    }
}
