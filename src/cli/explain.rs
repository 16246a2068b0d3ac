//! `armilla explain`

use super::Exit;
use super::node::{Node, Output, print_all, print_json};
use super::table::table;
use crate::client::{Client, Options};
use clap::Args;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  armilla explain city
  armilla explain city --output json | jq -r '.replicas[] | .address + \" \" + .here.state'

Asks any node where the key lies on the ring, then each of its replicas what it holds by itself. A dot names one write
for ever: replicas that list the same dots hold the same. STATE is value, deleted (it is remembered that the key was
deleted), absent, unsure (it cannot say) or silent (it does not answer).
Exit codes: 0 every replica told, 3 one did not.";

/// Where this is told in the report of a replica.
const HERE: &str = "here";
/// How long one replica is waited for, where --timeout does not say.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(2);

/// Tell which nodes hold a key, and what each of them has
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    #[arg(allow_hyphen_values = true)]
    key: OsString,
    #[command(flatten)]
    node: Node,
}

impl Explain {
    pub fn run(self) -> Exit {
        let name = self.key.to_string_lossy().into_owned();
        let (key, output) = (self.key.into_vec(), self.node.output);
        let timeout = self.node.server.timeout.unwrap_or(REPLICA_TIMEOUT);
        self.node.with(|client| {
            let Ok(Value::Object(ring)) = serde_json::from_str(&client.explain(&key)?) else {
                eprintln!("armilla: the node does not explain keys; is it of an older version?");
                return Ok(Exit::Failed);
            };
            let replicas = replicas(&ring, &key, timeout);
            let printed = match output {
                Output::Text => print_all(text(&name, &ring, &replicas).as_bytes()),
                Output::Json => print_json(&object(ring, &replicas)),
            };
            match replicas.iter().all(|replica| !replica[HERE].is_null()) {
                true => Ok(printed),
                false => Ok(Exit::Failed),
            }
        })
    }
}

/// The rows of the preference list, each with what that node told, or why it did not. All are asked at once.
fn replicas(ring: &Map<String, Value>, key: &[u8], timeout: Duration) -> Vec<Value> {
    let listed = ring.get("replicas").and_then(Value::as_array);
    let ask = |replica: &Value| -> Result<Value, String> {
        let options = Options {
            connect_timeout: timeout,
            request_timeout: timeout,
            connections_max: 1,
            ..Options::default()
        };
        let address = replica["address"].as_str().unwrap_or_default();
        let told = Client::connect_with(address, options).and_then(|client| client.explain(key));
        let told: Value = serde_json::from_str(&told.map_err(|error| error.to_string())?)
            .map_err(|_| "it tells what is no JSON".to_owned())?;
        match told["node"] == replica["node"] {
            true => Ok(told[HERE].clone()),
            false => Err("another node listens there".to_owned()),
        }
    };
    std::thread::scope(|scope| {
        let asked = listed.into_iter().flatten().map(|replica| {
            scope.spawn(move || {
                let mut replica = replica.clone();
                match ask(&replica) {
                    Ok(here) => replica[HERE] = here,
                    Err(why) => replica["error"] = why.into(),
                }
                replica
            })
        });
        let asked: Vec<_> = asked.collect();
        let told = asked
            .into_iter()
            .map(|told| told.join().expect("a look does not panic"));
        told.collect()
    })
}

fn object(mut ring: Map<String, Value>, replicas: &[Value]) -> Value {
    // Of the node that happened to be asked first.
    for own in ["node", "address", "shard", HERE] {
        ring.remove(own);
    }
    ring.insert("replicas".to_owned(), json!(replicas));
    Value::Object(ring)
}

fn text(name: &str, ring: &Map<String, Value>, replicas: &[Value]) -> String {
    let of = |member: &str| ring.get(member).map_or("?".to_owned(), plain);
    let mut text = format!(
        "'{name}' is at position {}, in virtual node {} of {} (ring epoch {})\n\n",
        of("position"),
        of("virtual_node"),
        of("virtual_nodes"),
        of("ring_epoch")
    );
    let head = [
        "REPLICA", "ADDRESS", "NODE", "ZONE", "SHARD", "STATE", "SIBLINGS",
    ];
    text += &table(&head, replicas.iter().zip(1..).map(row));
    for (replica, place) in replicas.iter().zip(1..) {
        let unsure = replica[HERE]["why"].as_str();
        if let Some(why) = replica["error"].as_str().or(unsure) {
            text += &format!("replica {place}: {why}\n");
        }
    }
    let dots = dots(replicas);
    if !dots.is_empty() {
        let head = ["DOT", "WHAT", "BYTES", "WRITTEN", "OPERATION", "AT REPLICA"];
        text += &format!("\n{}", table(&head, dots.into_iter()));
    }
    text + "\n" + &verdict(replicas) + "\n"
}

