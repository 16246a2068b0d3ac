//! The ports of a node: bound as the node would bind them, and let go at once.
//!
//! Nothing listens on them meanwhile: beside a running node on the same base port, a listener would take its clients.

use super::Check;
use crate::runtime::glommio::{bound_socket, holder};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One address that a node will listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The flag that sets it.
    pub flag: &'static str,
    pub address: SocketAddr,
    /// Whether the node refuses to share it.
    pub exclusive: bool,
}

const NAME: &str = "addresses";
/// How long the sockets of a killed process are waited for.
const RELEASED_WITHIN: Duration = Duration::from_secs(3);
const RELEASED_LOOK: Duration = Duration::from_millis(20);

/// One line for all that can be had, and one for each that cannot.
pub(super) fn check(addresses: &[Address]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut free = Vec::new();
    for wanted in addresses {
        match bindable(wanted) {
            Ok(()) => free.push(wanted.address.to_string()),
            Err(error) => checks.push(refused(wanted, &error)),
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("{} can be had", free.join(", "))));
    }
    checks
}

/// A process that was just killed is gone before its ring lets go of its sockets: a port that nobody holds is free in a
/// moment.
fn bindable(wanted: &Address) -> io::Result<()> {
    let deadline = Instant::now() + RELEASED_WITHIN;
    loop {
        let error = match bound_socket(wanted.address, wanted.exclusive) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let in_use = error.raw_os_error() == Some(libc::EADDRINUSE);
        let held = || holder::of_address(wanted.address).is_known();
        if !in_use || held() || Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(RELEASED_LOOK);
    }
}

fn refused(wanted: &Address, error: &io::Error) -> Check {
    let Address { flag, address, .. } = wanted;
    let found = format!("cannot listen on {address}: {error}");
    let other = format!("pass --{flag} ADDR:PORT");
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let holder = holder::of_address(*address);
            let found = format!("cannot listen on {address}: used by {holder}");
            Check::fail(NAME, found, format!("{}, or {other}", holder.remedy()))
        }
        Some(libc::EADDRNOTAVAIL) => {
            let fix = format!("take an address of this machine (run: ip addr): {other}");
            Check::fail(NAME, found, fix)
        }
        Some(libc::EACCES) => {
            let fix = format!(
                "run: sysctl -w net.ipv4.ip_unprivileged_port_start={}, or {other} above 1024",
                address.port()
            );
            Check::fail(NAME, found, fix)
        }
        _ => Check::fail(NAME, found, other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use std::net::TcpListener;

    fn address(address: SocketAddr) -> Address {
        Address {
            flag: "listen",
            address,
            exclusive: true,
        }
    }

    #[test]
    fn who_holds_a_port_is_named() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = address(busy.local_addr().unwrap());
        let checks = check(&[wanted]);
        assert_eq!(checks[0].verdict, Verdict::Fail);
        let said = checks[0].to_string();
        let me = std::process::id();
        assert!(said.contains(&format!("used by process {me} (")), "{said}");
        assert!(said.contains(&format!("run: kill {me}")), "{said}");
        drop(busy);
        assert_eq!(check(&[wanted])[0].verdict, Verdict::Ok);
    }

    #[test]
    fn an_address_of_another_machine_says_so() {
        // TEST-NET-1, which no machine has.
        let checks = check(&[address("192.0.2.1:7700".parse().unwrap())]);
        assert_eq!(checks[0].verdict, Verdict::Fail);
        assert!(checks[0].to_string().contains("ip addr"), "{}", checks[0]);
    }

    #[test]
    fn a_privileged_port_says_how() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        let check = refused(&address("127.0.0.1:80".parse().unwrap()), &error);
        assert!(check.to_string().contains("ip_unprivileged_port_start=80"));
    }
}
