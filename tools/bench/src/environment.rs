//! Where a figure was taken: without it, it means little.

use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    pub generator: String,
    /// The command line, so that the run can be repeated.
    pub arguments: Vec<String>,
    pub server: Server,
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    /// How the first CPU's clock is set; empty where the kernel does not tell.
    pub governor: String,
    pub memory_kib: u64,
    /// Work of others shows here: load averages over 1, 5 and 15 minutes, at the end.
    pub load_average: String,
    /// Seconds since 1970 at the end.
    pub unix_seconds: u64,
}

/// What the node says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Server {
    pub address: String,
    pub version: String,
    pub shards: usize,
}

impl Environment {
    /// What cannot be read is left empty: a missing word does not spoil a measurement.
    pub fn of_this_machine(server: Server) -> Environment {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let line = |path| read(path).trim().to_string();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or(String::new(), |(_, value)| value.trim().to_string())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory = memory.trim_end_matches(" kB").parse();
        let load = line("/proc/loadavg");
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH);
        Environment {
            generator: format!("armilla-bench {}", env!("CARGO_PKG_VERSION")),
            arguments: std::env::args().skip(1).collect(),
            server,
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_kib: memory.unwrap_or(0),
            load_average: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            unix_seconds: unix_time.unwrap_or_default().as_secs(),
        }
    }
}

/// Time the calling thread has been on a CPU; zero where the kernel does not tell.
pub fn thread_cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described_and_work_takes_cpu_time() {
        let environment = Environment::of_this_machine(Server::default());
        assert!(environment.cpus > 0 && environment.memory_kib > 0);
        assert!(!environment.kernel.is_empty());
        let before = thread_cpu_time();
        let mut x = 1u64;
        for i in 0..20_000_000u64 {
            x = std::hint::black_box(x.wrapping_mul(i | 1));
        }
        assert!(thread_cpu_time() > before, "{x}");
    }
}
