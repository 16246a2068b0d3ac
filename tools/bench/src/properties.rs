//! YCSB's properties: files as Java reads them, and overrides. Which there are, and what becomes of those that are not.

use std::collections::BTreeMap;
use std::path::Path;

/// Those that mean something here.
const KNOWN: &[&str] = &[
    "core_workload_insertion_keep_going_on_error",
    "dataintegrity",
    "exponential.frac",
    "exponential.percentile",
    "fieldcount",
    "fieldlength",
    "fieldlengthdistribution",
    "hdrhistogram.percentiles",
    "hotspotdatafraction",
    "hotspotopnfraction",
    "insertcount",
    "insertorder",
    "insertproportion",
    "insertstart",
    "maxexecutiontime",
    "measurement.interval",
    "measurementtype",
    "minfieldlength",
    "operationcount",
    "readallfields",
    "readmodifywriteproportion",
    "readproportion",
    "recordcount",
    "requestdistribution",
    "scanproportion",
    "status.interval",
    "table",
    "target",
    "threadcount",
    "updateproportion",
    "workload",
    "writeallfields",
    "zeropadding",
];

/// Those of YCSB that change nothing here, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("fieldnameprefix", "names of fields are not stored"),
    ("maxscanlength", "there are no scans"),
    ("minscanlength", "there are no scans"),
    (
        "readallfieldsbyname",
        "a record is one value, read as a whole",
    ),
    ("scanlengthdistribution", "there are no scans"),
    ("status", "progress is always told"),
];

/// Names and values; later ones replace earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// All files in their order, then the overrides.
    pub fn read(files: &[impl AsRef<Path>], overrides: &[String]) -> Result<Properties, String> {
        let mut properties = Properties::default();
        for path in files {
            let path = path.as_ref();
            let file = std::fs::File::open(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            properties
                .add(std::io::BufReader::new(file))
                .map_err(|why| format!("{}: {why}", path.display()))?;
        }
        for each in overrides {
            let (name, value) = each
                .split_once('=')
                .ok_or_else(|| format!("-p {each}: expected NAME=VALUE"))?;
            properties.set(name.trim(), value.trim());
        }
        Ok(properties)
    }

    fn add(&mut self, text: impl std::io::Read) -> Result<(), String> {
        let read = java_properties::read(text).map_err(|error| error.to_string())?;
        self.0.extend(read);
        Ok(())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_string(), value.to_string());
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(KNOWN.contains(&name), "{name} is not among the known ones");
        self.0.get(name).map(|value| value.trim())
    }

    /// The value as what it is meant to be, or `default` where there is none.
    pub fn parse<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("property {name}={text}: not a value of its kind")),
        }
    }

    /// As Java's `Boolean.parseBoolean`: whatever is not true is false.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name)
            .map_or(default, |text| text.eq_ignore_ascii_case("true"))
    }

    /// What the user should know of names that mean nothing here.
    pub fn warnings(&self) -> Vec<String> {
        let strange = self.0.keys().filter(|name| !KNOWN.contains(&name.as_str()));
        let told = strange.map(|name| {
            match WITHOUT_EFFECT
                .iter()
                .find(|(known, _)| *known == name.as_str())
            {
                Some((_, why)) => format!("property {name} has no effect: {why}"),
                None => format!("unknown property {name}: ignored"),
            }
        });
        told.collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_java_reads_them_and_overrides_win() {
        let mut properties = Properties::default();
        let text = concat!(
            "# a comment\n! another\nrecordcount = 1000\n",
            "workload:site.ycsb.\\\n    workloads.CoreWorkload\n\ntable t\n"
        );
        properties.add(text.as_bytes()).unwrap();
        assert_eq!(
            properties.get("workload"),
            Some("site.ycsb.workloads.CoreWorkload")
        );
        assert_eq!(properties.get("table"), Some("t"));
        assert_eq!(properties.parse("recordcount", 0u64), Ok(1000));
        assert_eq!(properties.parse("operationcount", 7u64), Ok(7));
        properties.set("recordcount", "many");
        assert!(
            properties
                .parse("recordcount", 0u64)
                .unwrap_err()
                .contains("recordcount=many")
        );
        assert!(
            properties.flag("readallfields", true) && !properties.flag("writeallfields", false)
        );
        let none: &[&Path] = &[];
        let overrides = ["recordcount=5".to_string(), "recordcount = 6".to_string()];
        let properties = Properties::read(none, &overrides).unwrap();
        assert_eq!(properties.get("recordcount"), Some("6"));
        assert!(Properties::read(none, &["recordcount".to_string()]).is_err());
        assert!(
            Properties::read(&["no/such/file"], &[])
                .unwrap_err()
                .contains("no/such/file")
        );
    }

    #[test]
    fn strange_properties_are_named() {
        let mut properties = Properties::default();
        for name in ["recordcount", "recordcuont", "fieldnameprefix"] {
            properties.set(name, "1");
        }
        let warnings = properties.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("fieldnameprefix has no effect"));
        assert!(warnings[1].contains("unknown property recordcuont"));
    }
}
