//! `armilla snapshot`

use super::Exit;
use super::node::{Server, report_error};
use crate::base::units::UnixMillis;
use crate::client::{Client, ClientError, Options, StatusReport};
use crate::engine::SNAPSHOT_DIRECTORY;
use crate::replica::restored;
use clap::Args;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  armilla snapshot /var/lib/armilla-monday                     while the node serves
  cp -a /var/lib/armilla-monday /backup/                       it may be copied anywhere
  armilla start --data /var/lib/armilla-monday --cores 0,1     as many cores as the node has shards

Every write that was acked before the command began is in it. Files that never change are linked, not copied: DIR must
be on the file system of the data directory, takes little room at first, and keeps what the node gives back later. The
command runs on the machine of the node, as a user who may read its data directory. DIR is there when it is complete.
Exit codes: 0 it is there, 3 it is not.";

/// Files of the node as a whole; the engine of a shard knows nothing of them.
const NODE_FILES: [&str; 4] = ["node.toml", "secret", "ring", "register"];
const NOTES: &str = "quarantine";
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(20);

/// Make an image of a running node, from which another can be started
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Snapshot {
    /// What is to be made; it is not there yet, or is an empty directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    server: Server,
}

impl Snapshot {
    pub fn run(self) -> Exit {
        let directory = std::path::absolute(&self.directory).unwrap_or(self.directory.clone());
        if let Err(why) = free(&directory) {
            return failed(&why);
        }
        let connected = self.server.connect(Options {
            connections_max: 1,
            ..Options::default()
        });
        connected
            .and_then(|client| take(&client, &directory))
            .unwrap_or_else(|error| report_error(&error))
    }
}

fn failed(why: &str) -> Exit {
    eprintln!("armilla: no snapshot was made: {why}");
    Exit::Failed
}

/// Why nothing can be made there.
fn free(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(format!("{shown} is not empty; name another directory")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = directory.parent().unwrap_or(directory);
            match parent.is_dir() {
                true => Ok(()),
                false => Err(format!("there is no directory {}", parent.display())),
            }
        }
        Err(error) => Err(format!("cannot look into {shown}: {error}")),
    }
}

fn take(client: &Client, directory: &Path) -> Result<Exit, ClientError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = UnixMillis(now.map_or(0, |now| now.as_millis() as u64));
    let name = format!("{}-{}", now.0, std::process::id());
    let mut report = client.snapshot(&name)?;
    let parts = loop {
        if !report.serving {
            return Ok(failed(&report.message));
        }
        match made(&report, &name) {
            Some(Made::Running) => {}
            Some(Made::Failed(why)) => break Err(why),
            Some(Made::Done) => break Ok(()),
            None => {
                return Ok(failed(
                    "the node does not tell of it; is it of an older version?",
                ));
            }
        }
        std::thread::sleep(LOOK);
        report = client.status()?;
    };
    let Some(data) = data_directory(&report) else {
        return Ok(failed("the node does not tell where its data is"));
    };
    let image = data.join(SNAPSHOT_DIRECTORY).join(&name);
    let finished = parts.and_then(|()| finish(&data, &image, now, directory));
    Ok(match finished {
        Ok(()) => Exit::Done,
        Err(why) => {
            // It may not be there at all, where this runs on another machine.
            let _ = fs::remove_dir_all(&image);
            failed(&why)
        }
    })
}

/// What the shards say of the snapshot of a name.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    Running,
    Failed(String),
    /// All parts of shards are there.
    Done,
}

/// `None`: it says nothing of it.
fn made(report: &StatusReport, name: &str) -> Option<Made> {
    let json: Value = serde_json::from_str(&report.json).ok()?;
    let rows = json["by_shard"].as_array()?;
    let mut running = false;
    for row in rows {
        let snapshot = row["snapshot"].as_object()?;
        let of = snapshot["name"].as_str()?;
        if of != name {
            let why = match snapshot["running"].as_u64() {
                Some(0) => "a shard did not hear of it; try again".to_owned(),
                _ => format!("another one is under way ({of}); try again when it is done"),
            };
            return Some(Made::Failed(why));
        }
        if let Some(why) = snapshot["errors"][0].as_str() {
            return Some(Made::Failed(why.to_owned()));
        }
        running |= snapshot["running"].as_u64() != Some(0);
    }
    Some(match running {
        true => Made::Running,
        false => Made::Done,
    })
}

fn data_directory(report: &StatusReport) -> Option<PathBuf> {
    let json: Value = serde_json::from_str(&report.json).ok()?;
    Some(json["data"].as_str()?.into())
}

/// Adds the files of the node as a whole, and gives it its name: from then on it counts.
fn finish(data: &Path, image: &Path, taken: UnixMillis, directory: &Path) -> Result<(), String> {
    if !image.is_dir() {
        return Err(format!(
            "{} is not there; run this on the machine of the node, as a user who may read its data",
            image.display()
        ));
    }
    let at = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    for name in NODE_FILES {
        copy(&data.join(name), &image.join(name)).map_err(|error| at(&image.join(name), error))?;
    }
    notes(&data.join(NOTES), &image.join(NOTES)).map_err(|error| at(&image.join(NOTES), error))?;
    let mark = image.join(restored::FILE);
    write(&mark, restored::text(taken).as_bytes()).map_err(|error| at(&mark, error))?;
    File::open(image)
        .and_then(|image| image.sync_all())
        .map_err(|error| at(image, error))?;
    fs::rename(image, directory).map_err(|error| match error.raw_os_error() {
        Some(libc::EXDEV) => format!(
            "{} is on another file system than the data directory {}; name one on the same, and copy it from there",
            directory.display(),
            data.display()
        ),
        _ => at(directory, error),
    })?;
    let parent = directory.parent().unwrap_or(directory);
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|error| at(parent, error))
}

/// A file that is not there is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::read(from) {
        Ok(bytes) => write(to, &bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn notes(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    fs::create_dir(to)?;
    for entry in entries {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    File::open(to)?.sync_all()
}

/// Durable on return, and readable by its owner only.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &str) -> StatusReport {
        StatusReport {
            serving: true,
            message: String::new(),
            json: format!("{{\"by_shard\":[{rows}]}}"),
        }
    }

    #[test]
    fn it_is_made_when_every_shard_has_made_its_part() {
        let row = |name: &str, running: u8, errors: &str| {
            format!(
                "{{\"snapshot\":{{\"name\":\"{name}\",\"running\":{running},\"errors\":[{errors}]}}}}"
            )
        };
        let of = |rows: [String; 2]| made(&report(&rows.join(",")), "one");
        assert_eq!(
            of([row("one", 0, ""), row("one", 1, "")]),
            Some(Made::Running)
        );
        assert_eq!(of([row("one", 0, ""), row("one", 0, "")]), Some(Made::Done));
        let full = of([row("one", 0, "\"the disk is full\""), row("one", 1, "")]);
        assert_eq!(full, Some(Made::Failed("the disk is full".into())));
        let other = of([row("one", 0, ""), row("two", 1, "")]);
        assert!(matches!(other, Some(Made::Failed(why)) if why.contains("(two)")));
        assert_eq!(made(&report("{}"), "one"), None);
    }
}
