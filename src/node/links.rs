//! The links of this shard to the shards of other nodes: it dials each, proves who it is, and asks there.
//!
//! 1. A link that is up has proved that the other end holds the cluster's secret and the same ring.
//! 2. What was asked on a link that breaks is answered by nobody: whoever asked is told.
//! 3. Whether a node can be reached is judged here, by what its links do, and by nothing else.

use crate::base::limits::{
    FRAME_BYTES_MIN, LINK_PING_MS, LINK_RETRY_MS_MAX, LINK_RETRY_MS_MIN, LINK_SILENT_MS,
    LINK_UNSENT_BYTES_MAX, PEER_FRAME_BYTES_MAX,
};
use crate::base::marks::mark;
use crate::base::units::Nanos;
use crate::ring::member::{Member, NodeId};
use crate::ring::shard_map::ShardId;
use crate::runtime::net::{ConnectionId, Net};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A shard of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    pub node: NodeId,
    pub shard: ShardId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be dialled at this time.
    Down {
        until: Nanos,
    },
    Dialling,
    /// The hello is under way.
    Greeting,
    Up,
}

#[derive(Debug)]
struct Link {
    remote: Remote,
    address: SocketAddr,
    phase: Phase,
    connection: Option<ConnectionId>,
    outbox: Vec<u8>,
    sending: usize,
    inbox: Vec<u8>,
    /// When something came last; or, while nothing is owed, when something was asked after that.
    heard: Nanos,
    /// Answers that are owed, to pings too.
    owed: usize,
    /// A ping is under way. Others are asked for what may take long; this is answered at once.
    pinged: bool,
    /// The other end answers for its keys: it does not replay, stop, or have a log that is closed for good.
    serves: bool,
    /// The last hello was refused, perhaps for an older ring there.
    refused: bool,
    retry_ms: u64,
    /// Why it is down, for eyes.
    why: String,
}

/// What a tick found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Ping(usize),
    /// The link was given up: what was asked there is not answered.
    Lost(Remote),
}

#[derive(Debug, Default)]
pub struct Links {
    links: Vec<Link>,
    of_remote: BTreeMap<Remote, usize>,
    /// For each connection slot, the link that has it.
    of_slot: Vec<Option<usize>>,
}

/// The link cannot take it: nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

impl Links {
    /// To all shards of all members but `own`; they are dialled at the first tick.
    pub fn new(members: &[Member], own: NodeId) -> Links {
        let mut links = Links::default();
        links.add(members, own);
        links
    }

    /// Adds links to those of these shards that have none. A node that has left is dialled in vain.
    pub fn add(&mut self, members: &[Member], own: NodeId) {
        for member in members.iter().filter(|member| member.id != own) {
            for shard in (0..member.shards).map(ShardId) {
                let remote = Remote {
                    node: member.id,
                    shard,
                };
                if self.of_remote.contains_key(&remote) {
                    continue;
                }
                self.of_remote.insert(remote, self.links.len());
                self.links.push(Link {
                    remote,
                    address: member.shard_address(shard),
                    phase: Phase::Down { until: Nanos(0) },
                    connection: None,
                    outbox: Vec::new(),
                    sending: 0,
                    inbox: Vec::new(),
                    heard: Nanos(0),
                    owed: 0,
                    pinged: false,
                    serves: false,
                    refused: false,
                    retry_ms: LINK_RETRY_MS_MIN,
                    why: "it was not dialled yet".into(),
                });
            }
        }
    }

