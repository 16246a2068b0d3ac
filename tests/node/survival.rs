//! kill -9 in the middle of writes: every acked value is there after the restart.

use crate::harness::{Node, Scratch, alone};
use armilla::client::blocking::{Client, Put};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A longer run: `ARMILLA_KILL_CYCLES=100 cargo test --test node survival`.
const CYCLES: usize = 12;
const WRITERS: usize = 4;

/// The last acked number of each key, and the last one sent.
type Ledger = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

fn write(address: String, writer: usize, ledger: Ledger, stop: Arc<AtomicBool>) {
    let Ok(client) = Client::connect(&address) else {
        return;
    };
    while !stop.load(Ordering::Relaxed) {
        for n in 0..50 {
            let key = format!("w{writer}-{n}");
            let next = {
                let mut ledger = ledger.lock().unwrap();
                let entry = ledger.entry(key.clone()).or_default();
                entry.1 += 1;
                entry.1
            };
            if client
                .put(
                    key.as_bytes(),
                    value(&key, next).as_bytes(),
                    &Put::default(),
                )
                .is_err()
            {
                return;
            }
            ledger.lock().unwrap().get_mut(&key).unwrap().0 = next;
        }
    }
}

fn value(key: &str, n: u64) -> String {
    format!("{key}={n}={}", "x".repeat((n % 700) as usize))
}

#[test]
fn nothing_acked_is_lost_by_kill_9() {
    let _alone = alone();
    let scratch = Scratch::new("survival");
    let ledger = Ledger::default();
    let asked = std::env::var("ARMILLA_KILL_CYCLES");
    let cycles = asked
        .ok()
        .map_or(CYCLES, |n| n.parse().expect("a number of cycles"));
    let began = Instant::now();
    for cycle in 0..cycles {
        if cycle % 50 == 49 {
            println!("{cycle} of {cycles} cycles, {:?}", began.elapsed());
        }
        let mut node = Node::start(&scratch.data());
        check(&node, &ledger, cycle);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (address, ledger, stop) = (node.address.clone(), ledger.clone(), stop.clone());
                std::thread::spawn(move || write(address, writer, ledger, stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(40 + 37 * (cycle as u64 % 5)));
        node.kill_9();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().unwrap();
        }
    }
    let acked: u64 = ledger.lock().unwrap().values().map(|e| e.0).sum();
    println!(
        "{cycles} cycles, {acked} acked writes of {} keys",
        ledger.lock().unwrap().len()
    );
    assert!(
        acked > 200,
        "only {acked} writes were acked: the test saw nothing"
    );
}

/// A key holds its last acked value, or one that was sent after it and whose outcome nobody knows.
fn check(node: &Node, ledger: &Ledger, cycle: usize) {
    let client = Client::connect(&node.address).unwrap();
    for (key, (acked, sent)) in ledger.lock().unwrap().iter_mut() {
        let got = client.get(key.as_bytes()).unwrap();
        let values: Vec<String> = got
            .siblings
            .iter()
            .map(|s| String::from_utf8_lossy(&s.value).into_owned())
            .collect();
        if *acked == 0 && values.is_empty() {
            continue;
        }
        let [one] = values.as_slice() else {
            panic!("cycle {cycle}: {key} has {values:?}")
        };
        let n = (*acked..=*sent).find(|n| *n > 0 && value(key, *n) == *one);
        *acked = n.unwrap_or_else(|| panic!("cycle {cycle}: {key} lost {acked}, has {one}"));
        *sent = *acked;
    }
}
