//! Making sockets: the few system calls that are not worth a ring entry.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Seconds of silence after which a peer is asked whether it is still there; it has as long again to answer, or to take
/// what was sent to it. A machine that vanished would hold its connection for ever.
const SILENCE_S: libc::c_int = 60;

/// An address as the kernel wants it; boxed by whoever hands it to the ring.
pub(super) struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    pub(super) fn new(address: SocketAddr) -> RawAddress {
        // SAFETY: all zeroes is a valid sockaddr_storage: plain integers.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let len = match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                // SAFETY: a sockaddr_storage is large enough and aligned for every address family.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
                size_of_val(&raw)
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
                size_of_val(&raw)
            }
        };
        RawAddress {
            storage,
            len: len as libc::socklen_t,
        }
    }

    pub(super) fn address(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }
}

/// A TCP socket: close-on-exec, and blocking, for the ring does its own waiting only on blocking ones.
pub(super) fn stream_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bound, not listening: nobody can connect to it. `exclusive`: without SO_REUSEPORT, so that a second one is refused.
pub(in crate::runtime) fn bound_socket(
    address: SocketAddr,
    exclusive: bool,
) -> io::Result<OwnedFd> {
    let socket = stream_socket(&address)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if !exclusive {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    let raw = RawAddress::new(address);
    // SAFETY: the address lives through the call and its length is its own.
    check(unsafe { libc::bind(socket.as_raw_fd(), raw.address(), raw.len()) })?;
    Ok(socket)
}

/// Bound and listening.
pub(super) fn listening_socket(address: SocketAddr, exclusive: bool) -> io::Result<OwnedFd> {
    let socket = bound_socket(address, exclusive)?;
    // Accepted sockets inherit these: nothing has to be called for each.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    for (option, value) in [
        (libc::TCP_KEEPIDLE, SILENCE_S),
        (libc::TCP_KEEPINTVL, SILENCE_S / 6),
        (libc::TCP_KEEPCNT, 6),
        (libc::TCP_USER_TIMEOUT, 2 * SILENCE_S * 1000),
    ] {
        set_option(&socket, libc::IPPROTO_TCP, option, value)?;
    }
    const BACKLOG: i32 = 1024;
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

fn set_option(socket: &OwnedFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is a c_int that lives through the call, and its size is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
}

pub(super) fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes a descriptor that a completion carried.
pub(super) fn owned(descriptor: i32) -> OwnedFd {
    assert!(descriptor >= 0);
    // SAFETY: the kernel made it for this completion; nobody else has seen the number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
