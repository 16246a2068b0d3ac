//! Rust text as the checks see it: tokens with their lines, comments apart from code, test code marked.
//!
//! This is no compiler. It knows strings, comments, braces and `#[cfg(test)]`, which is all that the house rules need;
//! what a macro builds at compile time it does not see.

/// One identifier, number, `::`, or single character of code.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// Inside an item under `#[cfg(test)]`, or in a file that is.
    pub test: bool,
    /// How many inline `mod x { .. }` stand around it.
    pub inline_modules: usize,
}

impl Token {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }
}

/// A path as written, groups expanded: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Clone, Debug)]
pub struct PathUse {
    pub segments: Vec<String>,
    pub line: usize,
    pub test: bool,
    pub inline_modules: usize,
}

/// A file of the project.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
    /// The text of the comments of each line; index 0 is line 1.
    pub comments: Vec<String>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        let mut tokens = tokenize(&code);
        mark_modules(&mut tokens);
        mark_tests(&mut tokens, is_test_path(path));
        Source {
            path: path.to_string(),
            text: text.to_string(),
            tokens,
            comments: comments.lines().map(str::to_string).collect(),
        }
    }

    /// The path below `src/`, if it lies there.
    pub fn in_src(&self) -> Option<&str> {
        self.path.strip_prefix("src/")
    }

    pub fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// Everything here is test code: it is reached by `#[cfg(test)] mod` only.
    pub fn mark_all_test(&mut self) {
        self.tokens.iter_mut().for_each(|token| token.test = true);
    }

    /// Lines of the file without those of test items.
    pub fn lines_without_tests(&self) -> usize {
        let mut test = vec![false; self.text.lines().count() + 2];
        for pair in self.tokens.windows(2) {
            if pair[0].test && pair[1].test {
                test[pair[0].line..=pair[1].line].fill(true);
            }
        }
        self.text.lines().count() - test.iter().filter(|line| **line).count()
    }

    pub fn paths(&self) -> Vec<PathUse> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.tokens[at].is_word() && !self.continues_a_path(at) {
                at = self.path_tree(at, &[], &mut out);
            } else {
                at += 1;
            }
        }
        out
    }

    fn text_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn continues_a_path(&self, at: usize) -> bool {
        at >= 2
            && self.text_at(at - 1) == "::"
            && (self.tokens[at - 2].is_word() || self.text_at(at - 2) == ">")
    }

    /// Reads the path that starts at `at`, behind `prefix`; returns where it ends.
    fn path_tree(&self, mut at: usize, prefix: &[String], out: &mut Vec<PathUse>) -> usize {
        let first = &self.tokens[at];
        let mut segments = prefix.to_vec();
        loop {
            segments.push(self.text_at(at).to_string());
            at += 1;
            if self.text_at(at) != "::" {
                break;
            }
            let next = self.tokens.get(at + 1);
            if self.text_at(at + 1) == "{" {
                at += 2;
                while at < self.tokens.len() && self.text_at(at) != "}" {
                    let starts = self.tokens[at].is_word() && self.text_at(at - 1) != "as";
                    at = if starts || self.text_at(at) == "*" {
                        self.path_tree(at, &segments, out)
                    } else {
                        at + 1
                    };
                }
                return at + 1;
            }
            if !next.is_some_and(|token| token.is_word() || token.text == "*") {
                break;
            }
            at += 1;
        }
        out.push(PathUse {
            segments,
            line: first.line,
            test: first.test,
            inline_modules: first.inline_modules,
        });
        at
    }
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.starts_with("tests/") || path.contains("/tests/")
}

/// The same text twice: once with comments and the insides of literals blanked, once with all but the comments blanked.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, kind) = span(&chars, at);
        for &c in &chars[at..end] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if kind == Span::Code { c } else { blank });
            comments.push(if kind == Span::Comment { c } else { blank });
        }
        at = end;
    }
    (code, comments)
}

#[derive(Clone, Copy, PartialEq)]
enum Span {
    Code,
    Comment,
    Literal,
}

