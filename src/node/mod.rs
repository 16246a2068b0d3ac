//! One process: founds a node in its data directory and on its ports, then runs its shards until they are asked to
//! stop.
//!
//! Shard 0 founds: the directory, its lock, who this node is, and the ports of all. Then each shard takes its seat,
//! opens its own log and serves; they meet again only by mail.

pub mod admin;
mod answers;
mod away;
mod budget;
mod collect;
pub mod config;
pub mod connection;
mod coordinate;
mod crossing;
mod damage;
mod epochs;
pub mod events;
mod explain;
mod fill;
mod flights;
mod formation;
mod forward;
mod gathering;
mod gets;
mod greeting;
mod intake;
mod keys;
mod lifecycle;
mod links;
mod mend;
mod metrics;
mod own;
mod peers;
mod puts;
mod reads;
pub mod shard;
pub mod status;
mod waiters;
mod writes;

use crate::base::limits;
use crate::base::planted::planted;
use crate::causal::actor::Mint;
use crate::causal::dot::Incarnation;
use crate::engine::{self, Engine, OpenError, Recovery};
use crate::membership::formation::FormationError;
use crate::replica::identity::{Identity, IdentityError, read_register};
use crate::replica::restored::{self, Restored};
use crate::ring::member::{Member, NodeId};
use crate::ring::owners::{MemberIndex, Ring, RingEpoch, RingValue};
use crate::ring::register::Register;
use crate::runtime::disk::{Disk, DiskCause, DiskError, Open};
use crate::runtime::mailbox::Post;
use crate::runtime::net::{Bound, Door, Event, ListenError, Net};
use crate::runtime::{Queue, Runtime};
use config::{Options, Ports};
use epochs::Agreement;
use futures_lite::future::or;
use shard::{Shard, SharedShard};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a node tells whoever started it.
pub enum Announce<'a> {
    /// The ports are bound; requests are answered "not ready" until `Ready`. Said by shard 0.
    Listening(&'a Ports),
    /// There is no ring yet: these nodes have not answered.
    Forming(&'a [SocketAddr]),
    /// Replay: bytes done, bytes in all.
    Replaying(u64, u64),
    Ready {
        identity: &'a Identity,
        recovery: &'a Recovery,
        engine: &'a Engine,
    },
    Stopping,
    /// The log is closed for good; the node answers "unsure" until it is restarted.
    Poisoned(&'a engine::Poisoned),
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("data directory {data} is used by {holder}; stop it or pass --data DIR")]
    InUse { data: String, holder: String },
    #[error("data directory {data}: {source}")]
    Identity { data: String, source: IdentityError },
    #[error("data directory {data}: {source}")]
    Open { data: String, source: OpenError },
    #[error("data directory {data}: {source}")]
    Disk { data: String, source: DiskError },
    #[error("cannot form a ring: {0}")]
    Formation(#[from] FormationError),
    #[error(
        "the ring knows this node at {known}, and it would serve at {found}; start it with --listen or --advertise {known}"
    )]
    Moved {
        known: SocketAddr,
        found: SocketAddr,
    },
    #[error(
        "data directory {data} is a snapshot of a member of a ring of {members} nodes: in the place of that member it \
         would vote as if it had never taken what it acked since, and quorums would miss those writes; what the other \
         members hold is newer. To start it all the same, because they are lost too, remove the file {file} in it",
        file = restored::FILE
    )]
    SnapshotOfMember { data: String, members: usize },
    #[error("{source}; stop it or pass --{flag} ADDR:PORT")]
    Listen {
        flag: &'static str,
        source: ListenError,
    },
    #[error(
        "cannot share the ring of a shard with the others: {0}; raise the limit of open files: ulimit -n"
    )]
    Mailbox(std::io::Error),
}

/// All that a shard is given before it starts: made by shard 0, handed to the shard's own thread.
pub struct Seat {
    identity: Identity,
    ring: Arc<Ring>,
    /// Of shard 0.
    register: Option<Register>,
    ports: Ports,
    post: Post,
    doors: Vec<(Bound, Door)>,
    disk_bytes: u64,
}

