//! `armilla doctor`

use super::Exit;
use super::node::{Output, print_all, print_json};
use super::start::Start;
use crate::runtime::preflight::{self, Check, Verdict};
use serde_json::{Value, json};

/// Tell whether a node can run here
///
/// Takes what `start` takes, looks at what such a start would need, and changes nothing. `start` makes the same checks:
/// it refuses what fails here.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  armilla doctor
  armilla doctor --data /var/lib/armilla --listen 10.0.0.5:7700 --insecure
  armilla doctor --output json | jq -r '.checks[] | select(.verdict == \"fail\") | .fix'

Exit codes: 0 a node can run here, with or without warnings; 2 wrong usage; 3 something fails.")]
pub(super) struct Doctor {
    #[command(flatten)]
    start: Start,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Doctor {
    pub fn run(&self) -> Exit {
        let plan = match self.start.plan() {
            Ok(plan) => plan,
            Err(message) => {
                eprintln!("armilla: {message}");
                return Exit::Usage;
            }
        };
        let checks = plan.preflight();
        let verdict = preflight::verdict(&checks);
        let printed = match self.output {
            Output::Text => print_all(table(&checks).as_bytes()),
            Output::Json => print_json(&report(&checks, verdict)),
        };
        match verdict {
            Verdict::Fail => Exit::Failed,
            Verdict::Ok | Verdict::Warn => printed,
        }
    }
}

/// A line a check: verdict, name, what was found and what to do.
fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    checks.iter().fold(String::new(), |text, check| {
        let word = match check.verdict {
            Verdict::Ok => "OK",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        format!("{text}{word:<4}  {:<width$}  {check}\n", check.name)
    })
}

fn report(checks: &[Check], verdict: Verdict) -> Value {
    let word = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "verdict": word(check.verdict),
                "found": check.found,
                "fix": check.fix,
            })
        })
        .collect();
    json!({ "verdict": word(verdict), "checks": checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, verdict: Verdict, fix: Option<&str>) -> Check {
        Check {
            name,
            verdict,
            found: "found".to_owned(),
            fix: fix.map(str::to_owned),
        }
    }

    #[test]
    fn the_columns_stand_below_each_other() {
        let checks = [
            check("kernel", Verdict::Ok, None),
            check("open files", Verdict::Warn, Some("run: a")),
            check("addresses", Verdict::Fail, Some("run: b")),
        ];
        assert_eq!(
            table(&checks),
            "OK    kernel      found\n\
             WARN  open files  found; run: a\n\
             FAIL  addresses   found; run: b\n"
        );
    }
}