    /// Ends all links, to be dialled anew at once: they were of another ring. Whoever asked there is to be told.
    pub fn renew(&mut self, net: &Net, now: Nanos) -> Vec<Remote> {
        for link in 0..self.links.len() {
            self.links[link].retry_ms = 0;
            self.lose(net, link, "the ring has changed", now);
            self.links[link].retry_ms = LINK_RETRY_MS_MIN;
        }
        self.links.iter().map(|link| link.remote).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    fn at(&self, remote: Remote) -> Option<usize> {
        self.of_remote.get(&remote).copied()
    }

    /// It can be asked for what it holds.
    pub fn is_up(&self, remote: Remote) -> bool {
        let link = self.at(remote).map(|link| &self.links[link]);
        link.is_some_and(|link| link.phase == Phase::Up && link.serves)
    }

    /// Why a shard of another node cannot be reached.
    pub fn why_down(&self, remote: Remote) -> &str {
        match self.at(remote).map(|link| &self.links[link]) {
            None => "no link",
            Some(link) if link.phase == Phase::Up => "it starts, stops, or cannot write its log",
            Some(link) => &link.why,
        }
    }

    /// Links that are up, and all there are.
    pub fn count_up(&self) -> (usize, usize) {
        let up = self.links.iter().filter(|link| link.phase == Phase::Up);
        (up.count(), self.links.len())
    }

    /// The link that a connection is of.
    pub fn find(&self, connection: ConnectionId) -> Option<usize> {
        let link = (*self.of_slot.get(connection.slot as usize)?)?;
        (self.links[link].connection == Some(connection)).then_some(link)
    }

    pub fn remote(&self, link: usize) -> Remote {
        self.links[link].remote
    }

    /// The last hello was refused.
    pub fn was_refused(&self, link: usize) -> bool {
        self.links[link].refused
    }

    pub fn is_greeting(&self, link: usize) -> bool {
        self.links[link].phase == Phase::Greeting
    }

    /// Asks on a link that is up; it leaves with the next `flush`.
    pub fn ask(&mut self, remote: Remote, frame: &[u8], now: Nanos) -> Result<(), Unreachable> {
        let link = self.at(remote).ok_or(Unreachable)?;
        let unsent = self.links[link].outbox.len() + self.links[link].sending;
        let has_room = unsent == 0 || unsent + frame.len() <= LINK_UNSENT_BYTES_MAX;
        if self.links[link].phase != Phase::Up || !has_room {
            return Err(Unreachable);
        }
        self.send(link, frame, now);
        Ok(())
    }

    /// Sends what is owed an answer.
    pub fn send(&mut self, link: usize, frame: &[u8], now: Nanos) {
        let link = &mut self.links[link];
        if link.owed == 0 {
            link.heard = now;
        }
        link.owed += 1;
        link.outbox.extend_from_slice(frame);
    }

    /// Dials those whose time has come, gives up those that are silent.
    pub fn on_tick(&mut self, net: &Net, now: Nanos) -> Vec<Due> {
        let mut due = Vec::new();
        let silent = Nanos(now.0.saturating_sub(LINK_SILENT_MS * 1_000_000));
        let quiet = Nanos(now.0.saturating_sub(LINK_PING_MS * 1_000_000));
        for index in 0..self.links.len() {
            let link = &self.links[index];
            let (remote, owed, heard) = (link.remote, link.owed, link.heard);
            match link.phase {
                Phase::Down { until } if until <= now => self.dial(net, index, now),
                Phase::Down { .. } => {}
                Phase::Dialling | Phase::Greeting if heard <= silent => {
                    self.lose(net, index, "it does not answer", now);
                }
                Phase::Dialling | Phase::Greeting => {}
                Phase::Up if owed > 0 && heard <= silent => {
                    self.lose(net, index, "it has fallen silent", now);
                    due.push(Due::Lost(remote));
                }
                Phase::Up if !link.pinged && heard <= quiet => {
                    self.links[index].pinged = true;
                    due.push(Due::Ping(index));
                }
                Phase::Up => {}
            }
        }
        due
    }

    fn dial(&mut self, net: &Net, index: usize, now: Nanos) {
        let link = &mut self.links[index];
        let connection = net.connect(link.address);
        if connection.slot == u32::MAX {
            // The executor ends.
            return;
        }
        link.phase = Phase::Dialling;
        link.connection = Some(connection);
        link.heard = now;
        let slot = connection.slot as usize;
        if slot >= self.of_slot.len() {
            self.of_slot.resize(slot + 1, None);
        }
        self.of_slot[slot] = Some(index);
    }

    /// Gives a link up, to be dialled again after a while.
    fn lose(&mut self, net: &Net, index: usize, why: &str, now: Nanos) {
        let link = &mut self.links[index];
        if let Some(connection) = link.connection.take() {
            net.close(connection);
            // The slot may be another link's by now.
            let place = &mut self.of_slot[connection.slot as usize];
            if *place == Some(index) {
                *place = None;
            }
        }
        link.pinged = false;
        link.why = why.to_owned();
        let until = Nanos(now.0 + link.retry_ms * 1_000_000);
        link.retry_ms = (link.retry_ms * 2).min(LINK_RETRY_MS_MAX);
        link.phase = Phase::Down { until };
        link.owed = 0;
        link.sending = 0;
        link.outbox = Vec::new();
        link.inbox = Vec::new();
    }

    /// The dialled connection stands: the hello is due.
    pub fn on_connected(&mut self, link: usize, now: Nanos) {
        self.links[link].phase = Phase::Greeting;
        self.links[link].heard = now;
    }

    /// The other end has proved itself.
    pub fn on_welcome(&mut self, link: usize) {
        let link = &mut self.links[link];
        link.phase = Phase::Up;
        link.refused = false;
        link.retry_ms = LINK_RETRY_MS_MIN;
        link.why.clear();
    }

    /// What the other end says of itself.
    pub fn on_state(&mut self, link: usize, serves: bool) {
        if !serves {
            mark!(PeerOfNoUse);
        }
        self.links[link].serves = serves;
    }

    /// An answer came.
    pub fn on_answer(&mut self, link: usize, now: Nanos) {
        let link = &mut self.links[link];
        link.heard = now;
        link.owed = link.owed.saturating_sub(1);
    }

    /// The other end says what cannot be, or will not have us: it is tried again later. Whoever asked there is to be
    /// told.
    pub fn give_up(&mut self, net: &Net, link: usize, why: &str, now: Nanos) -> Remote {
        // Whatever is wrong is not cured at once; the first time it may be the ring, which the next hello tells.
        let first = !std::mem::replace(&mut self.links[link].refused, true);
        self.links[link].retry_ms = match first {
            true => LINK_RETRY_MS_MIN,
            false => LINK_RETRY_MS_MAX,
        };
        self.lose(net, link, why, now);
        self.links[link].remote
    }

    /// The connection of a link is gone. Whoever asked there is to be told.
    pub fn on_closed(&mut self, net: &Net, link: usize, now: Nanos) -> Remote {
        let why = match self.links[link].phase {
            Phase::Dialling => "nobody listens there",
            _ => "its connection broke",
        };
        self.lose(net, link, why, now);
        self.links[link].remote
    }

    /// All that has come on a link and was not taken yet; what the caller does not take goes back by `keep`.
    pub fn on_bytes(&mut self, link: usize, bytes: &[u8], now: Nanos) -> Vec<u8> {
        let link = &mut self.links[link];
        link.heard = now;
        link.pinged = false;
        let mut inbox = std::mem::take(&mut link.inbox);
        inbox.extend_from_slice(bytes);
        inbox
    }

    pub fn keep(&mut self, link: usize, mut inbox: Vec<u8>, used: usize) {
        let link = &mut self.links[link];
        if link.connection.is_none() {
            // It was given up for what came.
            return;
        }
        inbox.drain(..used);
        assert!(inbox.len() <= PEER_FRAME_BYTES_MAX + FRAME_BYTES_MIN);
        link.inbox = inbox;
    }

    pub fn on_sent(&mut self, link: usize, mut buffer: Vec<u8>) {
        let link = &mut self.links[link];
        link.sending = 0;
        buffer.clear();
        if link.outbox.is_empty() {
            link.outbox = buffer;
        }
    }

    /// Sends what was gathered.
    pub fn flush(&mut self, net: &Net) {
        for link in &mut self.links {
            let ready = matches!(link.phase, Phase::Up | Phase::Greeting);
            if ready && link.sending == 0 && !link.outbox.is_empty() {
                link.sending = link.outbox.len();
                let connection = link.connection.expect("a link that is up has one");
                net.send(connection, std::mem::take(&mut link.outbox));
            }
        }
    }

    pub fn close_all(&self, net: &Net) {
        self.links
            .iter()
            .filter_map(|link| link.connection)
            .for_each(|connection| net.close(connection));
    }
}
