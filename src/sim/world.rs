//! One run: the real node on a simulated machine, clients around it, lives that end badly, and the checker's verdict.
//!
//! Safety first: lives follow each other under faults until the clients' operations are done. Then the world is
//! healed and every key is read back.

use super::checkers::Checkers;
use super::client::{Client, Shared};
use super::host::{Host, Life, Told};
use super::judge::Judge;
use super::nemesis::{Ending, Nemesis};
use super::workload::{Terms, Workload};
use crate::base::limits;
use crate::base::planted::{self, Planted};
use crate::base::rng::Rng;
use crate::base::units::{KIB, MIB, Nanos};
use crate::engine::Sizes;
use crate::node::config::Options;
use crate::replica::witness;
use crate::runtime::disk::DiskCause;
use crate::runtime::simulated::{Faults, Simulation};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const CLIENTS: u64 = 4;
const PORT: u16 = 7700;
/// Virtual time in which a start, or the whole of the reading back, must be done.
const PATIENCE: Duration = Duration::from_secs(120);
const EIO: i32 = 5;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub operations: u64,
    pub planted: Option<Planted>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub seed: u64,
    pub violations: Vec<String>,
    pub trace_hash: u128,
    pub trace_steps: u64,
    pub operations: u64,
    pub mints: usize,
    pub lives: u64,
    /// How often each status was answered.
    pub statuses: BTreeMap<u8, u64>,
    pub virtual_time: Nanos,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

struct World {
    simulation: Simulation,
    host: Host,
    shared: Rc<RefCell<Shared<Checkers>>>,
    nemesis: Nemesis,
    rng: Rng,
    lives: u64,
    /// In which the operations must be done; the shortest ones do but a few of them.
    lives_max: u64,
    /// No more faults.
    healed: bool,
}

pub fn run(plan: &Plan) -> Verdict {
    planted::disable_all();
    if let Some(planted) = plan.planted {
        planted::enable(planted);
    }
    witness::start();
    let mut world = World::new(plan);
    world.start_clients();
    world.live_and_die();
    world.read_back();
    planted::disable_all();
    let shared = world.shared.borrow();
    Verdict {
        seed: plan.seed,
        violations: shared.judge.violations().to_vec(),
        trace_hash: world.simulation.trace_hash(),
        trace_steps: world.simulation.trace_steps(),
        operations: shared.operations_done,
        mints: shared.judge.mints(),
        lives: world.lives,
        statuses: shared.statuses.clone(),
        virtual_time: world.simulation.now(),
    }
}

impl World {
    fn new(plan: &Plan) -> World {
        let nemesis = Nemesis::draw(&mut Rng::stream(plan.seed, "nemesis", 0));
        let simulation = Simulation::new(plan.seed, nemesis.faults.clone());
        let node = simulation.machine("node");
        let mut shape = Rng::stream(plan.seed, "shards", 0);
        let shards = [1, 2, 2, 3][shape.below(4) as usize];
        let shared = Shared {
            judge: Checkers::new(limits::VIRTUAL_NODES_DEFAULT, shards),
            workload: Workload::draw(&mut Rng::stream(plan.seed, "workload", 0)),
            keys: None,
            operations_left: plan.operations,
            operations_done: 0,
            gets_answered: 0,
            values: BTreeMap::new(),
            statuses: BTreeMap::new(),
        };
        let mut rng = Rng::stream(plan.seed, "world", 0);
        // Mostly so small that a run of a few seconds flushes, merges and collects.
        let small = shared.workload.value_bytes_max() <= 64 * KIB && rng.chance(0.75);
        let options = Options {
            listen: SocketAddr::new(node.ip(), PORT),
            admin: None,
            advertise: None,
            join: Vec::new(),
            join_token: None,
            data: "data".into(),
            // Small enough, now and then, that values leave the cache and are read back from the log.
            memory_bytes: usize::from(shards)
                * [2 * MIB, 16 * MIB, 128 * MIB][rng.below(3) as usize],
            value_bytes_max: if small { 64 * KIB } else { MIB },
            sizes: if small {
                Sizes::SMALL
            } else {
                Sizes::WITHOUT_SLACK
            },
            connections_max: limits::CONNECTIONS_MAX,
            disk_bytes: None,
            // In every other world all is looked at beside the work: a pass ends, and much changes meanwhile.
            scrub_bytes_per_second: match Rng::stream(plan.seed, "scrub", 0).chance(0.5) {
                true => MIB as u64,
                false => 0,
            },
        };
        let host = Host {
            machine: node,
            options,
            shards,
            // Few enough, now and then, to run out.
            credits: [2, 8, 64][shape.below(3) as usize],
        };
        World {
            simulation,
            host,
            shared: Rc::new(RefCell::new(shared)),
            nemesis,
            rng,
            lives: 0,
            lives_max: 100 + 2 * plan.operations,
            healed: false,
        }
    }

