//! How connections come to be, and how they end when a process, a machine or the way between two
//! goes.

use super::fabric::{Endpoint, Item, NetHappening, Phase, ip_of, resolve};
use crate::runtime::net::{CloseReason, ConnectionId, Door, Event};
use crate::runtime::simulated::world::{End, Happening, MachineId, ProcessId, State};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a connect waits for an answer that does not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl State {
    pub(super) fn net_connect(&mut self, process: ProcessId, address: SocketAddr) -> ConnectionId {
        let machine = self.process(process).machine;
        let to = resolve(machine, address);
        let local = SocketAddr::new(ip_of(machine), self.fabric.ephemeral_port());
        let endpoint = self.new_endpoint(process, local, to, Phase::Connecting);
        let target = self.fabric.endpoints[&endpoint].remote_machine;
        let delay = self.link_delay(machine, target.unwrap_or(machine));
        self.after(delay, Happening::Net(NetHappening::Syn { endpoint, to }));
        self.fabric.endpoints[&endpoint].id
    }

    pub(super) fn syn(&mut self, client: u64, to: SocketAddr) {
        let Some(endpoint) = self.endpoint(client) else {
            return;
        };
        if endpoint.phase != Phase::Connecting {
            return;
        }
        let (local, from, target) = (endpoint.local, endpoint.machine, endpoint.remote_machine);
        let Some(target) = target else {
            self.soon(
                100,
                NetHappening::Break {
                    endpoint: client,
                    errno: libc::EHOSTUNREACH,
                },
            );
            return;
        };
        let cut = self.fabric.is_blocked(from, target) || self.fabric.is_blocked(target, from);
        if cut || !self.machine(target).powered {
            let errno = libc::ETIMEDOUT;
            let happening = NetHappening::Break {
                endpoint: client,
                errno,
            };
            self.after(CONNECT_TIMEOUT, Happening::Net(happening));
            return;
        }
        let listeners = self.fabric.listeners.get(&to).into_iter().flatten();
        let open: Vec<(ProcessId, Door)> = listeners
            .filter(|listener| listener.open)
            .map(|listener| (listener.process, listener.door))
            .collect();
        if open.is_empty() {
            let delay = self.link_delay(target, from);
            let errno = libc::ECONNREFUSED;
            let happening = NetHappening::Break {
                endpoint: client,
                errno,
            };
            self.after(delay, Happening::Net(happening));
            return;
        }
        let drawn = self.fabric.choices.below(open.len() as u64) as usize;
        let (process, door) = open[drawn];
        let server = self.new_endpoint(process, to, local, Phase::Backlog);
        for (one, other) in [(client, server), (server, client)] {
            if let Some(endpoint) = self.endpoint(one) {
                endpoint.peer = Some(other);
            }
        }
        self.send_item(client, Item::Handshake, Duration::ZERO);
        self.soon(
            100,
            NetHappening::Accept {
                endpoint: server,
                door,
            },
        );
    }

    pub(super) fn accept(&mut self, key: u64, door: Door) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        if endpoint.phase != Phase::Backlog {
            return;
        }
        endpoint.phase = Phase::Open;
        let (process, connection, peer) = (endpoint.process, endpoint.id, endpoint.remote);
        self.push_event(
            process,
            Event::Accepted {
                connection,
                door,
                peer,
            },
        );
        self.schedule_delivery(key);
    }

    pub(super) fn net_stop_listening(&mut self, process: ProcessId) {
        self.forget_listeners(process);
        let backlog =
            |endpoint: &Endpoint| endpoint.process == process && endpoint.phase == Phase::Backlog;
        for key in self.keys_of(backlog) {
            if let Some(peer) = self.endpoint(key).and_then(|endpoint| endpoint.peer) {
                self.send_item(peer, Item::Reset, Duration::ZERO);
            }
            self.finish(key, CloseReason::Finished);
        }
    }

    fn forget_listeners(&mut self, process: ProcessId) {
        self.fabric.listeners.retain(|_, listeners| {
            listeners.retain(|listener| listener.process != process);
            !listeners.is_empty()
        });
    }

    /// A process is gone: its kernel ends what it had, or, without power, the peers learn late or
    /// never.
    pub fn net_process_ended(&mut self, process: ProcessId, end: End) {
        self.forget_listeners(process);
        for key in self.keys_of(|endpoint| endpoint.process == process) {
            let Some(endpoint) = self.fabric.endpoints.remove(&key) else {
                continue;
            };
            let Some(peer) = endpoint.peer else {
                continue;
            };
            match end {
                // The kernel ends the stream in order, unless bytes were left unread.
                End::Exit if endpoint.pending == 0 && endpoint.phase != Phase::Backlog => {
                    self.send_item(peer, Item::Fin, Duration::ZERO);
                }
                End::Exit => self.send_item(peer, Item::Reset, Duration::ZERO),
                End::PowerCut if self.fabric.ends.chance(0.5) => {
                    let wait = Duration::from_millis(100 + self.fabric.ends.below(2_900));
                    let errno = libc::ECONNRESET;
                    let happening = NetHappening::Break {
                        endpoint: peer,
                        errno,
                    };
                    self.after(wait, Happening::Net(happening));
                }
                End::PowerCut => {}
            }
            self.pump(peer);
        }
    }

    /// Cuts or mends the way from one machine to another.
    pub fn net_block(&mut self, from: MachineId, to: MachineId, blocked: bool) {
        if blocked {
            self.fabric.blocked.insert((from, to));
            return;
        }
        self.fabric.blocked.remove(&(from, to));
        let stalled = |endpoint: &Endpoint| {
            endpoint.stalled && endpoint.machine == to && endpoint.remote_machine == Some(from)
        };
        for key in self.keys_of(stalled) {
            if let Some(endpoint) = self.endpoint(key) {
                endpoint.stalled = false;
            }
            self.soon(1_000, NetHappening::Pipe { endpoint: key });
        }
    }
}
