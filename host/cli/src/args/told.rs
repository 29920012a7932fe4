//! Tests that what texts tell people to type can be typed: pages of the dashboard, errors of the host, and the documents.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::Cli;

/// The program, as it begins a command.
const PROGRAM: &str = "perennial ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files whose texts people read.
fn texts() -> Vec<PathBuf> {
    let root = root();
    let mut folders = vec![
        root.join("host/dashboard/src"),
        root.join("host/src"),
        root.join("host/cli/src"),
    ];
    let documents = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "host/SECURITY.md",
        "host/ARCHITECTURE.md",
        "samples/README.md",
    ];
    let mut files = documents.map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(kind) if kind == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files
}

/// The commands in a text: between backticks, in the markup of a page, and on lines of their own.
fn commands(text: &str) -> Vec<String> {
    // A literal that is continued on the next line is one text.
    let mut whole = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(begun) => whole.push_str(&format!("{begun}\u{1}")),
            None => whole.push_str(&format!("{line}\n")),
        }
    }
    let whole: Vec<String> = whole
        .lines()
        .map(|line| {
            let mut parts = line.split('\u{1}');
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |all, part| all + part.trim_start())
        })
        .collect();
    let mut found = Vec::new();
    for line in &whole {
        let line = line
            .trim()
            .trim_start_matches("/// ")
            .trim_start_matches("//! ");
        if let Some(rest) = line
            .strip_prefix("$ ")
            .unwrap_or(line)
            .strip_prefix(PROGRAM)
        {
            found.push(rest.to_owned());
        }
        for quote in ['`', '"'] {
            let open = format!("{quote}{PROGRAM}");
            for rest in line.split(&open).skip(1) {
                if let Some((command, _)) = rest.split_once(quote) {
                    found.push(command.to_owned());
                }
            }
        }
    }
    found
}

/// The words of a command, as a shell takes them. What comes after several spaces explains it.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for char in command.chars() {
        match quote {
            Some(end) if char == end => quote = None,
            Some(_) => word.push(char),
            None if matches!(char, '\'' | '"') => quote = Some(char),
            None if char.is_whitespace() && word.is_empty() => break,
            None if char.is_whitespace() => words.push(std::mem::take(&mut word)),
            None => word.push(char),
        }
    }
    words.push(word);
    let bare = |word: String| word.trim_matches([',', '.', '[', ']']).to_owned();
    let words = words.into_iter().map(bare);
    words.filter(|word| !word.is_empty()).collect()
}

/// Whether what is typed has the command and the options that it needs to be one. What stands for something, such as `NAME`, is a value.
fn can_be_typed(command: &str) -> Result<(), String> {
    // A shell would do more with the rest, and a text may leave out what is obvious.
    let end = command.find(['|', '>', '#', ';', '&', '…', '{', '<', '(', '\\']);
    let words = words(&command[..end.unwrap_or(command.len())]);
    // A sentence about the program, and not a command.
    let is_word = |word: &String| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if !words.first().is_some_and(is_word) {
        return Ok(());
    }
    let stands_for_one = words.iter().any(|word| word == "VERB");
    let typed = std::iter::once("perennial".to_owned()).chain(words);
    match Cli::command().try_get_matches_from(typed) {
        Err(error)
            if error.kind() == ErrorKind::UnknownArgument
                || error.kind() == ErrorKind::InvalidSubcommand && !stands_for_one =>
        {
            Err(error.to_string())
        }
        _ => Ok(()),
    }
}

#[test]
fn what_texts_tell_to_type_can_be_typed() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for file in texts() {
        // This one has wrong ones.
        if file.ends_with("args/told.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for command in commands(&text) {
            tried += 1;
            if let Err(why) = can_be_typed(&command) {
                wrong.push(format!("{}: perennial {command}\n{why}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 200, "only {tried} commands were found");
}

#[test]
fn commands_are_found_and_wrong_ones_are_told_apart() {
    let text = "code { \"perennial keys create NAME --role read-only\" } or `perennial keys create NAME --read-only`\n\
                a text that goes \\\n    on with `perennial \\\n    list` in it\n  perennial serve\n";
    let found = commands(text);
    assert_eq!(
        found,
        [
            "keys create NAME --read-only",
            "keys create NAME --role read-only",
            "list",
            "serve"
        ]
    );
    assert!(can_be_typed(&found[0]).is_ok());
    assert!(can_be_typed(&found[1]).unwrap_err().contains("--role"));
    assert!(can_be_typed("conjure").is_err());
    assert!(can_be_typed("deploy FILE.wasm | less --fast").is_ok());
    assert!(can_be_typed("suspend a --reason 'b --c'   and so on").is_ok());
}
