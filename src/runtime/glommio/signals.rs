//! SIGTERM and Ctrl-C: the first stops the node in order, the second at once.

use super::StopHandle;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// What the process exits with when it is told twice: 128 + SIGINT, as shells report it.
const EXIT_AT_ONCE: i32 = 130;

/// Starts the thread that waits for signals. Leaving at once is safe: nothing was acknowledged that is not durable.
pub fn stop_on_signals(handles: Vec<StopHandle>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut told = false;
            for _ in signals.forever() {
                if told {
                    signal_hook::low_level::exit(EXIT_AT_ONCE);
                }
                told = true;
                for handle in &handles {
                    handle.stop();
                }
            }
        })?;
    Ok(())
}
