//! The SQL in the sources of the store: a statement that no test of plans knows fails one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::store::postgres::testing::plans::growing;

/// What a hub may read whole tables for, by the files that do, and why.
const WHOLE: [(&str, &str); 2] = [
    ("integrity.rs", "a person has the whole hub checked"),
    ("transfer/read.rs", "a person has the whole hub copied"),
];

/// A literal of the sources that has SQL.
struct Literal {
    file: String,
    text: String,
}

/// Checks that each statement of the sources that names a table that grows is one of these, whose plans were looked at.
pub(in crate::store::postgres) fn check_all_known<'a>(known: impl Iterator<Item = &'a str>) {
    let known: BTreeSet<String> = known.map(plain).collect();
    let is_known = |literal: &Literal| known.iter().any(|text| is_in(literal, text));
    let literals = literals();
    assert!(literals.len() > 60, "{} literals", literals.len());
    let is_of = |literal: &Literal, file: &str| literal.file.ends_with(&format!("/{file}"));
    let unknown: Vec<&Literal> = literals
        .iter()
        .filter(|literal| !is_known(literal))
        .collect();
    let needed = |file: &str| unknown.iter().any(|literal| is_of(literal, file));
    let needless: Vec<_> = WHOLE.iter().filter(|(file, _)| !needed(file)).collect();
    let unknown: Vec<String> = unknown
        .iter()
        .filter(|literal| !WHOLE.iter().any(|(file, _)| is_of(literal, file)))
        .map(|literal| format!("{}: {}", literal.file, plain(&literal.text)))
        .collect();
    assert!(
        unknown.is_empty(),
        "no test looks at the plans of {} statements; let `statements_beside`, `all_reads`, `read_all` or `write_all` send them:\n{}",
        unknown.len(),
        unknown.join("\n")
    );
    assert!(needless.is_empty(), "no excuse is needed for {needless:?}");
}

/// With one space where there are several.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a statement has all of a literal, in this order: what stands between the places that the program fills in.
fn is_in(literal: &Literal, statement: &str) -> bool {
    let parts = literal.text.split('{').enumerate();
    let mut parts = parts.map(|(at, part)| match at {
        0 => part,
        _ => part.split_once('}').map_or(part, |(_, rest)| rest),
    });
    let mut rest = statement;
    parts.all(|part| match rest.split_once(&plain(part)) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The literals of all sources of the store outside tests that say where rows are, if that grows or is filled in.
fn literals() -> Vec<Literal> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/postgres");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut found = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let file = path.strip_prefix(root.parent().unwrap()).unwrap();
        let file = file.display().to_string();
        let texts = strings(text).into_iter().filter(|text| names_rows(text));
        found.extend(texts.map(|text| Literal {
            file: file.clone(),
            text,
        }));
    }
    found
}

/// Those of a directory, without what only tests are built of.
fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let of_tests = ["tests", "testing", "copy", "faults"];
        if of_tests.contains(&name.trim_end_matches(".rs")) {
            continue;
        }
        if path.is_dir() {
            sources(&path, into);
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
}

/// Whether a text is SQL that reads or changes rows of a table that grows, or of one that is filled in.
pub(in crate::store::postgres) fn names_rows(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_large = |name: &str| {
        let name = name.trim_matches(|c: char| !c.is_ascii_lowercase() && !"_{".contains(c));
        // Of a schema that is filled in.
        let name = name.rsplit('.').next().unwrap_or(name);
        name.starts_with('{') || name == "module" || growing().any(|table| table == name)
    };
    words.windows(2).any(|two| {
        ["FROM", "JOIN", "UPDATE", "INTO"].contains(&two[0].trim_start_matches('('))
            && is_large(two[1])
    })
}

/// The string literals of a source.
fn strings(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let before = &rest[..at];
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if rest.starts_with('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before[..before.len() - hashes].ends_with('r');
            let end = match is_raw {
                true => rest[1..].find(&format!("\"{}", "#".repeat(hashes))),
                false => end_of(&rest[1..]),
            };
            let (text, after) = rest[1..].split_at(end.unwrap());
            found.push(match is_raw {
                true => text.to_owned(),
                false => unescaped(text),
            });
            rest = &after[1..];
        } else {
            // A character, a lifetime, or a division.
            let mut chars = rest.chars().skip(1);
            let is_escaped = rest.starts_with("'\\");
            let is_char = rest.starts_with('\'') && chars.nth(1) == Some('\'');
            let skipped = match (is_escaped, is_char) {
                (true, _) => 3 + rest[3..].find('\'').unwrap() + 1,
                (_, true) => rest.char_indices().nth(3).map_or(rest.len(), |(at, _)| at),
                _ => 1,
            };
            rest = &rest[skipped..];
        }
    }
    found
}

/// Where a literal with escapes ends.
fn end_of(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// What a literal says, as far as it matters here.
fn unescaped(text: &str) -> String {
    let mut said = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('\n')) => while chars.next_if(|c| c.is_whitespace()).is_some() {},
            ('\\', Some('n')) => {
                chars.next();
                said.push('\n');
            }
            ('\\', Some(_)) => said.extend(chars.next()),
            _ => said.push(c),
        }
    }
    said
}

#[test]
fn literals_are_found_as_the_compiler_reads_them() {
    let source = "let a: &'a str = \"x \\\"y\\\" \\\n    z\"; // \"not this\"\nlet b = ('\"', '\\'', r#\"raw \"text\"\"#, 7 / 2, \"\\\\x01\");";
    assert_eq!(strings(source), ["x \"y\" z", "raw \"text\"", "\\x01"]);
    assert!(names_rows("SELECT 1 FROM outbox, x"));
    assert!(names_rows("DELETE FROM {name} WHERE"));
    assert!(names_rows("(SELECT max(n) FROM instance)"));
    assert!(!names_rows("SELECT 1 FROM owner AS o"));
    assert!(!names_rows("SELECT 1 FROM {}.hub"));
}
