//! The page around the charts: figures first, then curves, then where they were taken.

use super::chart::{COLOURS, Chart, Line, nines};
use super::group::{Group, Spread, latency};
use crate::results::{Latency, Report, SecondOf};
use plotters::style::RGBColor;
use std::collections::BTreeSet;
use std::fmt::Write;

const STYLE: &str = "
:root{color-scheme:light}*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:#282e38;background:#fff;margin:0 auto;max-width:1200px;padding:16px}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:1.6em 0 .4em;border-bottom:1px solid #d5dae2}
h3{font-size:1rem;margin:.6em 0 0}p{margin:.4em 0}
.legend span{display:inline-block;margin-right:1.2em;font-weight:600}.legend i{display:inline-block;width:1.6em;
height:.35em;margin-right:.4em;vertical-align:middle;border-radius:2px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:8px 20px}
svg{width:100%;height:auto;display:block}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3em .7em;text-align:right;border-bottom:1px solid #e2e6ec;white-space:nowrap}
th:first-child,td:first-child{text-align:left}thead th{background:#f3f5f8}small{color:#5a6372;display:block}
th.text,td.text{text-align:left}td.text{white-space:normal;overflow-wrap:anywhere;min-width:15em}
.note{background:#fff4d6;border-left:4px solid #b07800;padding:.4em .8em}";

pub fn page(groups: &[Group]) -> Result<String, String> {
    let mut out = String::new();
    out += "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">";
    out += "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">";
    out += &format!(
        "<title>armilla-bench</title><style>{STYLE}</style>\n<body><h1>armilla-bench</h1>\n"
    );
    out += &legend(groups);
    out += &notes(groups);
    out += &figures(groups);
    let kinds: BTreeSet<&str> = groups.iter().flat_map(Group::kinds).collect();
    out += "<h2>Over time</h2>\n<div class=\"charts\">";
    out += &figure(
        "Throughput",
        "operations that ended well",
        &throughput(groups),
    )?;
    for kind in &kinds {
        let title = format!("{} latency", escape(kind));
        out += &figure(
            &title,
            "median (line) and 99th percentile (dashed), of each second",
            &over_time(groups, kind),
        )?;
    }
    out += &figure(
        "Errors",
        "operations that did not end well",
        &errors(groups),
    )?;
    out += "</div>\n<h2>Percentiles</h2>\n<p>Each step to the right is one more nine. In an open loop latency counts \
            from when an operation should have begun.</p>\n<div class=\"charts\">";
    for kind in &kinds {
        out += &figure(&escape(kind), "", &curve(groups, kind))?;
    }
    out += "</div>\n";
    out += &endings(groups, &kinds);
    out += &environments(groups);
    out += "</body></html>\n";
    Ok(out)
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn legend(groups: &[Group]) -> String {
    let mut out = String::from("<p class=\"legend\">");
    for (index, group) in groups.iter().enumerate() {
        let RGBColor(r, g, b) = colour(index);
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "<span><i style=\"background:rgb({r},{g},{b})\"></i>{}</span>",
            escape(&group.name)
        );
    }
    out + "</p>\n"
}

/// What a reader must know before any figure.
fn notes(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        let mut note = |text: String| {
            let _ = writeln!(
                out,
                "<p class=\"note\">{}: {}</p>",
                escape(&group.name),
                escape(&text)
            );
        };
        if let Some(run) = group.runs.iter().find(|run| run.generator.bottleneck) {
            note(run.generator.message.clone());
        }
        let sum = |of: fn(&Report) -> u64| group.runs.iter().map(of).sum::<u64>();
        for (count, what) in [
            (
                sum(|run| run.overall.not_begun),
                "operations were due and never began",
            ),
            (
                sum(|run| run.overall.connections_lost),
                "connections were lost",
            ),
            (
                sum(|run| run.checks.foreign_values),
                "values read were never written to their key",
            ),
            (
                sum(|run| run.checks.stale_gets),
                "gets showed less than was acknowledged before them",
            ),
        ] {
            if count > 0 {
                note(format!("{} {what}", grouped(count as f64)));
            }
        }
    }
    out
}

type Figure<'a> = (String, Box<dyn Fn(&Report) -> Option<f64> + 'a>);

