//! The rules that `src/ARCHITECTURE.md` states as tables, read from there: the page cannot drift from what is checked.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No `.await`, no world.
    Pure,
    /// May wait for the world with `.await`.
    Async,
    /// May block its thread; never `.await`.
    Plain,
}

#[derive(Clone, Debug)]
pub struct Room {
    pub name: String,
    pub floor: u32,
    pub kind: Kind,
}

#[derive(Clone, Debug, Default)]
pub struct House {
    pub rooms: Vec<Room>,
    /// Pure files of rooms that are not; paths below `src/`, `x/**` is a folder.
    pub pure_files: Vec<String>,
    /// Where a `RefCell` may stand.
    pub ref_cells: Vec<String>,
}

impl House {
    /// Reads the three tables. Fails with what is wrong with them.
    pub fn parse(page: &str) -> Result<House, String> {
        let mut rooms = Vec::new();
        for row in table(page, &["room", "floor", "kind"])? {
            let floor = row[1].parse();
            let kind = match row[2].as_str() {
                "pure" => Kind::Pure,
                "async" => Kind::Async,
                "plain" => Kind::Plain,
                other => return Err(format!("kind `{other}` is none of pure, async, plain")),
            };
            rooms.push(Room {
                name: row[0].clone(),
                floor: floor.map_err(|_| format!("floor `{}` is no number", row[1]))?,
                kind,
            });
        }
        let column = |header| -> Result<Vec<String>, String> {
            let rows = table(page, &[header])?;
            Ok(rows.into_iter().map(|row| row[0].clone()).collect())
        };
        Ok(House {
            rooms,
            pure_files: column("pure file")?,
            ref_cells: column("`RefCell` in")?,
        })
    }

    pub fn room(&self, name: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.name == name)
    }

    /// The kind of a file below `src/`; `None` for `lib.rs`, `main.rs` and folders that are no room.
    pub fn kind(&self, in_src: &str) -> Option<Kind> {
        let room = self.room(in_src.split_once('/')?.0)?;
        if matches_any(&self.pure_files, in_src) {
            return Some(Kind::Pure);
        }
        Some(room.kind)
    }
}

pub fn matches_any(patterns: &[String], in_src: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix("**") {
            Some(folder) => in_src.starts_with(folder),
            None => in_src == pattern,
        })
}

/// The rows of the table whose header starts with `header`, cells without their backticks.
fn table(page: &str, header: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split('|')
            .map(|cell| cell.trim().to_string())
            .collect()
    };
    let mut lines = page.lines().skip_while(|line| {
        !line.starts_with('|') || !cells(line).iter().zip(header).all(|(a, b)| a == b)
    });
    let width = match lines.next() {
        Some(line) => cells(line).len(),
        None => return Err(format!("no table | {} | ..", header.join(" | "))),
    };
    let mut rows = Vec::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let row: Vec<String> = cells(line)
            .iter()
            .map(|cell| cell.trim_matches('`').to_string())
            .collect();
        if row.len() != width {
            return Err(format!("a row of {} cells: {line}", row.len()));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(format!("table | {} | .. has no row", header.join(" | ")));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const PAGE: &str = "
| room | floor | kind | what |
|---|---|---|---|
| base | 0 | pure | x |
| engine | 2 | async | x |

| pure file | why |
|---|---|
| `engine/log/record.rs` | x |

| `RefCell` in | why |
|---|---|
| `engine/**` | x |
";

    #[test]
    fn the_tables_are_read() {
        let house = House::parse(PAGE).unwrap();
        assert_eq!(house.rooms.len(), 2);
        assert_eq!(house.kind("engine/log/writer.rs"), Some(Kind::Async));
        assert_eq!(house.kind("engine/log/record.rs"), Some(Kind::Pure));
        assert_eq!(house.kind("lib.rs"), None);
        assert!(matches_any(&house.ref_cells, "engine/store.rs"));
        assert!(!matches_any(&house.ref_cells, "base/limits.rs"));
    }

    #[test]
    fn a_broken_table_is_an_error() {
        assert!(House::parse("").is_err());
        assert!(House::parse(&PAGE.replace("pure | x", "holy | x")).is_err());
        assert!(House::parse(&PAGE.replace("| 0 |", "| low |")).is_err());
        assert!(House::parse(&PAGE.replace("| `engine/**` | x |", "")).is_err());
    }
}
