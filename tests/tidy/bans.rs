//! What is not used where, and what to use instead.

use crate::Finding;
use crate::source::Source;

struct Ban {
    /// A run of path segments, wherever in a path it stands; a macro ends in `!`.
    what: &'static str,
    /// Folders and files below `src/` where it may stand; `except` are those of them where it may not.
    allowed: &'static [&'static str],
    except: &'static [&'static str],
    /// Whether it may stand in test code: `#[cfg(test)]`, `tests/`, `benches/`.
    in_tests: bool,
    /// Whether it may stand in `tools/`.
    in_tools: bool,
    instead: &'static str,
}

/// Rooms that touch the world directly. The simulated backend does not: it must be the same on every run.
const WORLDLY: &[&str] = &["runtime/", "cli/", "client/", "main.rs"];
const NOT_SIMULATED: &[&str] = &["runtime/simulated/"];

const fn world(what: &'static str, instead: &'static str) -> Ban {
    Ban {
        what,
        allowed: WORLDLY,
        except: NOT_SIMULATED,
        in_tests: true,
        in_tools: true,
        instead,
    }
}

const fn print(what: &'static str) -> Ban {
    Ban {
        what,
        // The simulator prints the seed of a world that failed.
        allowed: &["cli/", "main.rs", "sim/", "runtime/simulated/"],
        except: &[],
        in_tests: true,
        in_tools: true,
        instead: "return it, or log it: only the command line prints",
    }
}

const fn never(what: &'static str, instead: &'static str) -> Ban {
    Ban {
        what,
        allowed: &[],
        except: &[],
        in_tests: false,
        in_tools: false,
        instead,
    }
}

const BANS: &[Ban] = &[
    world("time::Instant", "`Runtime::now`, or a time handed in"),
    world(
        "time::SystemTime",
        "`Runtime::unix_time`, or a time handed in",
    ),
    world("std::thread", "`Runtime::spawn`; a shard is one thread"),
    world(
        "std::fs",
        "`runtime::disk`: the simulator must see every file",
    ),
    world(
        "std::process",
        "an error that the command line turns into an exit code",
    ),
    world("net::TcpStream", "`runtime::net`"),
    world("net::TcpListener", "`runtime::net`"),
    world("net::UdpSocket", "`runtime::net`"),
    world("rand", "`Runtime::random_u64`, or `base::rng` with a seed"),
    world(
        "ahash::AHashMap",
        "`HashMap<K, V, S>` with `ahash::RandomState::with_seeds`",
    ),
    world(
        "ahash::AHashSet",
        "`HashSet<K, S>` with `ahash::RandomState::with_seeds`",
    ),
    Ban {
        what: "glommio",
        // The bench measures the seam against what lies under it.
        allowed: &["runtime/", "benches/runtime.rs"],
        except: NOT_SIMULATED,
        in_tests: false,
        in_tools: false,
        instead: "the seam `runtime/`: the type of the executor ends there",
    },
    Ban {
        what: "io_uring",
        allowed: &["runtime/"],
        except: NOT_SIMULATED,
        in_tests: false,
        in_tools: false,
        instead: "the seam `runtime/`: the type of the ring ends there",
    },
    print("println!"),
    print("print!"),
    print("eprintln!"),
    print("eprint!"),
    never("dbg!", "a test that shows it"),
    never("todo!", "do it, or an honest refusal"),
    never("unimplemented!", "do it, or an honest refusal"),
];

impl Ban {
    fn covers(&self, source: &Source, test: bool) -> bool {
        if source.path.starts_with("tools/") && self.in_tools || test && self.in_tests {
            return false;
        }
        let Some(in_src) = source.in_src() else {
            return !self.in_tests && !self.allowed.contains(&source.path.as_str());
        };
        let under = |folders: &[&str]| folders.iter().any(|folder| in_src.starts_with(folder));
        !under(self.allowed) || under(self.except)
    }

    fn finding(&self, source: &Source, line: usize) -> Finding {
        source.finding(
            line,
            format!("`{}` has no place here", self.what),
            self.instead,
        )
    }
}

pub fn bans(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut paths = source.paths();
    // Whether this thread panics is no news from outside.
    paths.retain(|path| path.segments.last().is_none_or(|last| last != "panicking"));
    for ban in BANS {
        if let Some(name) = ban.what.strip_suffix('!') {
            for pair in source.tokens.windows(2) {
                let called = pair[0].text == name && pair[1].text == "!";
                if called && ban.covers(source, pair[0].test) {
                    findings.push(ban.finding(source, pair[0].line));
                }
            }
            continue;
        }
        let wanted: Vec<&str> = ban.what.split("::").collect();
        for path in &paths {
            // A crate is named by the first segment of a path only, unless that is a module of ours.
            let found = match wanted.len() {
                1 => {
                    let ours = paths.iter().any(|path| {
                        path.segments.len() > 2
                            && path.segments.last().is_some_and(|n| n == ban.what)
                    });
                    path.segments.len() > 1 && path.segments[0] == ban.what && !ours
                }
                n => path.segments.windows(n).any(|run| run == wanted),
            };
            if found && ban.covers(source, path.test) {
                findings.push(ban.finding(source, path.line));
            }
        }
    }
    findings
}