/// A figure of a latency, and a word of a report, under their names.
type OfLatency = (&'static str, fn(&Latency) -> f64);
type Told<'a> = (&'static str, &'a dyn Fn(&Report) -> String);

/// Medians, what they spread over, and how the first group compares with the second.
fn figures(groups: &[Group]) -> String {
    let mut rows: Vec<Figure<'_>> = vec![
        (
            "operations/s".into(),
            Box::new(|run| Some(run.overall.throughput)),
        ),
        (
            "errors".into(),
            Box::new(|run| Some(run.overall.errors as f64)),
        ),
    ];
    let kinds: BTreeSet<&str> = groups.iter().flat_map(Group::kinds).collect();
    for kind in kinds {
        let figures: [OfLatency; 4] = [
            ("p50", |latency| latency.p50),
            ("p99", |latency| latency.p99),
            ("p99.9", |latency| latency.p999),
            ("max", |latency| latency.max),
        ];
        for (name, of) in figures {
            let figure = move |run: &Report| run.operations.get(kind).and_then(latency).map(of);
            rows.push((format!("{kind} {name}, microseconds"), Box::new(figure)));
        }
    }
    let mut out = String::from("<h2>Figures</h2>\n<div class=\"wide\"><table><thead><tr><th></th>");
    for group in groups {
        let _ = write!(out, "<th>{}</th>", escape(&group.name));
    }
    let compared = groups.len() == 2;
    if compared {
        let _ = write!(out, "<th>against {}</th>", escape(&groups[1].name));
    }
    out += "</tr></thead>\n";
    for (name, figure) in &rows {
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        let spreads: Vec<Option<Spread>> = groups.iter().map(|group| group.of(figure)).collect();
        for spread in &spreads {
            out += &cell(*spread);
        }
        if compared {
            let _ = write!(out, "<td>{}</td>", change(spreads[0], spreads[1]));
        }
        out += "</tr>\n";
    }
    out + "</table></div>\n"
}

fn cell(spread: Option<Spread>) -> String {
    match spread {
        None => "<td>–</td>".into(),
        Some(Spread {
            median, runs: 1, ..
        }) => format!("<td>{}</td>", grouped(median)),
        Some(Spread {
            median, min, max, ..
        }) => {
            let (median, min, max) = (grouped(median), grouped(min), grouped(max));
            format!("<td>{median}<small>{min} – {max}</small></td>")
        }
    }
}

/// The change, and whether the runs of both overlap: then it may be chance.
fn change(new: Option<Spread>, base: Option<Spread>) -> String {
    let Some((new, base)) = new.zip(base).filter(|(_, base)| base.median > 0.0) else {
        return "–".into();
    };
    let percent = (new.median / base.median - 1.0) * 100.0;
    let several = new.runs > 1 && base.runs > 1;
    let overlap = several && new.min <= base.max && base.min <= new.max;
    let doubt = if overlap {
        "<small>within the spread</small>"
    } else {
        ""
    };
    format!("{percent:+.1} %{doubt}")
}

fn figure(title: &str, about: &str, chart: &Chart) -> Result<String, String> {
    let svg = chart.svg()?;
    if svg.is_empty() {
        return Ok(String::new());
    }
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("<small>{about}</small>")
    };
    Ok(format!("<div><h3>{title}</h3>{about}{svg}</div>\n"))
}

/// One line of the typical run of each group.
fn lines(groups: &[Group], points: impl Fn(&Report) -> Vec<(f64, f64)>, dashed: bool) -> Vec<Line> {
    let line = |(index, group): (usize, &Group)| {
        let points = points(group.typical()?);
        Some(Line {
            colour: colour(index),
            dashed,
            points,
        })
    };
    groups.iter().enumerate().filter_map(line).collect()
}

/// Seconds that are whole: the last one seldom is.
fn whole_seconds(run: &Report) -> impl Iterator<Item = &crate::results::Second> {
    let whole = run.overall.run_ms / 1000;
    run.seconds
        .iter()
        .filter(move |second| second.second < whole.max(1))
}

fn throughput(groups: &[Group]) -> Chart {
    let points = |run: &Report| {
        whole_seconds(run)
            .map(|s| (s.second as f64, s.operations as f64))
            .collect()
    };
    Chart {
        across: "seconds",
        up: "operations/s",
        percentiles: false,
        lines: lines(groups, points, false),
    }
}

fn errors(groups: &[Group]) -> Chart {
    let any = groups
        .iter()
        .flat_map(|group| &group.runs)
        .any(|run| run.overall.errors > 0);
    let points = |run: &Report| match any {
        true => whole_seconds(run)
            .map(|s| (s.second as f64, s.errors as f64))
            .collect(),
        false => Vec::new(),
    };
    Chart {
        across: "seconds",
        up: "errors/s",
        percentiles: false,
        lines: lines(groups, points, false),
    }
}

