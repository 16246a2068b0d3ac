//! The file of `--config`: TOML, one key a setting. What it does not know it refuses, with the line and a guess.

use super::layers::check_value;
use clap::Arg;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as one would write it behind the flag, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub text: String,
    pub line: usize,
}

/// What the file sets, by the id of the setting. The error is one line that begins with the place.
pub(super) fn read(path: &Path, settings: &[Arg]) -> Result<BTreeMap<String, Entry>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| {
        format!("cannot read {shown}: {e}; 'armilla config example' prints a file to begin with")
    })?;
    parse(&text, settings).map_err(|(line, why)| format!("{shown}:{line}: {why}"))
}

fn parse(text: &str, settings: &[Arg]) -> Result<BTreeMap<String, Entry>, (usize, String)> {
    let line_of = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        (line, one_line(error.message()))
    })?;
    let mut entries = BTreeMap::new();
    // In the order of the file, so that its first mistake is told first.
    let mut pairs: Vec<_> = table.get_ref().iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in pairs {
        let line = line_of(key.span().start);
        let (id, text) = entry(key.get_ref(), value, settings).map_err(|why| (line, why))?;
        entries.insert(id, Entry { text, line });
    }
    Ok(entries)
}

fn entry(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    settings: &[Arg],
) -> Result<(String, String), String> {
    let named = |arg: &&Arg| arg.get_long() == Some(key);
    let Some(setting) = settings.iter().find(named) else {
        let names = settings.iter().filter_map(Arg::get_long);
        let guess = match closest(key, names) {
            Some(meant) => format!("did you mean '{meant}'?"),
            None => "'armilla config example' prints all of them".to_owned(),
        };
        return Err(format!("unknown setting '{key}'; {guess}"));
    };
    let text = text_of(value.get_ref())
        .ok_or_else(|| format!("{key}: write a text, a whole number, true or false"))?;
    check_value(setting, &text).map_err(|why| format!("{key} = {text}: {}", one_line(&why)))?;
    Ok((setting.get_id().to_string(), text))
}

/// `None`: no flag could say this.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        // Lists are written with commas behind a flag.
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Array(_) => None,
                item => text_of(item),
            })
            .collect::<Option<Vec<String>>>()
            .map(|items| items.join(",")),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name that was meant, if one is near enough.
pub(super) fn closest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let distances = names.map(|name| {
        let distance = strsim::damerau_levenshtein(&plain(written), &plain(name));
        (distance, name)
    });
    let (distance, name) = distances.min()?;
    // One slip in three letters: more, and any word would be near some other.
    (distance <= name.len().div_ceil(3).min(3)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::layers::settings;
    use super::*;

    fn parsed(file: &str) -> Result<BTreeMap<String, Entry>, (usize, String)> {
        parse(file, &settings())
    }

    fn refused(file: &str) -> (usize, String) {
        parsed(file).expect_err("it is wrong")
    }

    #[test]
    fn values_are_what_one_would_write_behind_the_flag() {
        let file =
            "# words\nmemory = \"1GiB\"\n\nvalue-limit = 0x10_00\ninsecure = true\ncores = [1]\n";
        let expected = [
            ("memory", "1GiB", 2),
            ("value_limit", "4096", 4),
            ("insecure", "true", 5),
            ("cores", "1", 6),
        ];
        let expected = expected.map(|(id, text, line)| {
            let text = text.to_owned();
            (id.to_owned(), Entry { text, line })
        });
        assert_eq!(parsed(file), Ok(BTreeMap::from(expected)));
        assert_eq!(parsed(""), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_line_and_a_guess() {
        let said = refused("listen = \"127.0.0.1:7700\"\nmemroy = \"1GiB\"\nflisten = 1\n");
        assert_eq!(
            said,
            (
                2,
                "unknown setting 'memroy'; did you mean 'memory'?".to_owned()
            )
        );
        let (_, said) = refused("value_limit = 1");
        assert!(said.ends_with("did you mean 'value-limit'?"), "{said}");
        let (_, said) = refused("colour = 1");
        assert!(
            said.ends_with("'armilla config example' prints all of them"),
            "{said}"
        );
        // A file that names itself would never end.
        assert_eq!(refused("config = \"x\"").0, 1);
        let (line, said) = refused("\n[start]\nlisten = 1\n");
        assert_eq!(line, 2, "{said}");
    }

    #[test]
    fn what_no_flag_would_take_is_refused_with_the_reason() {
        for (file, line, word) in [
            ("memory = \"lots\"", 1, "64MiB"),
            ("memory = 1.5", 1, "whole number"),
            ("\nlisten = \"localhost\"", 2, "socket address"),
            ("insecure = \"perhaps\"", 1, "boolean"),
            ("log = \"loud\"", 1, "warn"),
            ("log-format = \"xml\"", 1, "json"),
            ("memory = \"1GiB\"\nmemory = \"2GiB\"", 2, "duplicate"),
            ("memory = ", 1, ""),
            ("\u{0}", 1, ""),
        ] {
            let (at, said) = refused(file);
            assert_eq!(at, line, "{file:?}: {said}");
            assert!(
                said.contains(word) && !said.contains('\n'),
                "{file:?}: {said}"
            );
        }
    }
}
