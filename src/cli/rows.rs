//! Keys and values as lines of text, for import and export. Pure.
//!
//! TSV: key, tab, the rest of the line. Bytes as they are: nothing is escaped, a carriage return is part of the value.
//! NDJSON: an object a line; bytes that are no UTF-8 in base64.

use super::node::base64;
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Bytes of the longest line: JSON may write a byte as six.
pub const LINE_BYTES_MAX: usize = 6 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 1024;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Key, tab, the rest of the line as value; for keys without tabs and newlines, and values without newlines
    Tsv,
    /// A JSON object a line; for anything
    Ndjson,
}

impl Format {
    /// As asked for, or as the name of the file says.
    pub fn of(asked: Option<Format>, file: &Path) -> Result<Format, String> {
        let by_name = match file.extension().and_then(|e| e.to_str()) {
            Some("tsv") => Some(Format::Tsv),
            Some("ndjson" | "jsonl") => Some(Format::Ndjson),
            _ => None,
        };
        asked.or(by_name).ok_or_else(|| {
            format!(
                "the name '{}' does not tell the format: pass --format tsv or --format ndjson",
                file.display()
            )
        })
    }
}

/// One value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub sibling: Nth,
}

/// Which one of the values of its key a row is, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nth {
    pub number: u32,
    pub of: u32,
}

impl Nth {
    pub const ONLY: Nth = Nth { number: 1, of: 1 };
}

/// The fields of a line of NDJSON.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sibling: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    siblings: Option<u32>,
}

impl Row {
    /// Reads a line without its newline. The error says what is wrong with it, and what a row looks like.
    pub fn parse(format: Format, line: &[u8]) -> Result<Row, String> {
        let row = match format {
            Format::Tsv => parse_tsv(line),
            Format::Ndjson => parse_json(line),
        }?;
        match row.key.len() {
            1..=KEY_BYTES_MAX => Ok(row),
            len => Err(format!(
                "a key of {len} bytes: a key has 1 to {KEY_BYTES_MAX}"
            )),
        }
    }

