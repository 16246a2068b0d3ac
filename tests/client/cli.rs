#![cfg(feature = "server")]

use crate::fake::Fake;
use std::io::Write;
use std::process::{Command, Stdio};

struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
}

fn armilla(server: &str, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_armilla"))
        .args(arguments)
        .env("ARMILLA_SERVER", server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that reads no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: output.stdout,
        err,
    }
}

#[test]
fn put_get_delete() {
    let fake = Fake::start();
    let run = |arguments: &[&str]| armilla(&fake.address, arguments, b"from\0input");
    let missing = run(&["get", "city"]);
    assert_eq!(
        (missing.code, missing.out.len(), missing.err.as_str()),
        (1, 0, "not found\n")
    );
    let put = run(&["put", "city", "Riga"]);
    assert_eq!((put.code, put.out.as_slice()), (0, &b"ok\n"[..]));
    let got = run(&["get", "city"]);
    assert_eq!(
        (got.code, got.out.as_slice(), got.err.as_str()),
        (0, &b"Riga"[..], "")
    );
    assert_eq!(run(&["put", "raw", "-"]).code, 0);
    assert_eq!(run(&["get", "raw"]).out, b"from\0input");
    let file = format!("@{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(run(&["put", "file", &file]).code, 0);
    assert_eq!(
        run(&["get", "file"]).out,
        std::fs::read(&file[1..]).unwrap()
    );
    assert_eq!(run(&["delete", "city"]).code, 0);
    assert_eq!(run(&["get", "city"]).code, 1);
}

#[test]
fn siblings_come_with_the_way_to_resolve_them() {
    let fake = Fake::start();
    let run = |arguments: &[&str]| armilla(&fake.address, arguments, b"");
    assert_eq!(run(&["put", "city", "Riga"]).code, 0);
    assert_eq!(run(&["put", "city", "Tartu", "--concurrent"]).code, 0);
    let got = run(&["get", "city"]);
    assert_eq!((got.code, got.out.as_slice()), (0, &b"Riga\nTartu\n"[..]));
    let token = "c2Vlbg==";
    assert!(
        got.err
            .contains(&format!("armilla put 'city' VALUE --context {token}")),
        "{}",
        got.err
    );
    assert_eq!(run(&["put", "city", "Tallinn", "--context", token]).code, 0);
    assert_eq!(fake.seen().last().unwrap().context, b"seen");
    assert_eq!(run(&["get", "city"]).out, b"Tallinn");
    assert_eq!(run(&["delete", "city", "--context", token]).code, 0);
    assert_eq!(fake.seen().last().unwrap().context, b"seen");
}

#[test]
fn json() {
    let fake = Fake::start();
    let run = |arguments: &[&str], input: &[u8]| {
        let ran = armilla(&fake.address, arguments, input);
        (
            ran.code,
            serde_json::from_slice::<serde_json::Value>(&ran.out).unwrap(),
        )
    };
    let (code, put) = run(&["put", "k", "v", "--output", "json"], b"");
    assert_eq!(
        (code, &put["ok"], &put["receipt"]["votes"]),
        (0, &true.into(), &1.into())
    );
    run(
        &["put", "k", "-", "--concurrent", "--output", "json"],
        b"\xff\x00",
    );
    run(
        &["put", "k", "lost", "--concurrent", "--output", "json"],
        b"",
    );
    let (code, got) = run(&["get", "k", "--output", "json"], b"");
    assert_eq!((code, &got["context"]), (0, &"c2Vlbg==".into()));
    assert_eq!(got["siblings"][0]["value"], "v");
    assert_eq!(got["siblings"][1]["value_base64"], "/wA=");
    assert_eq!(got["siblings"][2]["lost"], true);
    let (code, got) = run(&["get", "nothing", "--output", "json"], b"");
    assert_eq!((code, got["siblings"].as_array().unwrap().len()), (1, 0));
}

#[test]
fn exit_codes_tell_what_may_have_happened() {
    let fake = Fake::start();
    let run = |arguments: &[&str]| armilla(&fake.address, arguments, b"");
    for key in ["broken", "timeout", "rubbish"] {
        let put = run(&["put", key, "v"]);
        assert_eq!(put.code, 4, "{}", put.err);
        assert!(
            put.err.contains("may or may not have happened"),
            "{}",
            put.err
        );
        assert_eq!(run(&["get", key]).code, 3);
    }
    assert_eq!(run(&["delete", "silent", "--timeout", "1"]).code, 4);
    assert_eq!(run(&["put", "refused", "v"]).code, 3);
    assert_eq!(run(&["put", "k", "@/no/such/file"]).code, 3);
    for usage in [
        &["put", "k"][..],
        &["put", "k", "v", "--context", "?"],
        &["put", "k", "v", "--context", "c2Vlbg==", "--concurrent"],
        &["get", "k", "--output", "xml"],
        &["fly"],
        &[],
    ] {
        assert_eq!(run(usage).code, 2, "{usage:?}");
    }
    let silent = armilla("127.0.0.1:1", &["get", "k"], b"");
    assert_eq!(silent.code, 3);
    let text = "armilla: cannot reach a node at 127.0.0.1:1: connection refused; \
                start one with 'armilla start' or pass --server ADDR:PORT\n";
    assert_eq!(silent.err, text);
}

#[test]
fn quorums_are_flags_and_a_receipt_is_told() {
    let fake = Fake::start();
    let run = |arguments: &[&str]| armilla(&fake.address, arguments, b"");
    let put = run(&["put", "k", "v", "--w", "3", "--r", "2", "--strict", "-v"]);
    assert_eq!(
        (put.code, put.out.as_slice(), put.err.as_str()),
        (
            0,
            &b"ok\n"[..],
            "1 of 1 replicas hold it (1 needed), strict\n"
        )
    );
    let got = run(&["get", "k", "--r", "3", "--timeout", "500ms", "-v"]);
    assert_eq!(got.out, b"v");
    assert_eq!(got.err, "1 of 1 replicas answered (1 needed), strict\n");
    assert_eq!(run(&["delete", "k", "--w", "1", "--timeout", "2"]).code, 0);
    let asked: Vec<_> = fake.asked();
    let quorums = |n: usize| {
        let asked = &asked[n];
        (asked.read_quorum, asked.write_quorum, asked.strict)
    };
    assert_eq!(
        [quorums(0), quorums(1), quorums(2)],
        [(2, 3, true), (3, 0, false), (0, 1, false)]
    );
    assert_eq!(asked[0].timeout_ms, 0);
    assert!(
        (300..=450).contains(&asked[1].timeout_ms),
        "{}",
        asked[1].timeout_ms
    );
    assert!(
        (1000..=1800).contains(&asked[2].timeout_ms),
        "{}",
        asked[2].timeout_ms
    );
    for usage in [
        &["put", "k", "v", "--w", "0"][..],
        &["put", "k", "v", "--w", "9"],
        &["get", "k", "--r", "all"],
        &["get", "k", "--w", "1"],
        &["get", "k", "--timeout", "soon"],
    ] {
        assert_eq!(run(usage).code, 2, "{usage:?}");
    }
}

#[test]
fn the_next_server_is_asked_and_all_that_cannot_be_reached_are_named() {
    let fake = Fake::start();
    let servers = format!("127.0.0.1:1,{}", fake.address);
    assert_eq!(armilla(&servers, &["put", "k", "v"], b"").code, 0);
    assert_eq!(fake.seen().len(), 1);
    let none = armilla("127.0.0.1:1,127.0.0.1:2", &["get", "k"], b"");
    assert_eq!(none.code, 3);
    let begins = "armilla: cannot reach a node at 127.0.0.1:1, 127.0.0.1:2: 127.0.0.1:1: ";
    assert!(none.err.starts_with(begins), "{}", none.err);
}

/// One of the two replicas that the fake names is another node than who listens there.
#[test]
fn explain_asks_each_replica_for_itself() {
    let fake = Fake::start();
    let told = armilla(&fake.address, &["explain", "city"], b"");
    let text = String::from_utf8(told.out).unwrap();
    assert_eq!(told.code, 3, "{text}");
    assert!(
        text.starts_with("'city' is at position 8f, in virtual node 5 of 1024 (ring epoch 1)\n"),
        "{text}"
    );
    let row = |place: &str| text.lines().find(|line| line.starts_with(place)).unwrap();
    assert!(
        row("1  ").contains(&fake.address) && row("1  ").contains("  value  "),
        "{text}"
    );
    assert!(row("2  ").contains("  silent  "), "{text}");
    assert!(
        text.contains("\nreplica 2: another node listens there\n"),
        "{text}"
    );
    let told = armilla(&fake.address, &["explain", "city", "--output", "json"], b"");
    let json: serde_json::Value = serde_json::from_slice(&told.out).unwrap();
    assert_eq!(json["replicas"][0]["here"]["state"], "value");
    assert_eq!(json["replicas"][1]["error"], "another node listens there");
}

#[test]
fn status_is_done_only_if_the_node_serves() {
    let fake = Fake::start();
    let run = |arguments: &[&str]| armilla(&fake.address, arguments, b"");
    let status = run(&["status"]);
    assert_eq!(
        (status.code, status.out.as_slice()),
        (0, &b"keys: 3\nstate: serving\n"[..])
    );
    fake.stop_serving();
    let status = run(&["status", "--output", "json"]);
    assert_eq!(
        (status.code, status.out.as_slice()),
        (3, &b"{\"state\":\"starting\"}\n"[..])
    );
    assert!(status.err.contains("it replays its log"));
}

#[test]
fn help_teaches_and_version_tells_the_formats() {
    let help = armilla("", &["--help"], b"");
    assert_eq!(help.code, 0);
    assert!(
        String::from_utf8(help.out)
            .unwrap()
            .contains("armilla put city Riga")
    );
    for verb in ["get", "put", "delete", "status"] {
        let help = armilla("", &[verb, "--help"], b"");
        assert!(
            String::from_utf8(help.out).unwrap().contains("Examples:"),
            "{verb}"
        );
    }
    let version = armilla("", &["--version"], b"").out;
    assert!(
        String::from_utf8(version)
            .unwrap()
            .contains("wire protocol 1")
    );
}