fn over_time(groups: &[Group], kind: &str) -> Chart {
    let points = |of: fn(&SecondOf) -> f64| {
        move |run: &Report| {
            let seconds = whole_seconds(run);
            let points = seconds.filter_map(|s| Some((s.second as f64, of(s.kinds.get(kind)?))));
            points.collect()
        }
    };
    let mut all = lines(groups, points(|second| second.p50_us), false);
    all.extend(lines(groups, points(|second| second.p99_us), true));
    Chart {
        across: "seconds",
        up: "microseconds",
        percentiles: false,
        lines: all,
    }
}

fn curve(groups: &[Group], kind: &str) -> Chart {
    let points = |run: &Report| {
        let Some(latency) = run.operations.get(kind).and_then(latency) else {
            return Vec::new();
        };
        // Beyond the last sample there is nothing to see.
        let most = (latency.count.max(10) as f64).log10();
        let points = latency.curve.iter().filter(|(_, us)| *us > 0.0);
        points
            .map(|(percentile, us)| (nines(*percentile).min(most), *us))
            .collect()
    };
    Chart {
        across: "percentile",
        up: "microseconds",
        percentiles: true,
        lines: lines(groups, points, false),
    }
}

fn endings(groups: &[Group], kinds: &BTreeSet<&str>) -> String {
    let mut out = String::from(
        "<h2>How operations ended</h2>\n<div class=\"wide\"><table><thead><tr><th></th>",
    );
    for group in groups {
        let _ = write!(out, "<th>{}</th>", escape(&group.name));
    }
    out += "</tr></thead>\n";
    for kind in kinds {
        let of = |run: &Report| {
            run.operations
                .get(*kind)
                .map(|o| o.returns.clone())
                .unwrap_or_default()
        };
        let runs = groups.iter().flat_map(|group| &group.runs);
        let names: BTreeSet<String> = runs.flat_map(|run| of(run).into_keys()).collect();
        for name in names {
            let _ = write!(out, "<tr><td>{} {}</td>", escape(kind), escape(&name));
            for group in groups {
                out += &cell(group.of(|run| Some(of(run).get(&name).copied().unwrap_or(0) as f64)));
            }
            out += "</tr>\n";
        }
    }
    out + "</table></div>\n"
}

fn environments(groups: &[Group]) -> String {
    let list = |all: &std::collections::BTreeMap<String, String>| {
        let pairs = all.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    let rows: [Told<'_>; 10] = [
        ("node", &|run| {
            let server = &run.environment.server;
            format!(
                "armilla {} at {}, {} shards",
                server.version, server.address, server.shards
            )
        }),
        ("generator", &|run| run.environment.generator.clone()),
        ("command line", &|run| run.environment.arguments.join(" ")),
        ("properties", &|run| list(&run.properties)),
        ("kernel", &|run| run.environment.kernel.clone()),
        ("CPU", &|run| {
            format!("{} x {}", run.environment.cpus, run.environment.cpu)
        }),
        ("governor", &|run| match run.environment.governor.as_str() {
            "" => "not told by the kernel".into(),
            governor => governor.into(),
        }),
        ("memory", &|run| {
            format!("{:.1} GiB", run.environment.memory_kib as f64 / 1_048_576.0)
        }),
        ("load average", &|run| run.environment.load_average.clone()),
        ("generator's CPU", &|run| run.generator.message.clone()),
    ];
    let mut out = String::from(
        "<h2>Where it was measured</h2>\n<div class=\"wide\"><table><thead><tr><th></th>",
    );
    for group in groups {
        let _ = write!(out, "<th class=\"text\">{}</th>", escape(&group.name));
    }
    out += "</tr></thead>\n";
    for (name, of) in rows {
        let _ = write!(out, "<tr><td>{name}</td>");
        for group in groups {
            let told: BTreeSet<String> = group.runs.iter().map(of).collect();
            let told: Vec<String> = told.iter().map(|text| escape(text)).collect();
            let _ = write!(out, "<td class=\"text\">{}</td>", told.join("<br>"));
        }
        out += "</tr>\n";
    }
    out + "</table></div>\n"
}

/// 1234567.8 as 1 234 568, small ones with a digit behind the point.
fn grouped(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
