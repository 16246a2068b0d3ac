//! Starts a node in a directory of its own on ports the system chooses, and runs verbs against it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Nodes make rings, and rings made at once by many tests fail for want of memory: one node test runs at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A directory that goes when it is dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        // Under the build directory, not /tmp: that may be a file system without direct I/O.
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = root.join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Node {
    child: Child,
    pub address: String,
    pub admin: String,
    log: Arc<Mutex<String>>,
}

pub fn armilla() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_armilla"));
    command.stdin(Stdio::null());
    command
}

impl Node {
    /// Starts and waits until it serves.
    pub fn start(data: &Path) -> Node {
        Node::start_with(data, &[])
    }

    pub fn start_with(data: &Path, more: &[&str]) -> Node {
        Node::start_through(None, data, more)
    }

    /// `script`: what a shell does before it becomes the node.
    pub fn start_through(script: Option<&str>, data: &Path, more: &[&str]) -> Node {
        Node::launch(script, "127.0.0.1:0", data, more)
    }

    /// At an address that others know.
    pub fn start_at(address: &str, data: &Path, more: &[&str]) -> Node {
        Node::launch(None, address, data, more)
    }

    fn launch(script: Option<&str>, listen: &str, data: &Path, more: &[&str]) -> Node {
        let mut command = match script {
            None => armilla(),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, env!("CARGO_BIN_EXE_armilla")]);
                shell.stdin(Stdio::null());
                shell
            }
        };
        let mut child = command
            .args(["start", "--listen", listen, "--data"])
            .arg(data)
            .args(more)
            .env("ARMILLA_MEMORY", "256MiB")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let copy = log.clone();
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                copy.lock().unwrap().push_str(&format!("{line}\n"));
                let _ = sender.send(line);
            }
        });
        let (mut address, mut admin) = (String::new(), String::new());
        loop {
            let Ok(line) = receiver.recv_timeout(Duration::from_secs(30)) else {
                let _ = child.kill();
                panic!(
                    "the node did not get ready; it said:\n{}",
                    log.lock().unwrap()
                );
            };
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            match event["event"].as_str() {
                Some("listening") => {
                    address = text_of(&event["clients"]);
                    admin = text_of(&event["admin"]);
                }
                Some("ready") => break,
                _ => {}
            }
        }
        Node {
            child,
            address,
            admin,
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it said, a JSON object a line.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The events of one name that it told so far.
    pub fn events(&self, name: &str) -> Vec<serde_json::Value> {
        let log = self.log();
        let events = log.lines().map(|line| {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|e| panic!("no JSON ({e}): {line}"))
        });
        events.filter(|event| event["event"] == name).collect()
    }

    /// A verb against this node.
    pub fn run(&self, args: &[&str]) -> Output {
        armilla()
            .args(args)
            .args(["--server", &self.address])
            .output()
            .unwrap()
    }

    pub fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the node did not end; it said:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A `--cores` list of so many shards: all on one CPU, for a machine may have no more.
pub fn cpus(shards: usize) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let first: String = allowed
        .trim()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    vec![first; shards].join(",")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One HTTP request; the whole answer.
pub fn http(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What the node says of itself.
pub fn report(node: &Node) -> serde_json::Value {
    let answer = http(&node.admin, "/status");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {answer}"))
}

/// Files and sockets that the node has open.
pub fn descriptors(node: &Node) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid()));
    open.unwrap().count()
}

/// Asks again until it is so; a minute is too long on any machine.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
