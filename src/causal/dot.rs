//! A dot names one write event, for ever.

/// One life of a shard: drawn at random at every start and at any sign of amnesia.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// Who mints: a life of a shard, and the count of keys it began in that life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    pub incarnation: Incarnation,
    pub birth: u32,
}

/// One write event. Counters start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    pub actor: Actor,
    pub counter: u64,
}
