//! An image of a real node under load: a start on it has all that was acked when it was begun.

use crate::harness::{Node, Scratch, alone, code, cpus, text};
use armilla::client::blocking::{Client, Put};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const WRITERS: usize = 3;
const KEYS: usize = 60;

/// The last acked number of each key.
type Ledger = Arc<Mutex<BTreeMap<String, u64>>>;

fn value(key: &str, n: u64) -> String {
    format!("{key}={n}={}", "x".repeat((n * 97 % 3000) as usize))
}

fn writers(address: &str, ledger: &Ledger, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let writer = |writer: usize| {
        let (address, ledger, stop) = (address.to_owned(), ledger.clone(), stop.clone());
        std::thread::spawn(move || {
            let client = Client::connect(&address).unwrap();
            for n in 1.. {
                for key in 0..KEYS {
                    let key = format!("w{writer}-{key}");
                    let value = value(&key, n);
                    let put = client.put(key.as_bytes(), value.as_bytes(), &Put::default());
                    if put.is_err() || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    ledger.lock().unwrap().insert(key, n);
                }
            }
        })
    };
    (0..WRITERS).map(writer).collect()
}

fn files(directory: &Path) -> Vec<std::fs::DirEntry> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap()).collect()
}

#[test]
fn a_start_on_a_snapshot_has_what_was_acked() {
    let _alone = alone();
    let scratch = Scratch::new("snapshot");
    let data = scratch.data();
    let cores = ["--cores", &cpus(2)];
    let mut node = Node::start_with(&data, &cores);
    let (ledger, stop) = (Ledger::default(), Arc::new(AtomicBool::new(false)));
    let writers = writers(&node.address, &ledger, &stop);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(code(&node.run(&["flush"])), 0);
    std::thread::sleep(Duration::from_millis(300));
    let acked = ledger.lock().unwrap().clone();
    let image = scratch.0.join("image");
    let made = node.run(&["snapshot", image.to_str().unwrap()]);
    assert_eq!(code(&made), 0, "{}", text(&made.stderr));
    // It is complete or not there, and what it was made of is gone.
    assert!(files(&data.join("snapshot")).is_empty());
    let tables = files(&image.join("table"));
    assert!(!tables.is_empty(), "nothing was flushed");
    let links = |entry: &std::fs::DirEntry| entry.metadata().unwrap().nlink();
    assert!(
        tables.iter().any(|entry| links(entry) > 1),
        "tables are linked"
    );
    let again = node.run(&["snapshot", image.to_str().unwrap()]);
    assert_eq!(code(&again), 3);
    assert!(text(&again.stderr).contains("not empty"));
    std::thread::sleep(Duration::from_millis(200));
    node.kill_9();
    stop.store(true, Ordering::Relaxed);
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    drop(node);
    assert!(acked.len() > KEYS, "{} keys prove nothing", acked.len());
    for start in 0..2 {
        let node = Node::start_with(&image, &cores);
        // Told once: from then on it is a data directory like any other.
        assert_eq!(node.events("restored").len(), 1 - start);
        let client = Client::connect(&node.address).unwrap();
        for (key, &least) in &acked {
            let got = client.get(key.as_bytes()).unwrap();
            let [sibling] = &got.siblings[..] else {
                panic!("{key} has {} siblings", got.siblings.len());
            };
            let found = text(&sibling.value);
            let number = found.split('=').nth(1).unwrap().parse::<u64>().unwrap();
            assert!(number >= least, "{key} is {number}, {least} was acked");
            assert_eq!(found, value(key, number));
        }
        client.put(b"w0-0", b"w0-0=9=", &Put::default()).unwrap();
        client
            .put(
                b"w0-0",
                value("w0-0", 1_000_000).as_bytes(),
                &Put::default(),
            )
            .unwrap();
    }
    // The original has not heard of it.
    let node = Node::start_with(&data, &cores);
    let got = Client::connect(&node.address)
        .unwrap()
        .get(b"w0-0")
        .unwrap();
    assert!(!text(&got.siblings[0].value).starts_with("w0-0=1000000="));
}

#[test]
fn what_cannot_be_a_snapshot_is_refused() {
    let _alone = alone();
    let scratch = Scratch::new("no-snapshot");
    let data = scratch.data();
    let node = Node::start_with(&data, &["--cores", &cpus(1)]);
    let missing = scratch.0.join("no/such");
    let refused = node.run(&["snapshot", missing.to_str().unwrap()]);
    assert_eq!(code(&refused), 3);
    assert!(text(&refused.stderr).contains("there is no directory"));
    let elsewhere = Path::new("/dev/shm");
    let device = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.dev());
    if device(elsewhere) != 0 && device(elsewhere) != device(&data) {
        let name = format!("armilla-snapshot-{}", std::process::id());
        let other = elsewhere.join(name);
        let refused = node.run(&["snapshot", other.to_str().unwrap()]);
        assert_eq!(code(&refused), 3);
        let why = text(&refused.stderr);
        assert!(why.contains("another file system"), "{why}");
        assert!(!other.exists() && files(&data.join("snapshot")).is_empty());
    }
    let image = scratch.0.join("empty");
    std::fs::create_dir(&image).unwrap();
    assert_eq!(code(&node.run(&["snapshot", image.to_str().unwrap()])), 0);
    assert!(image.join("node.toml").exists() && image.join("secret").exists());
}
