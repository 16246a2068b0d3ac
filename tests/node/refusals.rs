//! What a start refuses, in one line that says what to do.

use crate::harness::{Node, Scratch, alone, armilla, code, cpus, text};

#[test]
fn a_second_process_is_refused_by_name() {
    let _alone = alone();
    let scratch = Scratch::new("second");
    let node = Node::start(&scratch.data());
    let same_directory = armilla()
        .args(["start", "--listen", "127.0.0.1:0", "--data"])
        .arg(scratch.data())
        .output()
        .unwrap();
    let said = text(&same_directory.stderr);
    assert_eq!(code(&same_directory), 3, "{said}");
    assert!(said.contains(&format!("process {}", node.pid())), "{said}");

    let other = scratch.0.join("other");
    let port: u16 = node.address.rsplit(':').next().unwrap().parse().unwrap();
    // The shard's port is exclusive: a node whose own shard port would be this one meets it.
    let same_port = armilla()
        .args([
            "start",
            "--listen",
            &format!("127.0.0.1:{}", port - 1),
            "--data",
        ])
        .arg(&other)
        .output()
        .unwrap();
    let said = text(&same_port.stderr);
    assert_eq!(code(&same_port), 3, "{said}");
    assert!(said.contains("cannot listen on"), "{said}");
}

#[test]
fn an_open_address_needs_a_word() {
    let refused = armilla()
        .args(["start", "--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 2, "{said}");
    assert!(said.contains("--insecure"), "{said}");
}

#[test]
fn cores_that_are_none_are_refused() {
    for (cores, why) in [
        ("0,x", "a list of CPUs"),
        ("9999", "may not run on CPU 9999"),
    ] {
        let refused = armilla()
            .args(["start", "--cores", cores])
            .output()
            .unwrap();
        let said = text(&refused.stderr);
        assert_eq!(code(&refused), 2, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn another_number_of_shards_is_refused_with_the_one_that_fits() {
    let _alone = alone();
    let scratch = Scratch::new("reshaped");
    let mut node = Node::start_with(&scratch.data(), &["--cores", &cpus(2)]);
    node.signal("-TERM");
    node.wait(std::time::Duration::from_secs(10));
    let refused = armilla()
        .args([
            "start",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            &cpus(1),
            "--data",
        ])
        .arg(scratch.data())
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    assert!(said.contains("pass --cores with 2 core(s)"), "{said}");
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let _alone = alone();
    let scratch = Scratch::new("foreign");
    std::fs::create_dir_all(scratch.data()).unwrap();
    std::fs::write(scratch.data().join("thesis.txt"), "mine").unwrap();
    let refused = armilla()
        .args(["start", "--listen", "127.0.0.1:0", "--data"])
        .arg(scratch.data())
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    assert!(said.contains("thesis.txt"), "{said}");
}

/// Its identity came back from a copy, its data did not: it would say of every key that it never was.
#[test]
fn a_directory_that_has_lost_its_logs_is_refused() {
    let _alone = alone();
    let scratch = Scratch::new("gone");
    let mut node = Node::start(&scratch.data());
    node.signal("-TERM");
    node.wait(std::time::Duration::from_secs(10));
    for entry in std::fs::read_dir(scratch.data()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match name.as_str() {
            "node.toml" | "secret" => {}
            _ if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
            _ => std::fs::remove_file(path).unwrap(),
        }
    }
    let refused = armilla()
        .args(["start", "--listen", "127.0.0.1:0", "--data"])
        .arg(scratch.data())
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    assert!(said.contains("log/ is missing"), "{said}");
}

#[test]
fn a_node_of_a_ring_must_say_where_it_is_found() {
    let scratch = Scratch::new("nowhere");
    let refused = armilla()
        .args(["start", "--listen", "0.0.0.0:7733", "--insecure"])
        .args(["--join", "0.0.0.0:7733,10.0.0.1:7733", "--data"])
        .arg(scratch.data())
        .env("ARMILLA_JOIN_TOKEN", "0123456789abcdef")
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_ne!(code(&refused), 0, "{said}");
    assert!(said.contains("--advertise"), "{said}");
}
