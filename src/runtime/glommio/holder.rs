//! Who listens on a port, or holds a file: a help for the operator who meets "in use".

use std::fmt;
use std::fs;
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

/// Who listens on `port`.
pub fn of_port(port: u16) -> Holder {
    find(port).map_or(Holder(None), Holder::named)
}

/// Process `pid`, if it has `file` open.
pub fn of_file(file: &Path, pid: u32) -> Option<Holder> {
    let wanted = fs::canonicalize(file).ok()?;
    let open = holds(Path::new(&format!("/proc/{pid}")), |target| {
        target == wanted
    });
    open.then(|| Holder::named(pid))
}

fn find(port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, port))
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

/// Inodes of the sockets that listen on `port` in a table like /proc/net/tcp.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(&state), Some(inode)) =
            (fields.get(1), fields.get(3), fields.get(9))
        else {
            continue;
        };
        let here = local
            .rsplit_once(':')
            .and_then(|(_, p)| u16::from_str_radix(p, 16).ok());
        if here == Some(port) && state == LISTEN {
            found.push((*inode).to_owned());
        }
    }
    found
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
        assert_eq!(listeners(table, 7700), ["4711"]);
        assert!(listeners(table, 7701).is_empty());
        assert!(listeners("", 1).is_empty());
    }
}
