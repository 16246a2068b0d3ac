//! The dumb twin of an object: the set of all events somebody has seen, one by one, and which of
//! them are values still. Beside it, a small cluster that does everything twice, with the objects
//! under test and with their twins, and compares.

use crate::base::units::UnixMillis;
use crate::causal::actor::Mint;
use crate::causal::dot::{Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::version_vector::VersionVector;
use std::collections::BTreeSet;

pub type Events = BTreeSet<Dot>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Twin {
    pub seen: Events,
    pub values: Events,
}

impl Twin {
    pub fn join(&mut self, other: &Twin) {
        let stays = |dot: &Dot, side: &Twin| side.values.contains(dot) || !side.seen.contains(dot);
        let all = self.values.union(&other.values);
        self.values = all
            .filter(|dot| stays(dot, self) && stays(dot, other))
            .copied()
            .collect();
        self.seen.extend(&other.seen);
    }

    pub fn write(&mut self, context: &Events, dot: Dot) {
        self.values.retain(|held| !context.contains(held));
        self.seen.extend(context);
        assert!(self.seen.insert(dot), "the twin has seen {dot:?}");
        self.values.insert(dot);
    }
}

pub fn events_of(vector: &VersionVector) -> Events {
    let counted = |&(actor, last)| (1..=last).map(move |counter| Dot { actor, counter });
    vector.entries().iter().flat_map(counted).collect()
}

pub fn sibling(dot: Dot) -> Sibling<()> {
    Sibling {
        dot,
        operation: OperationId(u128::from(dot.counter)),
        kind: Kind::Value,
        written: UnixMillis(1),
        expires: UnixMillis(0),
        value_hash: 0,
        value: (),
    }
}

#[derive(Clone, Debug, Default)]
pub struct Replica {
    pub object: Object<()>,
    twin: Twin,
    mine: Option<Dot>,
}

/// What a client has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    vector: VersionVector,
    events: Events,
}

/// Replicas of one key and its clients. Every write reaches the archive, whole, before it counts:
/// the archive is what is left when everybody else forgets.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub replicas: Vec<Replica>,
    pub archive: Replica,
    pub clients: Vec<Seen>,
    /// One a replica.
    mints: Vec<Mint>,
    written: Events,
    superseded: Events,
    lives: u64,
}

impl Cluster {
    pub fn new(replicas: usize, clients: usize) -> Cluster {
        let lives = replicas as u64;
        Cluster {
            replicas: vec![Replica::default(); replicas],
            archive: Replica::default(),
            clients: vec![Seen::default(); clients],
            written: Events::new(),
            superseded: Events::new(),
            mints: (0..lives)
                .map(|life| Mint::new(Incarnation(life)))
                .collect(),
            lives,
        }
    }

    pub fn get(&mut self, client: usize, replica: usize) {
        let replica = &self.replicas[replica];
        let seen = &mut self.clients[client];
        seen.vector = replica.object.vector.clone();
        seen.events = replica.twin.seen.clone();
    }

    /// A put with the context of the client's last get, or with none.
    pub fn put(&mut self, client: usize, at: usize, blind: bool) {
        let context = match blind {
            true => Seen::default(),
            false => self.clients[client].clone(),
        };
        let dot = self.mint(at, &context.vector);
        assert!(self.written.insert(dot), "{dot:?} names two writes");
        self.superseded.extend(&context.events);
        let replica = &mut self.replicas[at];
        replica.object.write(&context.vector, sibling(dot));
        replica.twin.write(&context.events, dot);
        replica.mine = Some(dot);
        let fanned_out = replica.clone();
        self.archive.join(&fanned_out);
    }

    fn mint(&mut self, at: usize, context: &VersionVector) -> Dot {
        let replica = &self.replicas[at];
        let mut joined = replica.object.vector.clone();
        joined.join(context);
        let dot = self.mints[at].mint(replica.mine, &joined);
        dot.expect("nobody shares a life, births are plenty")
    }

    pub fn exchange(&mut self, from: usize, to: usize) {
        let from = self.replicas[from].clone();
        self.replicas[to].join(&from);
    }

    /// A new life on the same disk; the disk never held `mine`.
    pub fn restart(&mut self, replica: usize) {
        self.mints[replica] = Mint::new(Incarnation(self.lives));
        self.lives += 1;
        self.replicas[replica].mine = None;
    }

    /// A new life on an old image. That the image brings `mine` back is a bug elsewhere, which a
    /// mint must survive.
    pub fn start_from_image(&mut self, replica: usize, image: Replica) {
        self.restart(replica);
        self.replicas[replica] = image;
    }

    /// The key's state is gone (a bad block, an old image); `mine` was in memory, and stays or went
    /// too.
    pub fn forget(&mut self, replica: usize, older: &Replica, mine_too: bool) {
        let replica = &mut self.replicas[replica];
        replica.object = older.object.clone();
        replica.twin = older.twin.clone();
        if mine_too {
            replica.mine = None;
        }
    }

    /// Object and twin tell the same; and what the archive holds is every write that no other write
    /// had seen.
    pub fn check(&self) {
        for replica in self.replicas.iter().chain([&self.archive]) {
            let object = &replica.object;
            assert_eq!(events_of(&object.vector), replica.twin.seen);
            let siblings: Vec<Dot> = object.siblings.iter().map(|held| held.dot).collect();
            assert!(
                siblings.iter().eq(&replica.twin.values),
                "order and members"
            );
        }
        let alive: Events = self.written.difference(&self.superseded).copied().collect();
        assert_eq!(
            self.archive.twin.values, alive,
            "an acked write is lost, or came back"
        );
    }
}

impl Replica {
    pub fn join(&mut self, other: &Replica) {
        self.object.join(&other.object);
        self.twin.join(&other.twin);
    }
}
