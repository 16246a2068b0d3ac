//! put, get, delete, status: what they print and how they exit.

use crate::harness::{Node, Scratch, alone, code, http, text};

#[test]
fn a_value_goes_in_and_comes_out() {
    let _alone = alone();
    let scratch = Scratch::new("verbs");
    let node = Node::start(&scratch.data());
    assert_eq!(code(&node.run(&["get", "greeting"])), 1);
    assert_eq!(code(&node.run(&["put", "greeting", "hello"])), 0);
    let got = node.run(&["get", "greeting"]);
    assert_eq!((code(&got), text(&got.stdout)), (0, "hello".into()));
    assert_eq!(code(&node.run(&["delete", "greeting"])), 0);
    assert_eq!(code(&node.run(&["get", "greeting"])), 1);
}

#[test]
fn concurrent_writes_become_siblings_and_a_context_resolves_them() {
    let _alone = alone();
    let scratch = Scratch::new("siblings");
    let node = Node::start(&scratch.data());
    assert_eq!(code(&node.run(&["put", "cart", "milk", "--concurrent"])), 0);
    assert_eq!(code(&node.run(&["put", "cart", "eggs", "--concurrent"])), 0);
    let got = node.run(&["get", "cart", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    let mut values: Vec<&str> = json["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["value"].as_str().unwrap())
        .collect();
    values.sort();
    assert_eq!(values, ["eggs", "milk"]);
    let context = json["context"].as_str().unwrap();
    assert_eq!(
        code(&node.run(&["put", "cart", "milk,eggs", "--context", context])),
        0
    );
    let got = node.run(&["get", "cart"]);
    assert_eq!(text(&got.stdout), "milk,eggs");
    let foreign = node.run(&["put", "other", "x", "--context", context]);
    assert_eq!(
        code(&foreign),
        3,
        "a context of another key must be refused"
    );
}

#[test]
fn status_and_the_admin_port_tell_that_it_serves() {
    let _alone = alone();
    let scratch = Scratch::new("status");
    let node = Node::start(&scratch.data());
    assert_eq!(code(&node.run(&["status"])), 0);
    assert!(http(&node.admin, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(http(&node.admin, "/livez").starts_with("HTTP/1.1 200"));
    assert!(http(&node.admin, "/nothing").starts_with("HTTP/1.1 404"));
    let report = http(&node.admin, "/status");
    assert!(report.contains("\"state\":\"serving\""), "{report}");
}

#[test]
fn a_flush_that_waits_leaves_nothing_deferred() {
    let _alone = alone();
    let scratch = Scratch::new("flush");
    let node = Node::start(&scratch.data());
    for nth in 0..20 {
        assert_eq!(code(&node.run(&["put", &format!("key-{nth}"), "value"])), 0);
    }
    let engine = || -> serde_json::Value {
        let status = node.run(&["status", "--output", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        report["engine"].clone()
    };
    assert_eq!(engine()["entries_in_memory"], 20);
    let flushed = node.run(&["flush", "--wait"]);
    assert_eq!(code(&flushed), 0, "{}", text(&flushed.stderr));
    let after = engine();
    assert_eq!(
        (&after["entries_in_memory"], &after["entries_in_tables"]),
        (&0.into(), &20.into())
    );
    assert_eq!(
        after["deferred"],
        serde_json::json!({"entries": 0, "merges": 0, "collections": 0})
    );
    assert_eq!(text(&node.run(&["get", "key-7"]).stdout), "value");
    // Nothing is there to be done.
    assert_eq!(code(&node.run(&["flush", "--wait"])), 0);
}
