//! The demo's real data: this machine's package list, or the chemical elements.

/// One key and its value.
pub struct Row {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const ELEMENTS: &str = include_str!("elements.tsv");

/// What it is, and its rows.
pub fn dataset() -> (String, Vec<Row>) {
    let packages =
        std::fs::read(DPKG_STATUS).map(|bytes| packages(&String::from_utf8_lossy(&bytes)));
    match packages {
        Ok(rows) if !rows.is_empty() => (
            format!("the packages of this machine ({DPKG_STATUS})"),
            rows,
        ),
        _ => ("the chemical elements (shipped)".into(), elements()),
    }
}

/// One row a package: its name, its whole paragraph.
fn packages(status: &str) -> Vec<Row> {
    let paragraphs = status.split("\n\n").filter(|p| !p.trim().is_empty());
    let mut rows: Vec<Row> = paragraphs
        .filter_map(|paragraph| {
            let name = paragraph
                .lines()
                .find_map(|line| line.strip_prefix("Package: "))?;
            Some(Row {
                key: name.trim().into(),
                value: paragraph.trim_end().into(),
            })
        })
        .collect();
    // A package installed for two architectures has two paragraphs; a key has one writer here.
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows.dedup_by(|a, b| a.key == b.key);
    rows
}

/// Symbol, tab, the rest of the line.
fn elements() -> Vec<Row> {
    let lines = ELEMENTS.lines().filter_map(|line| line.split_once('\t'));
    lines
        .map(|(symbol, rest)| Row {
            key: symbol.into(),
            value: rest.into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_become_rows() {
        let rows = packages("Package: a\nVersion: 1\n\nPackage: b\nVersion: 2\n\n");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].key, b"b");
        assert_eq!(rows[1].value, b"Package: b\nVersion: 2");
    }

    #[test]
    fn there_are_as_many_elements_as_nature_and_physicists_made() {
        assert_eq!(elements().len(), 118);
    }
}
