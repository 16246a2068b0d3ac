//! Import and export: everything comes back byte for byte, twice is once, and what fails is named.

use crate::harness::{Node, Scratch, alone, armilla, code, cpus, text};
use armilla::client::{Client, Put};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

fn start(scratch: &Scratch) -> Node {
    Node::start_with(&scratch.data(), &["--cores", &cpus(2)])
}

fn file(scratch: &Scratch, name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch.0.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort();
    lines
}

fn import(node: &Node, file: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["import", file.to_str().unwrap()];
    arguments.extend(more);
    node.run(&arguments)
}

fn export(node: &Node, format: &str) -> Output {
    node.run(&["export", "-", "--format", format])
}

/// Rows of words, of tabs in values, of empty values, of none but odd bytes.
fn table(rows: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..rows {
        out.extend_from_slice(format!("key {n}\u{e9}\t").as_bytes());
        match n % 4 {
            0 => out.extend_from_slice(format!("value\t{n}\r").as_bytes()),
            1 => out.extend((0..n % 3000).map(|b| b as u8).filter(|b| *b != b'\n')),
            2 => {}
            _ => out.extend_from_slice(&[0xff, 0, n as u8 | 0x80]),
        }
        out.push(b'\n');
    }
    out
}

#[test]
fn a_table_comes_back_byte_for_byte_and_twice_is_once() {
    let _alone = alone();
    let scratch = Scratch::new("transfer");
    let mut node = start(&scratch);
    let table = table(5000);
    let source = file(&scratch, "table.tsv", &table);
    for _ in 0..2 {
        let imported = import(&node, &source, &[]);
        assert_eq!(code(&imported), 0, "{}", text(&imported.stderr));
        let said = text(&imported.stdout);
        assert!(
            said.contains("5000 rows imported") && said.contains("rows/s"),
            "{said}"
        );
        let exported = export(&node, "tsv");
        assert_eq!(code(&exported), 0, "{}", text(&exported.stderr));
        assert!(
            lines(&exported.stdout) == lines(&table),
            "the table differs"
        );
    }
    let target = scratch.0.join("all.ndjson");
    let exported = node.run(&["export", target.to_str().unwrap()]);
    assert_eq!(code(&exported), 0, "{}", text(&exported.stderr));
    node.kill_9();

    // Through the other format into another store.
    let other = Scratch::new("transfer-other");
    let node = start(&other);
    let imported = import(&node, &target, &[]);
    assert_eq!(code(&imported), 0, "{}", text(&imported.stderr));
    let exported = export(&node, "tsv");
    assert!(
        lines(&exported.stdout) == lines(&table),
        "the table differs"
    );
}

#[test]
fn keys_with_several_values_come_back_with_all_of_them() {
    let _alone = alone();
    let scratch = Scratch::new("transfer-siblings");
    let node = start(&scratch);
    let client = Client::connect(&node.address).unwrap();
    for value in [&b"one"[..], b"two", b"\xff"] {
        client.put(b"many", value, &Put::concurrent()).unwrap();
    }
    client.put(b"tab\there", b"v", &Put::default()).unwrap();
    client.put(b"plain", b"v", &Put::default()).unwrap();
    let exported = export(&node, "ndjson");
    assert_eq!(code(&exported), 0);
    let said = text(&exported.stdout);
    assert!(said.contains("\"sibling\":3,\"siblings\":3"), "{said}");

    // TSV cannot hold two of the keys: they are named, and the third is there.
    let target = scratch.0.join("all.tsv");
    let stopped = node.run(&["export", target.to_str().unwrap()]);
    assert_eq!(code(&stopped), 3);
    let left: Vec<_> = std::fs::read_dir(&scratch.0)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["data"], "half a file is none");
    let skipped = node.run(&["export", "-", "--format", "tsv", "--on-error", "skip"]);
    assert_eq!(
        (code(&skipped), text(&skipped.stdout).as_str()),
        (3, "plain\tv\n")
    );
    let why = text(&skipped.stderr);
    for named in [
        "'many'",
        "'tab\\there'",
        "--format ndjson",
        "2 keys are not in",
    ] {
        assert!(why.contains(named), "{why}");
    }

    let source = file(&scratch, "all.ndjson", &exported.stdout);
    let other = Scratch::new("transfer-siblings-other");
    let target = start(&other);
    for _ in 0..2 {
        assert_eq!(code(&import(&target, &source, &[])), 0);
        let again = export(&target, "ndjson");
        assert_eq!(text(&again.stdout), said);
    }
}

