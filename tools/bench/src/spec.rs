//! What a workload is: YCSB's properties, read, checked and with their defaults.

use crate::properties::Properties;
use crate::record::{Lengths, Shape};
use crate::ycsb::chooser::{Distribution, Records};
use crate::ycsb::key::KeyNames;
use crate::ycsb::mix::Mix;
use std::time::Duration;

/// Records where `recordcount` does not say: YCSB then has none.
const RECORDS_DEFAULT: u64 = 100_000;

/// The table of YCSB's files; here it is the bucket that every node has.
const TABLE_DEFAULT: &str = "usertable";

/// Which times are told: from when an operation was sent, from when it should have been, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interval {
    #[default]
    Op,
    Intended,
    Both,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub records: Records,
    pub keys: KeyNames,
    /// Empty: the one that every node has.
    pub bucket: Vec<u8>,
    pub shape: Shape,
    pub write_all_fields: bool,
    pub mix: Mix,
    pub distribution: Distribution,
    /// Operations of a run; `None`: as many as there is time for.
    pub operations: Option<u64>,
    pub seconds: Option<Duration>,
    /// Operations a second of all threads; `None`: a closed loop.
    pub target: Option<f64>,
    /// YCSB's threads: each has one operation in flight. Here they are connections.
    pub clients: Option<u32>,
    pub interval: Option<Interval>,
    pub percentiles: Vec<f64>,
    pub status_seconds: Option<u64>,
}

impl Spec {
    pub fn new(properties: &Properties) -> Result<Spec, String> {
        refuse_what_is_not_there(properties)?;
        let weight = |name: &str, default: f64| {
            let weight = properties.parse(name, default)?;
            if weight.is_finite() && weight >= 0.0 {
                return Ok(weight);
            }
            Err(format!(
                "property {name}={weight}: a proportion is not negative"
            ))
        };
        let mix = Mix {
            read: weight("readproportion", 0.95)?,
            update: weight("updateproportion", 0.05)?,
            insert: weight("insertproportion", 0.0)?,
            read_modify_write: weight("readmodifywriteproportion", 0.0)?,
        };
        if mix.sum() == 0.0 {
            return Err("all proportions are zero: there is nothing to do".into());
        }
        let operations = some_count(properties, "operationcount")?;
        let records = records(properties, &mix, operations)?;
        let table = properties.get("table").unwrap_or(TABLE_DEFAULT);
        let bucket = if table == TABLE_DEFAULT { "" } else { table };
        let target = properties.parse("target", 0.0)?;
        Ok(Spec {
            records,
            keys: KeyNames {
                // As in YCSB, whatever is not "hashed" is ordered.
                hashed: properties
                    .get("insertorder")
                    .is_none_or(|order| order == "hashed"),
                zero_padding: properties.parse("zeropadding", 1)?,
            },
            bucket: bucket.as_bytes().to_vec(),
            shape: shape(properties)?,
            write_all_fields: properties.flag("writeallfields", false),
            mix,
            distribution: distribution(properties)?,
            operations,
            seconds: some_count(properties, "maxexecutiontime")?.map(Duration::from_secs),
            target: (target > 0.0).then_some(target),
            clients: Some(properties.parse("threadcount", 0)?).filter(|count| *count > 0),
            interval: match properties.get("measurement.interval") {
                None => None,
                Some("op") => Some(Interval::Op),
                Some("intended") => Some(Interval::Intended),
                Some("both") => Some(Interval::Both),
                Some(other) => {
                    return Err(format!(
                        "property measurement.interval={other}: expected op, intended or both"
                    ));
                }
            },
            percentiles: percentiles(properties)?,
            status_seconds: some_count(properties, "status.interval")?,
        })
    }

    /// Things that a user of YCSB may expect otherwise.
    pub fn remarks(properties: &Properties) -> Vec<String> {
        let mut remarks = Vec::new();
        if !properties.flag("readallfields", true) {
            remarks.push("readallfields=false: the whole record is read, it is one value".into());
        }
        if properties.flag("dataintegrity", false) {
            remarks.push("dataintegrity: every value read is checked in any case".into());
        }
        remarks
    }
}