    /// Appends the row as a line. The error says why the format cannot hold it.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) -> Result<(), String> {
        match format {
            Format::Tsv => {
                let refused = |what| {
                    Err(format!(
                        "{what}, which TSV cannot hold: export with --format ndjson"
                    ))
                };
                if self.sibling.of > 1 {
                    return refused(format!("the key has {} values", self.sibling.of));
                }
                if self.key.contains(&b'\t') || self.key.contains(&b'\n') {
                    return refused("the key has a tab or a newline".to_owned());
                }
                if self.value.contains(&b'\n') {
                    return refused("the value has a newline".to_owned());
                }
                out.extend_from_slice(&self.key);
                out.push(b'\t');
                out.extend_from_slice(&self.value);
            }
            Format::Ndjson => {
                let (key, key_base64) = text_or_base64(&self.key);
                let (value, value_base64) = text_or_base64(&self.value);
                let several = self.sibling.of > 1;
                let fields = Fields {
                    key,
                    key_base64,
                    value,
                    value_base64,
                    sibling: several.then_some(self.sibling.number),
                    siblings: several.then_some(self.sibling.of),
                };
                serde_json::to_writer(&mut *out, &fields).expect("memory takes all");
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

fn parse_tsv(line: &[u8]) -> Result<Row, String> {
    let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
        return Err("no tab: a row is a key, a tab, and the value".to_owned());
    };
    Ok(Row {
        key: line[..tab].to_vec(),
        value: line[tab + 1..].to_vec(),
        sibling: Nth::ONLY,
    })
}

fn parse_json(line: &[u8]) -> Result<Row, String> {
    let fields: Fields = serde_json::from_slice(line).map_err(|why| {
        format!("{why}; a row is an object like {{\"key\":\"city\",\"value\":\"Riga\"}}")
    })?;
    let bytes = |name: &str, text: Option<String>, base64: Option<String>| match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => {
            let decoded = BASE64_STANDARD.decode(base64);
            decoded.map_err(|why| format!("\"{name}_base64\" is no base64: {why}"))
        }
        _ => Err(format!("one of \"{name}\" and \"{name}_base64\" is needed")),
    };
    let sibling = match (fields.sibling, fields.siblings) {
        (None, None) => Nth::ONLY,
        (Some(number), Some(of)) if (1..=of).contains(&number) => Nth { number, of },
        _ => {
            return Err(
                "\"sibling\" counts from 1 to \"siblings\", and neither stands alone".to_owned(),
            );
        }
    };
    Ok(Row {
        key: bytes("key", fields.key, fields.key_base64)?,
        value: bytes("value", fields.value, fields.value_base64)?,
        sibling,
    })
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sibling() -> impl Strategy<Value = Nth> {
        (1u32..5, 0u32..5).prop_map(|(number, more)| Nth {
            number,
            of: number + more,
        })
    }

    fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), len)
    }

    proptest! {
        /// Whatever is written is read back the same; what cannot be written is refused.
        #[test]
        fn rows_round_trip(
            key in prop_oneof![bytes(1..20), "[ -~\t\n\u{e9}]{1,20}".prop_map(String::into_bytes)],
            value in prop_oneof![bytes(0..50), "[ -~\t\n\r\u{e9}]{0,50}".prop_map(String::into_bytes)],
            sibling in sibling(),
        ) {
            let row = Row { key, value, sibling };
            for format in [Format::Tsv, Format::Ndjson] {
                let mut line = Vec::new();
                let written = row.write(format, &mut line);
                let fits = row.sibling == Nth::ONLY
                    && !row.key.iter().any(|b| b"\t\n".contains(b))
                    && !row.value.contains(&b'\n');
                match written {
                    Ok(()) => {
                        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                        prop_assert!(line.len() <= LINE_BYTES_MAX);
                        prop_assert_eq!(Row::parse(format, &line[..line.len() - 1]), Ok(row.clone()));
                    }
                    Err(why) => prop_assert!(format == Format::Tsv && !fits && why.contains("ndjson")),
                }
            }
        }

        #[test]
        fn any_line_is_a_row_or_an_error(line in prop::collection::vec(any::<u8>(), 0..80), json in "\\PC{0,60}") {
            for format in [Format::Tsv, Format::Ndjson] {
                let _ = Row::parse(format, &line);
                let _ = Row::parse(format, json.as_bytes());
            }
        }
    }

    #[test]
    fn a_line_says_what_it_is() {
        let row = |key: &[u8], value: &[u8], number, of| Row {
            key: key.to_vec(),
            value: value.to_vec(),
            sibling: Nth { number, of },
        };
        let lines = [
            (
                row(b"city", b"Riga", 1, 1),
                r#"{"key":"city","value":"Riga"}"#,
            ),
            (
                row(b"k\xff", b"\xff", 2, 3),
                r#"{"key_base64":"a/8=","value_base64":"/w==","sibling":2,"siblings":3}"#,
            ),
        ];
        for (row, line) in lines {
            let mut out = Vec::new();
            row.write(Format::Ndjson, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\n"));
        }
        for (line, why) in [
            (r#"{"key":"k"}"#, "\"value\""),
            (r#"{"key":"k","key_base64":"a/8=","value":""}"#, "\"key\""),
            (r#"{"key":"k","value":"v","sibling":2}"#, "\"siblings\""),
            (
                r#"{"key":"k","value":"v","sibling":3,"siblings":2}"#,
                "counts",
            ),
            (r#"{"key":"","value":"v"}"#, "0 bytes"),
            (r#"{"key":"k","vlaue":"v"}"#, "vlaue"),
            (r#"{"key":"k","value_base64":"?"}"#, "base64"),
            ("", "an object like"),
        ] {
            let error = Row::parse(Format::Ndjson, line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert!(
            Row::parse(Format::Tsv, b"no tab")
                .unwrap_err()
                .contains("tab")
        );
    }
}