/// Makes this directory and these ports those of a node with as many shards as there are posts. Runs on the executor of
/// shard 0, before the others; gives the seats of all, in their order. `None`: it was asked to stop before there was a
/// ring.
async fn found(
    runtime: &Runtime,
    options: &Options,
    posts: Vec<Post>,
    announce: &dyn Fn(Announce<'_>),
) -> Result<Option<Vec<Seat>>, StartError> {
    let data = options.data.display().to_string();
    let disk = runtime.disk(&options.data);
    let at = |source| StartError::Disk {
        data: data.clone(),
        source,
    };
    disk.create_dir("").await.map_err(at)?;
    // Held until the process ends: when this returns, operations that nobody waits for may still be on their way
    // to the disk.
    std::mem::forget(lock(&disk, &data).await?);
    let shards = posts.len() as u16;
    let identified = |source| StartError::Identity {
        data: data.clone(),
        source,
    };
    let known = Identity::read(&disk, shards).await.map_err(identified)?;
    let (ports, mut doors) = bind(&runtime.net(), options, shards)?;
    let identity = match known {
        Some(identity) if identity.agreed_ring.is_none() && !options.join.is_empty() => {
            return Err(identified(IdentityError::Alone));
        }
        Some(identity) => identity,
        None if options.join.is_empty() => {
            let virtual_nodes = limits::VIRTUAL_NODES_DEFAULT;
            let formed = Identity::open(runtime, &disk, virtual_nodes, shards).await;
            formed.map_err(identified)?
        }
        None => {
            // The others ask this shard; the doors stay open.
            for (bound, door) in std::mem::take(&mut doors[0]) {
                runtime.net().open(bound, door);
            }
            let formed = formation::form(runtime, &disk, options, &ports, announce).await?;
            let Some(identity) = formed else {
                return Ok(None);
            };
            identity
        }
    };
    let ring = match &identity.agreed_ring {
        Some(ring) => ring.clone(),
        None => Arc::new(ring_of_one(&identity, options.advertised(&ports))),
    };
    if let Some(restored) = Restored::read(&disk).await.map_err(at)? {
        let members = ring.members().len();
        if members > 1 {
            return Err(StartError::SnapshotOfMember { data, members });
        }
        runtime.log(events::restored(restored.taken));
        restored.forget(&disk).await.map_err(at)?;
    }
    let own = ring.index_of(NodeId(identity.node));
    let known = ring.member(own.expect("its ring holds a node")).address;
    let found = options.advertised(&ports);
    if known != found {
        return Err(StartError::Moved { known, found });
    }
    let disk_bytes = match options.disk_bytes {
        Some(bytes) => bytes,
        None => disk_budget(&disk).await.map_err(at)?,
    };
    let register = read_register(&disk).await.map_err(identified)?;
    // One of a ring before this one decides nothing any more.
    let next = RingEpoch(ring.epoch().0 + 1);
    let register = register.filter(|register| register.epoch() == next);
    let mut register = Some(register.unwrap_or_else(|| Register::new(next)));
    let seats = posts.into_iter().zip(doors).map(|(post, doors)| Seat {
        identity: identity.clone(),
        ring: ring.clone(),
        register: register.take(),
        ports: ports.clone(),
        post,
        doors,
        disk_bytes,
    });
    Ok(Some(seats.collect()))
}

/// The ring of a node that is alone: it is not agreed with anybody, and not kept.
fn ring_of_one(identity: &Identity, address: SocketAddr) -> Ring {
    let value = RingValue {
        cluster: identity.cluster,
        epoch: RingEpoch(1),
        replicas: limits::REPLICAS_DEFAULT,
        members: vec![Member {
            id: NodeId(identity.node),
            address,
            weight: limits::WEIGHT_DEFAULT,
            zone: String::new(),
            shards: identity.shards,
        }],
        banned: Vec::new(),
        filling: Vec::new(),
        owners: vec![MemberIndex(0); identity.virtual_nodes as usize],
    };
    Ring::new(value).expect("one node with its ports makes a ring")
}

/// Founds a node, hands the seats of the other shards out, and runs shard 0.
pub async fn found_and_run(
    runtime: Runtime,
    options: Options,
    posts: Vec<Post>,
    hand_out: impl FnOnce(Vec<Seat>),
    announce: Rc<dyn Fn(Announce<'_>)>,
) -> Result<(), StartError> {
    found_and_run_inspected(runtime, options, posts, hand_out, announce, async |_| {}).await
}

/// The same; `inspect` sees the engine of shard 0 after its recovery and before the first request.
pub async fn found_and_run_inspected(
    runtime: Runtime,
    options: Options,
    posts: Vec<Post>,
    hand_out: impl FnOnce(Vec<Seat>),
    announce: Rc<dyn Fn(Announce<'_>)>,
    inspect: impl AsyncFn(&Engine),
) -> Result<(), StartError> {
    let Some(mut seats) = found(&runtime, &options, posts, &*announce).await? else {
        announce(Announce::Stopping);
        return Ok(());
    };
    let first = seats.remove(0);
    hand_out(seats);
    run_inspected(runtime, options, first, announce, inspect).await
}

/// Runs one shard on this executor until it is asked to stop. `announce` is called from the shard's own thread and must
/// not block.
pub async fn run(
    runtime: Runtime,
    options: Options,
    seat: Seat,
    announce: Rc<dyn Fn(Announce<'_>)>,
) -> Result<(), StartError> {
    run_inspected(runtime, options, seat, announce, async |_| {}).await
}

/// The same; `inspect` sees the engine after its recovery and before the first request.
pub async fn run_inspected(
    runtime: Runtime,
    mut options: Options,
    seat: Seat,
    announce: Rc<dyn Fn(Announce<'_>)>,
    inspect: impl AsyncFn(&Engine),
) -> Result<(), StartError> {
    let data = options.data.display().to_string();
    let disk = runtime.disk(&options.data);
    let net = runtime.net();
    let Seat {
        identity,
        ring,
        register,
        ports,
        post,
        doors,
        disk_bytes,
    } = seat;
    let agreement = register.map(|register| Agreement::new(register, disk.clone()));
    let mailbox = runtime.mailbox(post).map_err(StartError::Mailbox)?;
    for (bound, door) in doors {
        net.open(bound, door);
    }
    if mailbox.shard() == 0 {
        announce(Announce::Listening(&ports));
    }
    options.memory_bytes /= usize::from(mailbox.shards());
    let memory = budget::share(options.memory_bytes, options.value_bytes_max);
    let engine_options = engine::Options {
        shard: mailbox.shard(),
        shards: mailbox.shards(),
        memory_bytes: memory.engine_bytes,
        value_bytes_max: options.value_bytes_max,
        disk_bytes,
        scrub_bytes_per_second: options
            .scrub_bytes_per_second
            .div_ceil(mailbox.shards().into()),
        sizes: options.sizes,
    };
    let shard = Shard::new(
        &runtime, &options, &ports, &identity, mailbox, ring, agreement,
    );
    let shard: SharedShard = Rc::new(RefCell::new(shard));
    runtime.spawn(Queue::Foreground, serve(shard.clone(), net.clone()));
    // Links to other nodes come up while the log is read.
    runtime.spawn(Queue::Foreground, deadlines(shard.clone(), runtime.clone()));

    let stopping = shard.borrow().stopping.clone();
    let opening = open(&runtime, &disk, engine_options, &shard, &*announce);
    // A replay is dropped when somebody asks to stop: it is as safe as a crash, and that is safe.
    let opened = or(async { Some(opening.await) }, async {
        stopping.notified().await;
        None
    })
    .await;
    let Some(opened) = opened else {
        announce(Announce::Stopping);
        return Ok(());
    };
    let (engine, recovery) = opened.map_err(|source| StartError::Open {
        data: data.clone(),
        source,
    })?;
    inspect(&engine).await;
    let mint = Mint::new(new_incarnation(&runtime, &identity));
    shard::begin_serving(&shard, engine.clone(), mint);
    runtime.spawn(
        Queue::Foreground,
        commit(shard.clone(), engine.clone(), announce.clone()),
    );
    let collect = collect::collect(shard.clone(), engine.clone(), runtime.clone());
    runtime.spawn(Queue::Background, collect);
    let own = shard.borrow().mailbox.shard();
    let tell = damage::tell(own, engine.clone(), runtime.clone());
    runtime.spawn(Queue::Background, tell);
    until_linked(&runtime, &shard).await;
    announce(Announce::Ready {
        identity: &identity,
        recovery: &recovery,
        engine: &engine,
    });

    stopping.notified().await;
    announce(Announce::Stopping);
    stop(&runtime, &shard, &engine).await;
    Ok(())
}

/// Whoever is told that a node is ready finds it linked to all others that are there, too.
async fn until_linked(runtime: &Runtime, shard: &SharedShard) {
    let deadline = runtime.now().0 + limits::READY_LINKS_MS_MAX * 1_000_000;
    loop {
        let (up, all) = shard.borrow().links.count_up();
        if up == all || runtime.now().0 >= deadline {
            return;
        }
        runtime.sleep(Duration::from_millis(2)).await;
    }
}

/// A life of the shard has a name of its own: nothing on disk takes part in it.
fn new_incarnation(runtime: &Runtime, identity: &Identity) -> Incarnation {
    if planted!(ReusedIncarnation) {
        return Incarnation(identity.node as u64);
    }
    Incarnation(runtime.random_u64())
}

async fn lock(disk: &Disk, data: &str) -> Result<crate::runtime::disk::Lock, StartError> {
    match disk.lock("LOCK").await {
        Ok(lock) => Ok(lock),
        Err(DiskError {
            cause: DiskCause::Locked,
            ..
        }) => {
            let pid = disk.read_small("LOCK").await.unwrap_or_default();
            let pid = String::from_utf8_lossy(&pid).trim().to_owned();
            let holder = match pid.is_empty() {
                true => "another process".to_owned(),
                false => format!("process {pid}"),
            };
            Err(StartError::InUse {
                data: data.to_owned(),
                holder,
            })
        }
        Err(source) => Err(StartError::Disk {
            data: data.to_owned(),
            source,
        }),
    }
}

/// What a shard listens on.
type Doors = Vec<(Bound, Door)>;

/// The shards' own ports first and exclusively: a second process on the same base port meets "address in use" there.
fn bind(net: &Net, options: &Options, shards: u16) -> Result<(Ports, Vec<Doors>), StartError> {
    let bind = |flag: &'static str, address, exclusive| {
        net.bind(address, exclusive)
            .map_err(|source| StartError::Listen { flag, source })
    };
    let mut doors: Vec<Doors> = Vec::new();
    let mut own = Vec::new();
    for shard in 0..shards {
        let bound = bind("listen", options.shard_address(shard), true)?;
        own.push(bound.address());
        doors.push(vec![(bound, Door::Client)]);
    }
    // Port 0 is chosen once; the others share it.
    let mut base = options.listen;
    for doors in &mut doors {
        let bound = bind("listen", base, false)?;
        base = bound.address();
        doors.push((bound, Door::Client));
    }
    let mut admin = None;
    if let Some(address) = options.admin {
        let bound = bind("admin", address, true)?;
        admin = Some(bound.address());
        doors[0].push((bound, Door::Admin));
    }
    let ports = Ports {
        base,
        shards: own,
        admin,
    };
    Ok((ports, doors))
}

/// What the data directory may take when nobody said: what it has, and what is free now.
async fn disk_budget(disk: &Disk) -> Result<u64, DiskError> {
    let mut bytes = disk.space().await?.free_bytes;
    for directory in [engine::LOG_DIRECTORY, engine::table::DIRECTORY] {
        let names = match disk.list(directory).await {
            Ok(names) => names,
            Err(error) if error.cause == DiskCause::NotFound => continue,
            Err(error) => return Err(error),
        };
        for name in names {
            let name = format!("{directory}/{name}");
            bytes += disk.open(&name, Open::Existing).await?.len();
        }
    }
    Ok(bytes)
}

async fn open(
    runtime: &Runtime,
    disk: &Disk,
    options: engine::Options,
    shard: &SharedShard,
    announce: &dyn Fn(Announce<'_>),
) -> Result<(Engine, Recovery), OpenError> {
    Engine::open(runtime, disk, options, &mut |done, all| {
        shard.borrow_mut().replayed = (done, all);
        announce(Announce::Replaying(done, all));
    })
    .await
}

/// The one task that takes events.
async fn serve(shard: SharedShard, net: Net) {
    let runtime = shard.borrow().runtime.clone();
    let mut events: Vec<Event> = Vec::new();
    loop {
        // Who waits for a turn waits for no event.
        let ready = shard.borrow().connections.ready() > 0;
        match ready {
            false => net.events(&mut events).await,
            true => or(net.events(&mut events), runtime.yield_now()).await,
        }
        {
            let mut state = shard.borrow_mut();
            state.begin_turn(&shard);
            state.flush();
        }
        let mut rest = events.drain(..);
        while rest.len() > 0 {
            {
                let mut state = shard.borrow_mut();
                for event in rest.by_ref().take(limits::EVENTS_A_BATCH) {
                    state.on_event(&shard, event);
                }
                state.flush();
            }
            if rest.len() > 0 && runtime.should_yield() {
                runtime.yield_now().await;
            }
        }
    }
}

/// The one task that writes the log.
async fn commit(shard: SharedShard, engine: Engine, announce: Rc<dyn Fn(Announce<'_>)>) {
    loop {
        match engine.commit_next().await {
            Ok(group) => {
                let mut state = shard.borrow_mut();
                state.on_durable(&shard, group);
                state.flush();
            }
            Err(poisoned) => {
                announce(Announce::Poisoned(&poisoned));
                let mut state = shard.borrow_mut();
                state.on_poisoned();
                state.flush();
                return;
            }
        }
    }
}

/// Answers what has waited past its deadline: its outcome is unknown.
async fn deadlines(shard: SharedShard, runtime: Runtime) {
    let mut ticks = 0;
    loop {
        runtime
            .sleep(Duration::from_millis(limits::DEADLINE_TICK_MS))
            .await;
        ticks += 1;
        let mut state = shard.borrow_mut();
        state.on_tick();
        if ticks % (limits::CONNECTIONS_LOOK_MS / limits::DEADLINE_TICK_MS) == 0 {
            state.look_after_connections();
        }
        state.flush();
    }
}

/// Takes no more requests, answers those it has, closes the log.
async fn stop(runtime: &Runtime, shard: &SharedShard, engine: &Engine) {
    let deadline = runtime.now().0 + limits::STOP_MS_MAX * 1_000_000;
    while !shard.borrow().is_drained() && runtime.now().0 < deadline {
        runtime.sleep(Duration::from_millis(2)).await;
    }
    // A poisoned log has nothing left to write; its error has been announced.
    let _ = engine.close().await;
    shard.borrow_mut().close_all();
    // A reset would overtake the last replies: clients that end their side have them.
    let deadline = runtime.now().0 + limits::STOP_CLOSE_MS_MAX * 1_000_000;
    loop {
        runtime.sleep(Duration::from_millis(2)).await;
        if shard.borrow().connections.is_empty() || runtime.now().0 >= deadline {
            return;
        }
    }
}
