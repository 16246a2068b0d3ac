//! A node on its simulated machine: how it starts, what it tells, and what a start recovered.

use super::judge::Recovered;
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::units::{KIB, MIB};
use crate::causal::context::ContextKeys;
use crate::engine::key::Key;
use crate::engine::{Engine, Sizes};
use crate::membership::token::JoinToken;
use crate::node::config::Options;
use crate::node::{self, Announce, Seat, StartError};
use crate::runtime::Runtime;
use crate::runtime::simulated::{Machine, Simulation};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

const PORT: u16 = 7700;

/// A machine that is to run a node, and how.
pub struct Host {
    pub machine: Machine,
    pub options: Options,
    pub shards: u16,
    /// Of asks for each ordered pair of shards.
    pub credits: u32,
}

/// How one life of the node goes on.
#[derive(Default)]
pub struct Life {
    /// Shards that serve.
    pub ready: Cell<u16>,
    pub poisoned: Cell<bool>,
    /// Why it did not start.
    pub failed: RefCell<Option<String>>,
}

/// What the world hears of a life.
pub enum Told<'a> {
    /// What a shard's start recovered, before anybody changes it.
    Recovered(u16, Vec<Recovered>),
    /// A shard serves; contexts of its cluster are read with these.
    Ready(u128, &'a ContextKeys),
}

type Tell = Rc<dyn Fn(Told<'_>)>;

impl Host {
    pub fn start(&self, tell: Tell) -> Rc<Life> {
        let life = Rc::new(Life::default());
        let posts = self.machine.posts(self.shards, self.credits);
        let (state, machine, options) = (life.clone(), self.machine.clone(), self.options.clone());
        // A shard that fails stops the others, as the command line does.
        let on_end = move |ended: Result<(), StartError>| {
            if let Err(error) = ended {
                *state.failed.borrow_mut() = Some(error.to_string());
                machine.stop_signal();
            }
        };
        let machine = self.machine.clone();
        let (options_other, on_end_other) = (options.clone(), on_end.clone());
        let (life_other, tell_other) = (life.clone(), tell.clone());
        let hand_out = move |seats: Vec<Seat>| {
            for (shard, seat) in (1..).zip(seats) {
                let announce = announce(&life_other, &tell_other);
                let (options, on_end) = (options_other.clone(), on_end_other.clone());
                let tell = tell_other.clone();
                machine.start(|runtime: Runtime| async move {
                    let inspect = async |engine: &Engine| {
                        tell(Told::Recovered(shard, recovered(engine).await));
                    };
                    on_end(node::run_inspected(runtime, options, seat, announce, inspect).await);
                });
            }
        };
        let announce = announce(&life, &tell);
        self.machine.start(|runtime: Runtime| async move {
            let inspect = async |engine: &Engine| {
                tell(Told::Recovered(0, recovered(engine).await));
            };
            let ended =
                node::found_and_run_inspected(runtime, options, posts, hand_out, announce, inspect);
            on_end(ended.await);
        });
        life
    }
}

/// The machines of the nodes of a ring, and how each node is run.
pub fn ring(simulation: &Simulation, shape: &mut Rng, nodes: usize) -> Vec<Host> {
    let machines: Vec<Machine> = (0..nodes)
        .map(|node| simulation.machine(&format!("node-{node}")))
        .collect();
    let address = |machine: &Machine| SocketAddr::new(machine.ip(), PORT);
    let host = |machine: &Machine| {
        let shards = 1 + shape.below(2) as u16;
        let options = Options {
            listen: address(machine),
            admin: None,
            advertise: None,
            join: machines.iter().map(address).collect(),
            join_token: Some(JoinToken::of("a token of simulated nodes").expect("long enough")),
            data: "data".into(),
            // Small enough, now and then, that values leave the cache and are read back from the log.
            memory_bytes: usize::from(shards) * [2 * MIB, 16 * MIB][shape.below(2) as usize],
            value_bytes_max: 64 * KIB,
            sizes: match shape.chance(0.75) {
                true => Sizes::SMALL,
                false => Sizes::WITHOUT_SLACK,
            },
            connections_max: limits::CONNECTIONS_MAX,
            disk_bytes: None,
            scrub_bytes_per_second: 0,
        };
        Host {
            machine: machine.clone(),
            options,
            shards,
            credits: [2, 8, 64][shape.below(3) as usize],
        }
    };
    machines.iter().map(host).collect()
}

fn announce(life: &Rc<Life>, tell: &Tell) -> Rc<dyn Fn(Announce<'_>)> {
    let (life, tell) = (life.clone(), tell.clone());
    Rc::new(move |what| match what {
        Announce::Ready { identity, .. } => {
            tell(Told::Ready(identity.cluster, &identity.keys));
            life.ready.set(life.ready.get() + 1);
        }
        Announce::Poisoned(_) => life.poisoned.set(true),
        Announce::Listening(_)
        | Announce::Forming(_)
        | Announce::Replaying(..)
        | Announce::Stopping => {}
    })
}

/// Everything the store holds.
async fn recovered(engine: &Engine) -> Vec<Recovered> {
    let mut all = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        // A read that fails is tried again: what is asked here is what the disk holds.
        let Ok(page) = engine.scan(after.as_ref(), 64).await else {
            continue;
        };
        let Some((last, _)) = page.last() else {
            return all;
        };
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(key, entry)| {
            Recovered {
                key: key.key.to_vec(),
                siblings: entry
                    .object
                    .siblings
                    .iter()
                    .map(|s| (s.dot, s.operation.0))
                    .collect(),
                vector: entry.object.vector.clone(),
            }
        }));
    }
}