/// A std map whose hasher is not named is seeded by the machine: its order differs on every run.
pub fn default_hashers(source: &Source) -> Vec<Finding> {
    let excused = ["runtime/", "cli/", "client/"];
    let simulated = source.path.starts_with("src/runtime/simulated/");
    match source.in_src() {
        Some(path) if simulated || !excused.iter().any(|room| path.starts_with(room)) => {}
        _ => return Vec::new(),
    }
    let text = |at: usize| {
        source
            .tokens
            .get(at)
            .map_or("", |token| token.text.as_str())
    };
    let mut findings = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        let arguments = match token.text.as_str() {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => continue,
        };
        let generic = at + 1 + usize::from(text(at + 1) == "::");
        let bad = match text(generic) {
            "<" => generic_arguments(source, generic) < arguments,
            "new" | "with_capacity" | "from" => true,
            _ => false,
        };
        if bad && !token.test {
            let what = format!("`{}` with the default hasher", token.text);
            let instead = "BTreeMap or BTreeSet, or name a hasher with fixed seeds";
            findings.push(source.finding(token.line, what, instead));
        }
    }
    findings
}

/// How many arguments the list that opens at `open` has.
fn generic_arguments(source: &Source, open: usize) -> usize {
    let (mut angles, mut others, mut count) = (0, 0, 1);
    for (at, token) in source.tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "<" => angles += 1,
            ">" if source.tokens[at - 1].text != "-" => angles -= 1,
            "(" | "[" => others += 1,
            ")" | "]" => others -= 1,
            // A trailing comma is no argument.
            "," if angles == 1 && others == 0 => {
                count += usize::from(source.tokens.get(at + 1).is_some_and(|t| t.text != ">"));
            }
            _ => {}
        }
        if angles == 0 {
            break;
        }
    }
    count
}

/// `unsafe` only in `runtime/`, each with its reason.
pub fn unsafes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        let follow = |n: usize| source.tokens.get(at + n).map_or("", |t| t.text.as_str());
        // `unsafe fn(..)` is a type; `unsafe(no_mangle)` an attribute.
        let is_type = follow(1) == "fn" && follow(2) == "(";
        if token.text != "unsafe" || is_type {
            continue;
        }
        if !source.path.starts_with("src/runtime/") {
            let instead = "a safe call into runtime/, the only room with unsafe code";
            findings.push(source.finding(token.line, "`unsafe` outside runtime/".into(), instead));
        } else if !has_safety_comment(source, token.line) {
            let instead = "a `// SAFETY:` comment right above that says why it is sound";
            findings.push(source.finding(token.line, "`unsafe` without a reason".into(), instead));
        }
    }
    findings
}

/// A reason on this line, in the five above, or in the comment that ends right above, however long.
fn has_safety_comment(source: &Source, line: usize) -> bool {
    let comment = |line: usize| match line.checked_sub(1) {
        Some(index) => source.comments.get(index).map_or("", |text| text.trim()),
        None => "",
    };
    let says = |line: usize| {
        let text = comment(line);
        text.contains("SAFETY:") || text.contains("# Safety")
    };
    let near = (line.saturating_sub(5)..=line).any(says);
    let block = (1..line)
        .rev()
        .take_while(|line| !comment(*line).is_empty());
    near || block.into_iter().any(says)
}

