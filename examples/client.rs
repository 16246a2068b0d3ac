//! The client library in one page: put, get, siblings, many at once, an update that loses nothing.
//!
//! Start a node, then run this against it:
//!
//! ```sh
//! cargo run --release -- start
//! cargo run --release --no-default-features --example client
//! ```
//!
//! `ARMILLA_SERVER` names another node than 127.0.0.1:7700.

use armilla::client::{Client, ClientError, Put, Sibling};
use std::collections::BTreeSet;

fn main() {
    let server = std::env::var("ARMILLA_SERVER").unwrap_or("127.0.0.1:7700".to_owned());
    match run(&server) {
        Ok(()) => {}
        Err(error @ ClientError::Unreachable { .. }) => {
            eprintln!("{error}\nstart a node first: cargo run --release -- start");
            std::process::exit(3);
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(if error.may_have_happened() { 4 } else { 3 });
        }
    }
}

fn run(server: &str) -> Result<(), ClientError> {
    let client = Client::connect(server)?;

    client.put(b"example/city", b"Riga", &Put::default())?;
    let found = client.get(b"example/city")?;
    println!("city: {}", text(&found.siblings[0]));

    // A write that has seen nothing stays beside the one that is there; a write with the context of a get settles both.
    client.put(b"example/city", b"Tartu", &Put::concurrent())?;
    let found = client.get(b"example/city")?;
    println!("{} siblings", found.siblings.len());
    client.put(
        b"example/city",
        b"Tallinn",
        &Put::with_context(&found.context),
    )?;
    println!(
        "settled: {}",
        text(&client.get(b"example/city")?.siblings[0])
    );

    // Many under way from one thread; each answer says what became of its own request.
    let key = |n: usize| format!("example/{n}").into_bytes();
    let puts: Vec<_> = (0..1000)
        .map(|n| client.begin_put(&key(n), b"value", &Put::default()))
        .collect();
    for put in puts {
        put.wait()?;
    }
    println!("1000 puts, all durable");

    // A set of lines: others may add theirs at the same time, and none is lost.
    let updated = client.update(b"example/guests", |siblings| {
        let mut lines: BTreeSet<String> = siblings.iter().flat_map(lines).collect();
        lines.insert("Ada".to_owned());
        lines
            .into_iter()
            .collect::<Vec<_>>()
            .join("\n")
            .into_bytes()
    })?;
    println!("guests: {}", text(&updated.found.siblings[0]));

    // Leave nothing behind.
    let mut deletes: Vec<_> = (0..1000)
        .map(|n| client.begin_delete(&key(n), &Put::default()))
        .collect();
    deletes.push(client.begin_delete(b"example/city", &Put::default()));
    deletes.push(client.begin_delete(b"example/guests", &Put::default()));
    for delete in deletes {
        delete.wait()?;
    }
    Ok(())
}

fn text(sibling: &Sibling) -> String {
    String::from_utf8_lossy(&sibling.value).into_owned()
}

fn lines(sibling: &Sibling) -> Vec<String> {
    text(sibling).lines().map(str::to_owned).collect()
}
