//! Imports go down only, and `.await` stands where the table says.

use crate::Finding;
use crate::house::{House, Kind, matches_any};
use crate::source::{PathUse, Source};
use std::collections::BTreeMap;

/// Exported macros live at the root of the crate: name -> room that defines it.
pub type Macros = BTreeMap<String, String>;

pub fn exported_macros(sources: &[Source]) -> Macros {
    let mut macros = Macros::new();
    for source in sources {
        let Some((room, _)) = source.in_src().and_then(|path| path.split_once('/')) else {
            continue;
        };
        let mut exported = false;
        for (at, token) in source.tokens.iter().enumerate() {
            exported |= token.text == "macro_export";
            if exported && token.text == "macro_rules" {
                exported = false;
                macros.insert(source.tokens[at + 2].text.clone(), room.to_string());
            }
        }
    }
    macros
}

/// Every import of a room leads to a lower floor.
pub fn imports(source: &Source, house: &House, macros: &Macros) -> Vec<Finding> {
    let Some((own, _)) = source.in_src().and_then(|path| path.split_once('/')) else {
        return Vec::new();
    };
    let Some(own_room) = house.room(own) else {
        let what = format!("folder `{own}` is not in the table of floors");
        return vec![source.finding(1, what, "add it to src/ARCHITECTURE.md, or move the file")];
    };
    let mut findings = Vec::new();
    for path in source.paths() {
        let Some(rest) = below_the_root(source, &path) else {
            continue;
        };
        let Some(name) = rest.first() else { continue };
        let name = macros.get(name).unwrap_or(name).as_str();
        let written = path.segments.join("::");
        if name == own || (path.test && name == "sim") {
            continue;
        }
        let instead = match house.room(name) {
            None => "name a room of the table in src/ARCHITECTURE.md",
            Some(room) if room.floor > own_room.floor => {
                "move what both need to a lower floor, or let the higher one call this one"
            }
            Some(room) if room.floor == own_room.floor => {
                "neighbours do not know each other: let a higher floor join them, or move it down"
            }
            Some(_) => {
                let pure = house.kind(source.in_src().unwrap_or("")) == Some(Kind::Pure);
                let buffers = rest.get(1).is_some_and(|module| module == "buffer");
                if name != "runtime" || !pure || buffers || path.test {
                    continue;
                }
                "a pure file knows no world: take the value as an argument"
            }
        };
        let what = format!("`{written}` in {own} (floor {})", own_room.floor);
        findings.push(source.finding(path.line, what, instead));
    }
    findings
}

/// What follows the root of the crate in a path that passes it.
fn below_the_root<'a>(source: &Source, path: &'a PathUse) -> Option<&'a [String]> {
    let first = path.segments.first()?.as_str();
    if first == "crate" || (first == "armilla" && path.segments.len() > 1) {
        return Some(&path.segments[1..]);
    }
    let supers = path.segments.iter().take_while(|s| *s == "super").count();
    let depth = module_path(source.in_src()?).len() + path.inline_modules;
    (supers > 0 && supers >= depth).then(|| &path.segments[supers..])
}

/// `engine/log/mod.rs` is [engine, log].
pub fn module_path(in_src: &str) -> Vec<&str> {
    let stem = in_src.trim_end_matches(".rs");
    let mut parts: Vec<&str> = stem.split('/').collect();
    if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
        parts.pop();
    }
    parts
}

/// `async` and `.await` only in files of kind async.
pub fn awaits(source: &Source, house: &House) -> Vec<Finding> {
    let Some(in_src) = source.in_src() else {
        return Vec::new();
    };
    if house.kind(in_src) == Some(Kind::Async) {
        return Vec::new();
    }
    let waits = source
        .tokens
        .iter()
        .filter(|token| token.text == "async" || token.text == "await");
    waits
        .map(|token| {
            source.finding(
                token.line,
                format!("`{}` in a file that never waits", token.text),
                "return an action for an async room to run, or correct the tables in src/ARCHITECTURE.md",
            )
        })
        .collect()
}

