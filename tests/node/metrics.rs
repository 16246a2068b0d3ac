//! `/metrics` of a real node, against the rules of Prometheus' names.

use crate::harness::{Node, Scratch, alone, code, cpus, eventually, http, report};
use std::collections::{BTreeMap, BTreeSet};

/// Families by name: their type, and their samples: name and labels, value.
type Page = BTreeMap<String, (String, Vec<(String, f64)>)>;

/// Reads a page; what is not in order is a failure.
fn read(page: &str) -> Page {
    let mut families = Page::new();
    let (mut series, mut helped, mut current) = (BTreeSet::new(), String::new(), String::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            assert!(help.len() > 10 && help.ends_with('.'), "{line}");
            assert!(!families.contains_key(name), "twice: {line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "a family has its help first");
            families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            current = name.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            assert!(series.insert(sample.to_owned()), "twice: {sample}");
            let (kind, samples) = families.get_mut(&current).expect("a type");
            let name = sample.split('{').next().unwrap_or_default();
            let own = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| name == format!("{current}{end}")),
                _ => name == current,
            };
            assert!(own, "{line} stands below {current}");
            if let Some((_, labels)) = sample.split_once('{') {
                let labels = labels.strip_suffix('}').expect("labels end");
                for label in labels.split(',') {
                    let (label, value) = label.split_once('=').expect("a label");
                    assert!(
                        label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                        "{line}"
                    );
                    assert!(value.starts_with('"') && value.ends_with('"'), "{line}");
                }
            }
            samples.push((sample.to_owned(), value.parse().expect("a number")));
        }
    }
    families
}

fn lint(families: &Page) {
    for (name, (kind, samples)) in families {
        assert!(name.starts_with("armilla_"), "{name}");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name} is a {kind}"
        );
        let words: Vec<&str> = name.trim_end_matches("_total").split('_').collect();
        for bad in [
            "ms", "us", "ns", "millis", "kib", "mib", "percent", "count", "sum", "bucket",
        ] {
            assert!(
                !words.contains(&bad),
                "{name}: base units, and no end of a histogram"
            );
        }
        let (_, before) = words.split_last().expect("a name");
        for unit in ["seconds", "bytes"] {
            assert!(!before.contains(&unit), "{name}: the unit comes last");
        }
        if kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name}");
            buckets_rise(name, samples);
        }
        assert!(!samples.is_empty(), "{name} has no sample");
    }
}

/// The buckets of each series never fall, and end with its count.
fn buckets_rise(name: &str, samples: &[(String, f64)]) {
    let (mut bound, mut below) = (0.0, 0.0);
    for (sample, value) in samples {
        if let Some((_, le)) = sample.split_once("le=\"") {
            let le = le.trim_end_matches("\"}").replace("+Inf", "inf");
            let le: f64 = le.parse().expect("a bound");
            assert!(le > bound && *value >= below, "{sample} {value}");
            (bound, below) = (le, *value);
        } else if sample.starts_with(&format!("{name}_count")) {
            assert!(bound.is_infinite() && *value == below, "{sample} {value}");
            (bound, below) = (0.0, 0.0);
        }
    }
    assert_eq!(bound, 0.0, "{name}: a series ends with its count");
}

/// The sum over all labels.
fn sum(families: &Page, name: &str, with: &str) -> f64 {
    let family = name.trim_end_matches("_count");
    let samples = &families[family].1;
    let own = samples
        .iter()
        .filter(|(sample, _)| sample.starts_with(name) && sample.contains(with));
    own.map(|(_, value)| value).sum()
}

#[test]
fn the_page_is_well_formed_and_says_what_status_says() {
    let _alone = alone();
    let scratch = Scratch::new("metrics");
    let node = Node::start_with(&scratch.data(), &["--cores", &cpus(2)]);
    let page = || {
        let answer = http(&node.admin, "/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("version=0.0.4"), "{head}");
        read(body)
    };
    let requests = "armilla_requests_total";
    let replies = "armilla_replies_total";
    let durations = "armilla_request_duration_seconds_count";
    let fresh = page();
    lint(&fresh);
    for name in [requests, replies, durations] {
        assert_eq!(sum(&fresh, name, ""), 0.0, "{name}: nobody asked yet");
    }
    for n in 0..6 {
        let key = format!("k{n}");
        assert_eq!(code(&node.run(&["put", &key, &"v".repeat(500)])), 0);
        assert_eq!(code(&node.run(&["get", &key])), 0);
    }
    assert_eq!(code(&node.run(&["get", "absent"])), 1);
    eventually("the connections are closed", || {
        report(&node)["connections"] == 0
    });

    let families = page();
    lint(&families);
    let names = |families: &Page| -> Vec<String> {
        let samples = families.values().flat_map(|(_, samples)| samples);
        samples.map(|(sample, _)| sample.clone()).collect()
    };
    assert_eq!(names(&fresh), names(&families), "no series appears later");
    for (op, count) in [("get", 7.0), ("put", 6.0), ("delete", 0.0)] {
        let op = format!("op=\"{op}\"");
        assert_eq!(sum(&families, requests, &op), count, "{op}");
        assert_eq!(sum(&families, durations, &op), count, "{op}");
    }
    assert_eq!(sum(&families, replies, "status=\"not_found\""), 1.0);
    // Every request is answered once: neither a crossing nor this page counts as a reply.
    assert_eq!(
        sum(&families, replies, ""),
        sum(&families, requests, ""),
        "{families:?}"
    );
    assert_eq!(
        sum(&families, "armilla_crossings_sent_total", ""),
        sum(&families, "armilla_crossings_received_total", "")
    );
    let groups = sum(&families, "armilla_log_groups_total", "");
    let syncs = sum(&families, "armilla_log_sync_duration_seconds_count", "");
    assert!(groups >= 2.0 && groups == syncs, "{groups} {syncs}");
    for shard in ["shard=\"0\"", "shard=\"1\""] {
        assert_eq!(sum(&families, "armilla_shard_serving", shard), 1.0);
    }
    assert_eq!(sum(&families, "armilla_build_info", "version=\""), 1.0);

    let status = report(&node);
    for (name, count) in [
        (requests, &status["requests"]),
        (
            "armilla_user_written_bytes_total",
            &status["engine"]["user_bytes_written"],
        ),
        ("armilla_crossings_sent_total", &status["crossed_out"]),
        ("armilla_segments", &status["engine"]["segments"]),
        (
            "armilla_unreadable_places",
            &status["damage"]["unreadable_places"],
        ),
    ] {
        assert_eq!(Some(sum(&families, name, "")), count.as_f64(), "{name}");
    }
    assert!(sum(&families, "armilla_user_written_bytes_total", "") >= 3000.0);
}