    fn start_clients(&mut self) {
        for index in 0..CLIENTS {
            let machine = self.simulation.machine(&format!("client-{index}"));
            let (servers, shared) = (vec![self.host.options.listen], self.shared.clone());
            let rng = Rng::stream(self.rng.u64(), "client", index);
            machine.start(|runtime| Client::new(runtime, servers, shared, rng).run());
        }
    }

    fn working(&self) -> bool {
        self.shared.borrow().operations_left > 0
            && self.shared.borrow().judge.violations().is_empty()
    }

    fn live_and_die(&mut self) {
        while self.working() {
            if self.lives > self.lives_max {
                let lives = self.lives;
                return self.violation(format!("liveness: {lives} lives were not enough"));
            }
            let life = self.start_node();
            let (length, ending) = self.nemesis.next(&mut self.rng);
            // An ending may strike a start too.
            let strikes_early = self.rng.chance(0.2);
            if !strikes_early {
                self.wait_ready(&life);
            }
            let shared = self.shared.clone();
            let stays = || {
                let shared = shared.borrow();
                shared.operations_left == 0 || !shared.judge.violations().is_empty()
            };
            self.simulation.run_until(stays, length);
            self.end(&life, ending);
        }
    }

    fn start_node(&mut self) -> Rc<Life> {
        self.lives += 1;
        let shared = self.shared.clone();
        self.host.start(Rc::new(move |told| {
            let mut shared = shared.borrow_mut();
            match told {
                Told::Recovered(shard, store) => {
                    shared.drain_witness();
                    shared.judge.on_recovered(shard, store);
                }
                Told::Ready(cluster, keys) => shared.keys = Some((cluster, keys.clone())),
            }
        }))
    }

    fn wait_ready(&mut self, life: &Rc<Life>) {
        let over = || life.ready.get() == self.host.shards || life.failed.borrow().is_some();
        if !self.simulation.run_until(over, PATIENCE) {
            self.violation("liveness: the node did not get ready".into());
        }
        self.start_must_not_fail(life);
    }

    /// Without disk errors a start that fails is a bug.
    fn start_must_not_fail(&mut self, life: &Rc<Life>) {
        let disk_fails = self.nemesis.faults.disk.read_error > 0.0 && !self.healed;
        if let Some(why) = life.failed.borrow().as_ref()
            && !disk_fails
        {
            self.violation(format!("liveness: the node did not start: {why}"));
        }
    }

    fn violation(&self, what: String) {
        self.shared.borrow_mut().judge.violation(what);
    }

    fn end(&mut self, life: &Rc<Life>, ending: Ending) {
        let node = self.host.machine.clone();
        let running = || node.is_running();
        match ending {
            Ending::PowerCut => node.crash(),
            Ending::Kill => node.kill(),
            Ending::PowerCutAtIo(ahead) => {
                node.crash_at_io(Some(node.io_count() + 1 + ahead));
                self.simulation
                    .run_until(|| !running(), Duration::from_millis(500));
                node.crash_at_io(None);
                node.crash();
            }
            Ending::DiskError(ahead) => {
                let number = node.io_count() + 1 + ahead;
                node.fail_io(number, DiskCause::Os(EIO));
                let failed = || node.io_count() > number + 2;
                self.simulation
                    .run_until(failed, Duration::from_millis(500));
                self.simulation.run_for(Duration::from_millis(5));
                node.fail_no_io();
                life.failed.take();
                node.crash();
            }
            Ending::Stop => {
                self.wait_ready(life);
                if !node.is_running() {
                    return;
                }
                node.stop_signal();
                if !self
                    .simulation
                    .run_until(|| !running(), Duration::from_secs(15))
                {
                    self.violation("liveness: a graceful stop took more than 15 s".into());
                }
                node.kill();
            }
        }
    }

    /// Heals the world and reads everything back.
    fn read_back(&mut self) {
        if !self.shared.borrow().judge.violations().is_empty() {
            return;
        }
        self.simulation.set_faults(Faults::default());
        self.healed = true;
        let life = self.start_node();
        self.wait_ready(&life);
        if life.ready.get() < self.host.shards {
            return;
        }
        let keys = self.shared.borrow().judge.keys();
        let reader = self.simulation.machine("reader");
        let (servers, shared) = (vec![self.host.options.listen], self.shared.clone());
        let rng = Rng::stream(self.rng.u64(), "reader", 0);
        reader.start(|runtime| {
            Client::new(runtime, servers, shared, rng).read_all(keys, Terms::default())
        });
        if !self.simulation.run_until(|| !reader.is_running(), PATIENCE) {
            self.violation("liveness: not every key could be read back".into());
        }
    }
}