/// What starts at `at`, and where it ends.
fn span(chars: &[char], at: usize) -> (usize, Span) {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let starts_word = at == 0 || !is_word_char(get(at - 1));
    match get(at) {
        '/' if get(at + 1) == '/' => {
            let line = chars[at..].iter().position(|c| *c == '\n');
            (line.map_or(chars.len(), |n| at + n), Span::Comment)
        }
        '/' if get(at + 1) == '*' => (block_comment_end(chars, at), Span::Comment),
        '"' => (quoted_end(chars, at + 1, '"'), Span::Literal),
        'r' | 'b' | 'c' if starts_word => {
            let mut i = at + 1;
            if get(at) == 'b' && get(i) == 'r' {
                i += 1;
            }
            let raw = get(i - 1) == 'r';
            let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
            match get(i + hashes) {
                '"' if raw => (raw_end(chars, i + hashes + 1, hashes), Span::Literal),
                '"' if hashes == 0 => (quoted_end(chars, i + 1, '"'), Span::Literal),
                _ => (at + 1, Span::Code),
            }
        }
        '\'' if get(at + 1) == '\\' => (quoted_end(chars, at + 1, '\''), Span::Literal),
        '\'' if get(at + 2) == '\'' => (at + 3, Span::Literal),
        _ => (at + 1, Span::Code),
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_end(chars: &[char], mut at: usize, hashes: usize) -> usize {
    while at < chars.len() {
        let closes = chars[at + 1..].iter().take(hashes).filter(|c| **c == '#');
        if chars[at] == '"' && closes.count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    chars.len()
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = if is_word_char(first) {
                rest.find(|c| !is_word_char(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token {
                text: rest[..len].to_string(),
                line: index + 1,
                test: false,
                inline_modules: 0,
            });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

fn mark_modules(tokens: &mut [Token]) {
    let mut open = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].text.as_str() {
            "{" => open.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => drop(open.pop()),
            _ => {}
        }
        tokens[at].inline_modules = open.iter().filter(|is_module| **is_module).count();
    }
}

fn mark_tests(tokens: &mut [Token], all: bool) {
    tokens.iter_mut().for_each(|token| token.test = all);
    let mut at = 0;
    while at + 2 < tokens.len() {
        let inner = tokens[at + 1].text == "!";
        let open = at + 1 + usize::from(inner);
        if tokens[at].text != "#" || tokens[open].text != "[" {
            at += 1;
            continue;
        }
        let attribute_end = group_end(tokens, open);
        let words: Vec<&str> = tokens[open..attribute_end]
            .iter()
            .map(|token| token.text.as_str())
            .collect();
        let only_in_tests = words.get(1) == Some(&"cfg")
            && words.contains(&"test")
            && !words.contains(&"not")
            && !words.contains(&"any");
        if !only_in_tests {
            at = attribute_end;
            continue;
        }
        let end = if inner {
            tokens.len()
        } else {
            item_end(tokens, attribute_end)
        };
        tokens[at..end]
            .iter_mut()
            .for_each(|token| token.test = true);
        at = end;
    }
}

/// Where the bracketed group that opens at `open` ends.
fn group_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Where the item that starts at `at` ends: behind its `;`, or behind its first braces.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => return group_end(tokens, at),
            "(" | "[" => at = group_end(tokens, at),
            ";" => return at + 1,
            "}" => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("src/base/x.rs", text);
        let paths = source.paths();
        paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn groups_are_expanded_and_literals_and_comments_are_not_code() {
        let found = paths("use std::{fs, time::{Duration, Instant as I}};");
        for path in ["std::fs", "std::time::Duration", "std::time::Instant"] {
            assert!(found.contains(&path.to_string()), "{path} in {found:?}");
        }
        let quiet = concat!(
            "let a = \"std::fs\"; // std::fs\n/* std::fs /* */ std::fs */\n",
            "let b = r#\"\" std::fs\"#; let c = '\"'; let d = b\"\\\"std::fs\"; fn e<'a>() {}",
        );
        let found = paths(quiet);
        assert!(!found.iter().any(|path| path.contains("std")), "{found:?}");
        assert!(
            found.contains(&"e".to_string()),
            "the lifetime is no literal"
        );
        assert!(paths("let x = ::std::fs::read();").contains(&"std::fs::read".to_string()));
    }

    #[test]
    fn test_items_are_marked_and_their_lines_not_counted() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n\n}\nfn c() {}\n";
        let source = Source::new("src/base/x.rs", text);
        let is_test = |name: &str| {
            let token = source.tokens.iter().find(|token| token.text == name);
            token.unwrap().test
        };
        assert!(!is_test("a") && is_test("b") && !is_test("c"));
        assert_eq!(source.lines_without_tests(), 2);
        let either = Source::new(
            "src/x.rs",
            "#[cfg(any(test, feature = \"sim\"))]\nfn a() {}",
        );
        assert!(either.tokens.iter().all(|token| !token.test));
    }
}