/// `RefCell` only where the page lists it.
pub fn ref_cells(source: &Source, house: &House) -> Vec<Finding> {
    let Some(in_src) = source.in_src() else {
        return Vec::new();
    };
    if matches_any(&house.ref_cells, in_src) {
        return Vec::new();
    }
    let cells = source
        .tokens
        .iter()
        .filter(|token| token.text == "RefCell" && !token.test);
    cells
        .map(|token| {
            source.finding(
                token.line,
                "`RefCell` outside the listed files".to_string(),
                "take `&mut self`; one owner, one loop (the list is in src/ARCHITECTURE.md)",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> House {
        House::parse(
            "
| room | floor | kind |
|---|---|---|
| base | 0 | pure |
| ring | 1 | pure |
| causal | 1 | pure |
| runtime | 1 | async |
| wire | 2 | pure |
| engine | 2 | async |
| sim | 5 | async |

| pure file |
|---|
| `engine/log/record.rs` |

| `RefCell` in |
|---|
| `engine/store.rs` |
",
        )
        .unwrap()
    }

    fn climbs(path: &str, text: &str) -> usize {
        let macros = Macros::from([("planted".to_string(), "base".to_string())]);
        imports(&Source::new(path, text), &house(), &macros).len()
    }

    #[test]
    fn imports_go_down() {
        let wire = "src/wire/frame.rs";
        assert_eq!(
            climbs(wire, "use crate::base::limits; use crate::wire::codec;"),
            0
        );
        assert_eq!(climbs(wire, "use crate::engine::key;"), 1, "a neighbour");
        assert_eq!(
            climbs(wire, "use crate::{base, engine::key};"),
            1,
            "in a group"
        );
        assert_eq!(
            climbs(wire, "fn f() { crate::sim::x() }"),
            1,
            "climbs, without use"
        );
        assert_eq!(climbs(wire, "use crate::nowhere;"), 1, "no such room");
        assert_eq!(
            climbs(wire, "use armilla::engine;"),
            1,
            "by the crate's name"
        );
        assert_eq!(
            climbs(wire, "fn f() { crate::planted!(X) } use crate::planted;"),
            0
        );
        assert_eq!(climbs("src/ring/position.rs", "crate::causal::dot"), 1);
        assert_eq!(
            climbs("src/cellar/a.rs", "fn a() {}"),
            1,
            "a folder without a row"
        );
        assert_eq!(climbs("src/main.rs", "use armilla::cli;"), 0);
        assert_eq!(climbs("tests/store/main.rs", "use armilla::sim;"), 0);
    }

    #[test]
    fn supers_are_followed_out_of_the_folder() {
        assert_eq!(climbs("src/wire/frame.rs", "use super::codec;"), 0);
        assert_eq!(
            climbs("src/wire/frame.rs", "use super::super::engine::key;"),
            1
        );
        assert_eq!(climbs("src/wire/mod.rs", "use super::engine;"), 1);
        let inside = "mod tests { use super::super::engine; }";
        assert_eq!(
            climbs("src/wire/frame.rs", inside),
            0,
            "that is wire::engine"
        );
        assert_eq!(climbs("src/wire/mod.rs", inside), 1);
    }

    #[test]
    fn test_code_may_use_the_simulator_but_not_climb_otherwise() {
        let sim = "#[cfg(test)] mod tests { use crate::sim::world; }";
        assert_eq!(climbs("src/wire/frame.rs", sim), 0);
        assert_eq!(
            climbs("src/wire/frame.rs", &sim.replace("sim", "engine")),
            1
        );
    }

    #[test]
    fn pure_files_know_no_world() {
        assert_eq!(
            climbs("src/wire/frame.rs", "use crate::runtime::Runtime;"),
            1
        );
        assert_eq!(
            climbs("src/engine/log/record.rs", "use crate::runtime::disk;"),
            1
        );
        assert_eq!(
            climbs("src/engine/log/record.rs", "use crate::runtime::buffer::B;"),
            0
        );
        assert_eq!(
            climbs("src/engine/log/writer.rs", "use crate::runtime::disk;"),
            0
        );
    }

    #[test]
    fn awaits_stand_where_the_table_says() {
        let count = |path, text| awaits(&Source::new(path, text), &house()).len();
        let waits = "async fn f() { g().await }";
        assert_eq!(count("src/engine/log/writer.rs", waits), 0);
        assert_eq!(count("src/engine/log/record.rs", waits), 2);
        assert_eq!(count("src/wire/frame.rs", waits), 2);
        assert_eq!(
            count("src/wire/frame.rs", "// async\nfn f() { \"async\" }"),
            0
        );
        assert_eq!(count("src/lib.rs", waits), 2);
        assert_eq!(count("tests/a.rs", waits), 0);
    }

    #[test]
    fn ref_cells_stand_where_the_table_says() {
        let count = |path, text| ref_cells(&Source::new(path, text), &house()).len();
        assert_eq!(count("src/engine/store.rs", "x: RefCell<u8>"), 0);
        assert_eq!(count("src/engine/key.rs", "use std::cell::RefCell;"), 1);
        assert_eq!(
            count(
                "src/engine/key.rs",
                "#[cfg(test)] mod t { use std::cell::RefCell; }"
            ),
            0
        );
    }
}
