//! Who listens on a port, or holds a file: a help for the operator who meets "in use".

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// A process, as far as /proc shows it to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(Option<(u32, String)>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, name)) => write!(f, "process {pid} ({name})"),
            None => f.write_str("another process"),
        }
    }
}

impl Holder {
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// What the operator may do about it.
    pub fn remedy(&self) -> String {
        match &self.0 {
            Some((pid, _)) => format!("run: kill {pid}"),
            None => "stop it".to_owned(),
        }
    }

    fn named(pid: u32) -> Holder {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Holder(Some((pid, name.trim().to_owned())))
    }
}

/// Who listens on `address`, or on its port of all addresses. Nodes of one machine have one port at several addresses.
pub fn of_address(address: SocketAddr) -> Holder {
    find(address).map_or(Holder(None), Holder::named)
}

/// Process `pid`, if it has `file` open.
pub fn of_file(file: &Path, pid: u32) -> Option<Holder> {
    let wanted = fs::canonicalize(file).ok()?;
    let open = holds(Path::new(&format!("/proc/{pid}")), |target| {
        target == wanted
    });
    open.then(|| Holder::named(pid))
}

fn find(address: SocketAddr) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, address))
        .collect();
    let wanted: Vec<String> = inodes.iter().map(|i| format!("socket:[{i}]")).collect();
    let is_wanted = |target: &Path| wanted.iter().any(|w| target.as_os_str() == w.as_str());
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|p| p.file_name().to_str()?.parse().ok());
    pids.find(|pid| holds(Path::new(&format!("/proc/{pid}")), is_wanted))
}

fn holds(process: &Path, is_wanted: impl Fn(&Path) -> bool) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| is_wanted(&target)))
}

/// Inodes of the sockets in a table like /proc/net/tcp that listen where `address` is taken by them.
fn listeners(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(&state), Some(inode)) =
            (fields.get(1), fields.get(3), fields.get(9))
        else {
            continue;
        };
        let is_in_the_way = |held: SocketAddr| {
            let (ip, wanted) = (held.ip().to_canonical(), address.ip().to_canonical());
            let everywhere = ip.is_unspecified() || wanted.is_unspecified();
            held.port() == address.port() && (ip == wanted || everywhere)
        };
        if state == LISTEN && socket_address(local).is_some_and(is_in_the_way) {
            found.push((*inode).to_owned());
        }
    }
    found
}

/// As the kernel writes it: the address in words of 32 bits, each a number of this machine, and the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    if ip.len() % 8 != 0 || ip.len() > 32 || !ip.is_ascii() {
        return None;
    }
    for (word, digits) in bytes.chunks_mut(4).zip(ip.as_bytes().chunks(8)) {
        let digits = std::str::from_utf8(digits).ok()?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    match ip.len() {
        8 => Some((<[u8; 4]>::try_from(&bytes[..4]).ok()?, port).into()),
        32 => Some((bytes, port).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1E14 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
             1: 0100007F:1E14 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
             short line\n";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(listeners(table, at("127.0.0.1:7700")), ["4711"]);
        assert_eq!(listeners(table, at("0.0.0.0:7700")), ["4711"]);
        assert!(listeners(table, at("127.0.0.2:7700")).is_empty());
        assert!(listeners(table, at("127.0.0.1:7701")).is_empty());
        assert!(listeners("", at("127.0.0.1:1")).is_empty());
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let read = |text| socket_address(text).map(|address| address.to_string());
        assert_eq!(read("0200007F:1E14").as_deref(), Some("127.0.0.2:7700"));
        let loopback = "00000000000000000000000001000000:0050";
        assert_eq!(read(loopback).as_deref(), Some("[::1]:80"));
        let mapped = "0000000000000000FFFF00000100007F:0050";
        let mapped = socket_address(mapped).unwrap();
        assert_eq!(mapped.ip().to_canonical().to_string(), "127.0.0.1");
        for bad in [
            "",
            ":",
            "7F:1",
            "0100007F",
            "0100007F:x",
            "zzzzzzzz:1",
            "0100007F0100007F:1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