#[test]
fn what_fails_is_named_with_its_line() {
    let _alone = alone();
    let scratch = Scratch::new("transfer-errors");
    let node = start(&scratch);
    let mut rows = b"a\t1\nno tab\nb\t2\n".to_vec();
    rows.extend(vec![b'k'; 5000]);
    rows.extend_from_slice(b"\tlong key\nc\t");
    rows.extend(vec![b'v'; (1 << 20) + 1]);
    rows.extend_from_slice(b"\nd\t4\na\t5");
    let source = file(&scratch, "rows.tsv", &rows);
    let name = source.display();
    let stopped = import(&node, &source, &[]);
    assert_eq!(code(&stopped), 3);
    let why = text(&stopped.stderr);
    assert!(why.starts_with(&format!("{name}:2: no tab")), "{why}");
    assert!(!why.contains(":4:"), "{why}");

    let skipped = import(&node, &source, &["--on-error", "skip"]);
    assert_eq!(code(&skipped), 3);
    let why = text(&skipped.stderr);
    for line in [2, 4, 5] {
        assert!(why.contains(&format!("{name}:{line}: ")), "{why}");
    }
    assert!(
        why.contains("3 rows failed") && why.contains("1048577"),
        "{why}"
    );
    // The last row of a key stays, also without a newline behind it.
    assert_eq!(
        lines(&export(&node, "tsv").stdout),
        [&b"a\t5\n"[..], b"b\t2\n", b"d\t4\n"]
    );

    let lonely = file(
        &scratch,
        "lonely.ndjson",
        b"{\"key\":\"s\",\"value\":\"v\",\"sibling\":2,\"siblings\":2}\n",
    );
    let refused = import(&node, &lonely, &[]);
    assert_eq!(code(&refused), 3);
    assert!(text(&refused.stderr).contains("lonely.ndjson:1: sibling 2 of 2 does not follow"));
    let unnamed = file(&scratch, "rows.txt", b"");
    assert_eq!(code(&import(&node, &unnamed, &[])), 2);
    assert_eq!(code(&import(&node, Path::new("/no/such.tsv"), &[])), 3);
    let nobody = armilla()
        .args(["import", "--server", "127.0.0.1:1"])
        .arg(&source)
        .output()
        .unwrap();
    assert_eq!(code(&nobody), 3);
}

/// The node dies in the middle: the import says so, and once the node is back the same import makes it whole.
#[test]
fn an_import_that_was_cut_is_made_whole_by_the_next() {
    let _alone = alone();
    let scratch = Scratch::new("transfer-cut");
    let mut node = start(&scratch);
    let table = table(4000);
    let mut cut = armilla()
        .args([
            "import",
            "-",
            "--format",
            "tsv",
            "--timeout",
            "1",
            "--server",
            &node.address,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = cut.stdin.take().unwrap();
    // More than may be under way at once, so some are acked before the node dies.
    stdin.write_all(&table[..table.len() / 2]).unwrap();
    node.kill_9();
    let _ = stdin.write_all(&table[table.len() / 2..]);
    drop(stdin);
    let cut = cut.wait_with_output().unwrap();
    let why = text(&cut.stderr);
    assert!([3, 4].contains(&code(&cut)), "{why}");
    assert!(
        why.contains("-:") && why.contains("import the file again"),
        "{why}"
    );

    let node = start(&scratch);
    let source = file(&scratch, "table.tsv", &table);
    let whole = import(&node, &source, &[]);
    assert_eq!(code(&whole), 0, "{}", text(&whole.stderr));
    assert!(
        lines(&export(&node, "tsv").stdout) == lines(&table),
        "the table differs"
    );
}
