//! How a client behaves.

use crate::base::limits::CONNECTION_REQUESTS_MAX;
use std::time::Duration;

/// How a client behaves; see the fields. `..Options::default()` fills in the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// For one connection to come to be, and to say hello. Looking up a name is not in it. Default: 5 s.
    pub connect_timeout: Duration,
    /// For one request with all its tries and pauses. A write that has no answer by then is of unknown outcome. Of a
    /// request that was begun, refused, and is waited for later, the other tries have as long again. Default: 10 s.
    pub request_timeout: Duration,
    /// How often a request is tried at most; 1: never again. Default: 5.
    pub tries_max: u32,
    /// The pause before the second try: between half of it and the whole, at random. It doubles with each try, up to
    /// `pause_max`. Default: 10 ms, up to 1 s.
    pub pause_min: Duration,
    pub pause_max: Duration,
    /// What becomes of a write that was sent and not answered. Default: it is reported.
    pub on_unknown: OnUnknown,
    /// Connections to the node at most; each is made when it is first needed, and has a thread that reads its replies.
    /// Default: 16.
    pub connections_max: usize,
    /// Whether requests go straight to the shard that owns their key, by its own port. It takes a connection for each
    /// shard and one more; with fewer allowed, or where these ports cannot be reached, requests go to the port that all
    /// shards share. Default: yes.
    pub shard_ports: bool,
    /// Requests that are open on one connection at most; who begins one more waits. Default: 512, and never more than
    /// the 1024 that a node takes.
    pub in_flight_max: usize,
}

/// What becomes of a write whose outcome is unknown: it was sent, and the connection broke, or no answer came in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// It ends with [`OutcomeUnknown`](super::ClientError::OutcomeUnknown): only the caller knows what to do.
    #[default]
    Report,
    /// It is sent again under the same operation id, as long as tries and time are left. A node that holds the
    /// write makes no second one of it. It holds it as long as nothing superseded it: if somebody else overwrote the
    /// key between two tries, the write comes back, as if it had been made last. So this is for keys that have one
    /// writer at a time.
    Repeat,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            tries_max: 5,
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_secs(1),
            on_unknown: OnUnknown::Report,
            connections_max: 16,
            shard_ports: true,
            in_flight_max: CONNECTION_REQUESTS_MAX / 2,
        }
    }
}