/// Numbers and texts without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn row((replica, place): (&Value, usize)) -> Vec<String> {
    let here = &replica[HERE];
    let filling = match replica["filling"] == true {
        true => ", filling",
        false => "",
    };
    let state = here["state"].as_str().unwrap_or("silent").to_owned() + filling;
    let siblings = here["siblings"].as_array().map(|all| all.len().to_string());
    vec![
        place.to_string(),
        plain(&replica["address"]),
        plain(&replica["node"]).chars().take(8).collect(),
        plain(&replica["zone"]),
        plain(&replica["shard"]),
        state,
        siblings.unwrap_or_else(|| "-".to_owned()),
    ]
}

/// A row for each sibling that any replica holds, in the order of dots, with the replicas that hold it.
fn dots(replicas: &[Value]) -> Vec<Vec<String>> {
    let mut rows: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (replica, place) in replicas.iter().zip(1..) {
        for sibling in replica[HERE]["siblings"].as_array().into_iter().flatten() {
            let dot = plain(&sibling["dot"]);
            let written = Duration::from_millis(sibling["written_ms"].as_u64().unwrap_or(0));
            let cells = vec![
                dot.clone(),
                plain(&sibling["kind"]),
                plain(&sibling["bytes"]),
                humantime::format_rfc3339_millis(UNIX_EPOCH + written).to_string(),
                plain(&sibling["operation"]).chars().take(8).collect(),
            ];
            let held = rows.entry(dot).or_insert((cells, Vec::new()));
            held.1.push(place.to_string());
        }
    }
    let whole = |(mut cells, places): (Vec<String>, Vec<String>)| {
        cells.push(places.join(" "));
        cells
    };
    rows.into_values().map(whole).collect()
}

fn verdict(replicas: &[Value]) -> String {
    let told: Vec<&Value> = replicas.iter().map(|replica| &replica[HERE]).collect();
    let seen = |here: &Value| (here["siblings"].clone(), here["vector"].clone());
    let same = told.windows(2).all(|pair| seen(pair[0]) == seen(pair[1]));
    let unsure = told
        .iter()
        .any(|here| here.is_null() || here["state"] == "unsure");
    match (unsure, same) {
        (true, _) => "Not every replica says what it holds.".to_owned(),
        (false, true) => "All replicas hold the same.".to_owned(),
        (false, false) => format!(
            "The replicas differ; a get that asks all of them (--r {}) brings them together.",
            replicas.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(state: &str, dots: &[&str]) -> Value {
        let sibling =
            |dot: &&str| json!({"dot": dot, "kind": "value", "bytes": 4, "written_ms": 1});
        let siblings: Vec<Value> = dots.iter().map(sibling).collect();
        json!({
            "address": "127.0.0.1:7700",
            "node": "0123456789",
            "zone": "",
            "shard": 0,
            "here": {"state": state, "siblings": siblings, "vector": dots},
        })
    }

    #[test]
    fn who_holds_which_dot_is_shown() {
        let replicas = [
            replica("value", &["a.0.1", "b.0.1"]),
            replica("value", &["b.0.1"]),
        ];
        let rows = dots(&replicas);
        assert_eq!((rows[0][0].as_str(), rows[0][5].as_str()), ("a.0.1", "1"));
        assert_eq!((rows[1][0].as_str(), rows[1][5].as_str()), ("b.0.1", "1 2"));
        assert!(verdict(&replicas).starts_with("The replicas differ"));
        assert!(verdict(&replicas[1..]).starts_with("All"));
    }

    #[test]
    fn who_does_not_answer_says_why() {
        let mut silent = replica("value", &[]);
        silent["here"] = Value::Null;
        silent["error"] = "connection refused".into();
        assert_eq!(row((&silent, 2))[..2], ["2", "127.0.0.1:7700"]);
        assert_eq!(row((&silent, 2))[5..], ["silent", "-"]);
        let text = text(
            "city",
            &Map::new(),
            &[replica("value", &["a.0.1"]), silent.clone()],
        );
        assert!(text.contains("\nreplica 2: connection refused\n"), "{text}");
        assert!(verdict(&[silent]).starts_with("Not every"));
    }
}