fn refuse_what_is_not_there(properties: &Properties) -> Result<(), String> {
    if properties.parse("scanproportion", 0.0f64)? > 0.0 {
        return Err("scanproportion > 0 (workload E): not implemented: hash-ordered store".into());
    }
    let refuse = |name: &str, good: &[&str]| match properties.get(name) {
        Some(value) if !good.iter().any(|good| value.ends_with(good)) => {
            let good = good.join(" or ");
            Err(format!(
                "property {name}={value}: not implemented; it can be {good}"
            ))
        }
        Some(_) | None => Ok(()),
    };
    refuse("workload", &[".CoreWorkload"])?;
    refuse("measurementtype", &["hdrhistogram"])?;
    refuse(
        "fieldlengthdistribution",
        &["constant", "uniform", "zipfian"],
    )
}

/// A count whose zero means that there is none.
fn some_count(properties: &Properties, name: &str) -> Result<Option<u64>, String> {
    Ok(Some(properties.parse(name, 0)?).filter(|count| *count > 0))
}

fn records(properties: &Properties, mix: &Mix, operations: Option<u64>) -> Result<Records, String> {
    let count = some_count(properties, "recordcount")?.unwrap_or(RECORDS_DEFAULT);
    let first: u64 = properties.parse("insertstart", 0)?;
    let mine: u64 = properties.parse("insertcount", count.saturating_sub(first))?;
    let end = first.checked_add(mine);
    if mine == 0 || end.is_none_or(|end| end > count) {
        return Err(format!(
            "insertstart={first} and insertcount={mine} do not fit into recordcount={count}"
        ));
    }
    let inserts = operations.unwrap_or(count) as f64 * mix.insert;
    Ok(Records {
        count,
        first,
        mine,
        inserts: inserts as u64,
    })
}

fn shape(properties: &Properties) -> Result<Shape, String> {
    let fields = properties.parse("fieldcount", 10u32)?;
    let length = properties.parse("fieldlength", 100u32)?;
    let least = properties.parse("minfieldlength", 1u32)?;
    if fields == 0 {
        return Err("property fieldcount=0: a record has a field".into());
    }
    let lengths = match properties.get("fieldlengthdistribution") {
        None | Some("constant") => Lengths::Constant(length),
        Some(_) if least > length => {
            return Err(format!(
                "minfieldlength={least} is more than fieldlength={length}"
            ));
        }
        Some("uniform") => Lengths::Uniform(least, length),
        Some(_) => Lengths::zipfian(least, length),
    };
    Ok(Shape { fields, lengths })
}

fn distribution(properties: &Properties) -> Result<Distribution, String> {
    let fraction = |name: &str, default: f64| {
        let value = properties.parse(name, default)?;
        match (0.0..=1.0).contains(&value) {
            true => Ok(value),
            false => Err(format!("property {name}={value}: not between 0 and 1")),
        }
    };
    Ok(
        match properties.get("requestdistribution").unwrap_or("uniform") {
            "uniform" => Distribution::Uniform,
            "zipfian" => Distribution::Zipfian,
            "latest" => Distribution::Latest,
            "sequential" => Distribution::Sequential,
            "hotspot" => Distribution::Hotspot {
                data_fraction: fraction("hotspotdatafraction", 0.2)?,
                operation_fraction: fraction("hotspotopnfraction", 0.8)?,
            },
            "exponential" => {
                let percentile = properties.parse("exponential.percentile", 95.0)?;
                let fraction = fraction("exponential.frac", 0.857_142_857_1)?;
                if percentile <= 0.0 || percentile >= 100.0 || fraction == 0.0 {
                    return Err(
                        "exponential.percentile is above 0 and below 100, .frac above 0".into(),
                    );
                }
                Distribution::Exponential {
                    percentile,
                    fraction,
                }
            }
            other => return Err(format!("unknown request distribution \"{other}\"")),
        },
    )
}

