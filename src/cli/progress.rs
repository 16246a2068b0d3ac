//! How far a long verb has come: a bar on a terminal, else a line now and then; on standard error.

use crate::base::units::HumanBytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Between two lines where nobody watches.
const LINE_PAUSE: Duration = Duration::from_secs(5);
/// Redraws of a bar in a second.
const DRAWS_A_SECOND: u8 = 5;

pub struct Progress {
    doing: &'static str,
    bar: Option<ProgressBar>,
    began: Instant,
    next_line: Instant,
    whole: Option<u64>,
    pub rows: u64,
    pub bytes: u64,
}

impl Progress {
    /// `doing`: what is done to rows. `whole`: how much there is to go through, if that is known.
    pub fn new(doing: &'static str, whole: Option<u64>) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWS_A_SECOND);
            let bar = ProgressBar::with_draw_target(whole, target);
            let template = match whole {
                Some(_) => "{wide_bar} {percent:>3} %  {msg}",
                None => "{spinner} {msg}",
            };
            bar.with_style(ProgressStyle::with_template(template).expect("it is a template"))
        });
        let began = Instant::now();
        Progress {
            doing,
            bar,
            began,
            next_line: began + LINE_PAUSE,
            whole,
            rows: 0,
            bytes: 0,
        }
    }

    pub fn row(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes as u64;
    }

    /// `done`: of the whole.
    pub fn show(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(self.counts());
        } else if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + LINE_PAUSE;
            let share = self.whole.filter(|whole| *whole > 0).map(|whole| {
                let percent = u128::from(done) * 100 / u128::from(whole);
                format!(", {percent} %")
            });
            eprintln!("{}{}", self.counts(), share.unwrap_or_default());
        }
    }

    /// Says something else without spoiling the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// The bar goes; this is what is told of it all.
    pub fn finish(&mut self) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.began.elapsed().as_secs_f64();
        format!(
            "{} in {seconds:.1} s, {:.0} rows/s",
            self.counts(),
            self.per_second()
        )
    }

    fn counts(&self) -> String {
        format!(
            "{} rows {}, {}",
            self.rows,
            self.doing,
            HumanBytes(self.bytes)
        )
    }

    fn per_second(&self) -> f64 {
        self.rows as f64 / self.began.elapsed().as_secs_f64().max(1e-6)
    }
}
