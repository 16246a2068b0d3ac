//! One HTML page of one or several reports: no script, no other file, readable on paper and on a phone.

mod chart;
mod group;
mod html;

use crate::options;
use crate::results::{FORMAT, Report};
use group::Group;
use std::path::{Path, PathBuf};

/// Colours tell so many groups apart.
const GROUPS_MAX: usize = 4;

/// Reads the files and writes the page.
pub fn write(options: &options::Report) -> Result<(), String> {
    let groups = groups(&options.files, &options.base)?;
    let page = html::page(&groups)?;
    let output = &options.output;
    std::fs::write(output, page)
        .map_err(|error| format!("cannot write {}: {error}", output.display()))?;
    println!("wrote {}", output.display());
    Ok(())
}

/// Each file for itself, or all files against all of the base.
fn groups(files: &[PathBuf], base: &[PathBuf]) -> Result<Vec<Group>, String> {
    let name = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    };
    if base.is_empty() {
        if files.len() > GROUPS_MAX {
            return Err(format!(
                "{} files side by side are too many: at most {GROUPS_MAX}; or say with --base which are compared with which",
                files.len()
            ));
        }
        return files
            .iter()
            .map(|path| Ok(Group::new(name(path), vec![read(path)?])))
            .collect();
    }
    let group = |name: String, paths: &[PathBuf]| {
        let reports = paths.iter().map(|path| read(path));
        Ok::<Group, String>(Group::new(
            name,
            reports.collect::<Result<Vec<Report>, String>>()?,
        ))
    };
    let title = |what: &str, paths: &[PathBuf]| match paths {
        [one] => name(one),
        many => format!("{what} ({} runs)", many.len()),
    };
    Ok(vec![
        group(title("new", files), files)?,
        group(title("base", base), base)?,
    ])
}

fn read(path: &Path) -> Result<Report, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| format!("{} is no report of this program: {error}", path.display()))?;
    match report.format == FORMAT {
        true => Ok(report),
        false => Err(format!(
            "{} is of format \"{}\"; this program reads \"{FORMAT}\"",
            path.display(),
            report.format
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Latency, Operation, Overall, Second, SecondOf};

    fn report(throughput: f64) -> Report {
        let latency = |scale: f64| Latency {
            count: 1000,
            p50: 100.0 * scale,
            p99: 900.0 * scale,
            p999: 2000.0 * scale,
            max: 5000.0,
            curve: vec![(0.0, 10.0), (50.0, 100.0), (99.0, 900.0), (100.0, 5000.0)],
            ..Latency::default()
        };
        let operation = Operation {
            count: 1000,
            throughput,
            errors: 2,
            latency_us: Some(latency(1.0)),
            intended_us: Some(latency(2.0)),
            failed_us: None,
            returns: [("OK".to_string(), 1000), ("FULL".to_string(), 2)].into(),
        };
        let second = |second| Second {
            second,
            operations: throughput as u64,
            errors: 0,
            kinds: [(
                "READ".to_string(),
                SecondOf {
                    count: 10,
                    p50_us: 100.0,
                    p99_us: 900.0,
                    p999_us: 2000.0,
                    max_us: 5000.0,
                },
            )]
            .into(),
        };
        Report {
            format: FORMAT.into(),
            phase: "run".into(),
            overall: Overall {
                run_ms: 3000,
                throughput,
                operations: 1000,
                errors: 2,
                ..Overall::default()
            },
            operations: [("READ".to_string(), operation)].into(),
            seconds: (0..3).map(second).collect(),
            checks: Default::default(),
            generator: Default::default(),
            environment: Default::default(),
            properties: [("table".to_string(), "<b>".to_string())].into(),
        }
    }

    #[test]
    fn a_page_shows_groups_with_their_spread() {
        let new = Group::new(
            "new".into(),
            vec![report(900.0), report(1000.0), report(1300.0)],
        );
        let base = Group::new("base".into(), vec![report(500.0)]);
        let page = html::page(&[new, base]).unwrap();
        for wanted in [
            "<svg",
            "1 000",
            "900 – 1 300",
            "+100.0 %",
            "FULL",
            "&lt;b&gt;",
            "microseconds",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert!(!page.contains("http://www.example") && !page.contains("<script"));
    }

    #[test]
    fn strange_files_are_refused() {
        let path = std::env::temp_dir().join(format!("armilla-bench-{}.json", std::process::id()));
        for (text, why) in [("{}", "no report"), ("nonsense", "no report")] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().contains(why));
        }
        let other = Report {
            format: "armilla-bench 99".into(),
            ..report(1.0)
        };
        std::fs::write(&path, serde_json::to_string(&other).unwrap()).unwrap();
        assert!(read(&path).unwrap_err().contains("is of format"));
        std::fs::remove_file(&path).unwrap();
        let many = vec![path; GROUPS_MAX + 1];
        assert!(
            groups(&many, &[])
                .err()
                .is_some_and(|why| why.contains("--base"))
        );
    }
}