fn percentiles(properties: &Properties) -> Result<Vec<f64>, String> {
    let text = properties
        .get("hdrhistogram.percentiles")
        .unwrap_or("50,95,99,99.9");
    let parse = |text: &str| {
        text.trim()
            .parse()
            .ok()
            .filter(|p| (0.0..=100.0).contains(p))
    };
    let all: Option<Vec<f64>> = text.split(',').map(parse).collect();
    all.ok_or_else(|| format!("property hdrhistogram.percentiles={text}: expected 50,95,99"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str, overrides: &[&str]) -> Result<Spec, String> {
        let path = format!("{}/workloads/{file}", env!("CARGO_MANIFEST_DIR"));
        let overrides: Vec<String> = overrides.iter().map(|each| each.to_string()).collect();
        let properties = Properties::read(&[path], &overrides)?;
        assert_eq!(
            properties.warnings().len(),
            if file == "workloade" { 2 } else { 0 }
        );
        Spec::new(&properties)
    }

    fn with(overrides: &[&str]) -> Result<Spec, String> {
        let none: &[&str] = &[];
        let overrides: Vec<String> = overrides.iter().map(|each| each.to_string()).collect();
        Spec::new(&Properties::read(none, &overrides)?)
    }

    #[test]
    fn the_published_workloads_are_what_they_say() {
        let mix = |read, update, insert, read_modify_write| Mix {
            read,
            update,
            insert,
            read_modify_write,
        };
        for (file, wanted, distribution) in [
            ("workloada", mix(0.5, 0.5, 0.0, 0.0), Distribution::Zipfian),
            (
                "workloadb",
                mix(0.95, 0.05, 0.0, 0.0),
                Distribution::Zipfian,
            ),
            ("workloadc", mix(1.0, 0.0, 0.0, 0.0), Distribution::Zipfian),
            ("workloadd", mix(0.95, 0.0, 0.05, 0.0), Distribution::Latest),
            ("workloadf", mix(0.5, 0.0, 0.0, 0.5), Distribution::Zipfian),
        ] {
            let spec = of(file, &[]).unwrap();
            assert_eq!(
                (spec.mix, spec.distribution),
                (wanted, distribution),
                "{file}"
            );
            assert_eq!((spec.records.count, spec.operations), (1000, Some(1000)));
            assert_eq!((spec.shape.fields, spec.write_all_fields), (10, false));
            assert!(spec.bucket.is_empty() && spec.keys.hashed);
        }
        assert_eq!(of("workloadd", &[]).unwrap().records.inserts, 50);
        let why = of("workloade", &[]).unwrap_err();
        assert!(why.contains("not implemented: hash-ordered store"), "{why}");
        assert_eq!(
            of("workloada", &["recordcount=7"]).unwrap().records.count,
            7
        );
    }

    #[test]
    fn defaults_are_those_of_the_code_and_nonsense_is_refused() {
        let spec = with(&[]).unwrap();
        assert_eq!(spec.distribution, Distribution::Uniform);
        assert_eq!((spec.mix.read, spec.mix.update), (0.95, 0.05));
        assert_eq!(
            (spec.operations, spec.seconds, spec.target),
            (None, None, None)
        );
        assert_eq!(with(&["table=other"]).unwrap().bucket, b"other");
        assert!(!with(&["insertorder=ordered"]).unwrap().keys.hashed);
        for bad in [
            "fieldcount=0",
            "readproportion=-1",
            "requestdistribution=gauss",
            "fieldlengthdistribution=histogram",
            "measurementtype=raw",
            "measurement.interval=never",
            "workload=site.ycsb.workloads.TimeSeriesWorkload",
            "insertcount=100001",
            "exponential.percentile=100",
            "hdrhistogram.percentiles=50,x",
        ] {
            let name = bad.split('=').next().unwrap_or(bad);
            let exponential = "requestdistribution=exponential";
            let why = with(&[exponential, bad]).unwrap_err();
            assert!(
                why.contains(name) || why.contains("distribution"),
                "{bad}: {why}"
            );
        }
    }
}