/// Marks of unfinished work, in comments.
pub fn markers(source: &Source) -> Vec<Finding> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut findings = Vec::new();
    for (index, comment) in source.comments.iter().enumerate() {
        let mut words = comment.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| marks.contains(word)) {
            let what = format!("the mark {mark}");
            let instead = "do it, or say in a sentence what is not there and what happens then";
            findings.push(source.finding(index + 1, what, instead));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(check: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn the_world_is_reached_through_the_seam() {
        let engine = "src/engine/log.rs";
        for bad in [
            "use std::time::Instant;",
            "use std::{fs, io};",
            "use std::time::{Duration, SystemTime};",
            "fn f() { std::thread::sleep(d) }",
            "use std::net::{SocketAddr, TcpStream};",
            "use std::net::{TcpListener};",
            "std::net::UdpSocket::bind(x)",
            "std::process::exit(1)",
            "use rand::Rng;",
            "use ahash::AHashMap;",
            "use ahash::AHashSet;",
            "use glommio::LocalExecutor;",
            "use io_uring::IoUring;",
        ] {
            assert_eq!(count(bans, engine, bad), 1, "{bad}");
            let simulated = "src/runtime/simulated/mod.rs";
            assert_eq!(count(bans, simulated, bad), 1, "simulated: {bad}");
            assert_eq!(count(bans, "src/runtime/glommio/mod.rs", bad), 0, "{bad}");
        }
        for good in [
            "use std::time::Duration; use std::net::SocketAddr; use std::io;",
            "use crate::runtime::glommio; let rand = 1; thread_local! {}",
            "#[cfg(test)] mod tests { use std::fs; use std::time::Instant; }",
            "use crate::runtime::{glommio, disk}; fn f() { glommio::start(1) }",
            "if std::thread::panicking() {}",
        ] {
            assert_eq!(count(bans, engine, good), 0, "{good}");
        }
        assert_eq!(
            count(bans, "src/client/blocking.rs", "use std::net::TcpStream;"),
            0
        );
        assert_eq!(count(bans, "src/cli/demo.rs", "use glommio::X;"), 1);
        assert_eq!(count(bans, "tests/store/main.rs", "use std::fs;"), 0);
        assert_eq!(count(bans, "tests/store/main.rs", "use glommio::X;"), 1);
        assert_eq!(
            count(bans, "tools/bench/src/main.rs", "use std::thread;"),
            0
        );
    }

    #[test]
    fn only_the_command_line_prints_and_nothing_is_left_open() {
        for bad in [
            "println!(\"\")",
            "eprintln!(\"\")",
            "print!(\"\")",
            "eprint!(\"\")",
        ] {
            assert_eq!(count(bans, "src/node/shard.rs", bad), 1, "{bad}");
            assert_eq!(count(bans, "src/cli/get.rs", bad), 0, "{bad}");
            assert_eq!(count(bans, "src/runtime/simulated/mod.rs", bad), 0, "{bad}");
            assert_eq!(count(bans, "src/runtime/glommio/mod.rs", bad), 1, "{bad}");
            assert_eq!(count(bans, "tools/bench/src/main.rs", bad), 0, "{bad}");
        }
        for bad in ["dbg!(x)", "todo!()", "unimplemented!()"] {
            for path in [
                "src/cli/get.rs",
                "tests/a.rs",
                "tools/bench/src/main.rs",
                "src/a/tests.rs",
            ] {
                assert_eq!(count(bans, path, bad), 1, "{bad} in {path}");
            }
        }
    }

    #[test]
    fn maps_name_their_hasher() {
        for bad in [
            "x: HashMap<K, V>",
            "x: HashMap<Vec<u8>, (A, B), >",
            "collect::<HashSet<u64>>()",
            "HashMap::new()",
            "HashSet::with_capacity(1)",
            "HashMap::<K, V>::default()",
        ] {
            assert_eq!(count(default_hashers, "src/node/x.rs", bad), 1, "{bad}");
        }
        for good in [
            "use std::collections::HashMap;",
            "x: HashMap<K, V, S>",
            "x: HashMap<K, fn(A, B) -> C, S>",
            "x: HashSet<Vec<u8>, RandomState>",
            "HashMap::with_hasher(s)",
            "HashMap::default()",
            "#[cfg(test)] mod t { fn f() { HashMap::new() } }",
        ] {
            assert_eq!(count(default_hashers, "src/node/x.rs", good), 0, "{good}");
        }
        assert_eq!(count(default_hashers, "src/cli/x.rs", "HashMap::new()"), 0);
        assert_eq!(
            count(
                default_hashers,
                "src/runtime/simulated/x.rs",
                "HashMap::new()"
            ),
            1
        );
    }

    #[test]
    fn unsafe_code_has_its_room_and_its_reason() {
        let (inside, outside) = ("src/runtime/ring.rs", "src/engine/log.rs");
        let reasoned = "// SAFETY: the slot outlives the ring.\nunsafe { f() }";
        assert_eq!(count(unsafes, inside, reasoned), 0);
        assert_eq!(count(unsafes, outside, reasoned), 1);
        for bare in [
            "unsafe { f() }",
            "unsafe fn f() {}",
            "unsafe impl Send for X {}",
        ] {
            assert_eq!(count(unsafes, inside, bare), 1, "{bare}");
        }
        let far = format!(
            "// SAFETY: no.\n{}unsafe {{ f() }}",
            "let a = 1;\n".repeat(6)
        );
        assert_eq!(count(unsafes, inside, &far), 1, "too far above");
        let long = format!(
            "// SAFETY: long.\n{}unsafe {{ f() }}",
            "// more\n".repeat(9)
        );
        assert_eq!(count(unsafes, inside, &long), 0, "one long comment");
        assert_eq!(
            count(unsafes, inside, "/// # Safety\n/// Once.\nunsafe fn f() {}"),
            0
        );
        assert_eq!(count(unsafes, inside, "x: unsafe fn(u8)"), 0, "a type");
        assert_eq!(
            count(unsafes, inside, "let s = \"SAFETY:\";\nunsafe { f() }"),
            1
        );
        assert_eq!(
            count(unsafes, outside, "#![allow(unsafe_code)] // unsafe"),
            0
        );
    }

    #[test]
    fn marks_of_unfinished_work_are_found_in_comments() {
        for mark in [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X"),
        ] {
            assert_eq!(
                count(markers, "src/a/b.rs", &format!("let a = 1; // {mark}: x")),
                1
            );
            assert_eq!(
                count(markers, "src/a/b.rs", &format!("/* a\n {mark} */")),
                1
            );
            assert_eq!(
                count(markers, "src/a/b.rs", &format!("let a = \"{mark}\";")),
                0
            );
        }
    }
}
