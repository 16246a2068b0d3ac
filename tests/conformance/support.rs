//! Executors, directories and event loops for the cases.

use armilla::runtime::Runtime;
use armilla::runtime::glommio;
use armilla::runtime::net::{ConnectionId, Event, Net};
use armilla::runtime::time::timeout;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A case that waits longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

static TURN: Mutex<()> = Mutex::new(());

/// Runs `case` on a real shard, one at a time in this process: rings and their buffers are a bounded good.
pub fn on_shard<T, F>(case: impl FnOnce(Runtime) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let running = glommio::run(0, case).expect("an executor starts");
    running.join().expect("the case holds")
}

pub fn directory(name: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    remove(&path);
    std::fs::create_dir_all(&path).expect("the target directory is writable");
    path
}

pub fn remove(path: &Path) {
    if path.exists() {
        std::fs::remove_dir_all(path).expect("a test directory can be removed");
    }
}

/// Events taken one by one, in order.
pub struct Events {
    runtime: Runtime,
    net: Net,
    taken: Vec<Event>,
}

impl Events {
    pub fn of(runtime: &Runtime) -> Events {
        Events {
            runtime: runtime.clone(),
            net: runtime.net(),
            taken: Vec::new(),
        }
    }

    pub async fn next(&mut self) -> Event {
        if self.taken.is_empty() {
            let waiting = self.net.events(&mut self.taken);
            timeout(&self.runtime, PATIENCE, waiting)
                .await
                .expect("an event comes in time");
        }
        self.taken.remove(0)
    }

    /// The next events until `wanted` finds what it looks for; the others are dropped.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    pub async fn accepted(&mut self) -> ConnectionId {
        self.until(|event| match event {
            Event::Accepted { connection, .. } => Some(connection),
            _ => None,
        })
        .await
    }

    pub async fn closed(&mut self, which: ConnectionId) {
        self.until(|event| match event {
            Event::Closed { connection, .. } if connection == which => Some(()),
            _ => None,
        })
        .await;
    }
}
