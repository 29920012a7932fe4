//! Runs the program as a user does, and tells what one sees.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use expect_test::Expect;
use perennial_tests::{DataDir, guest, perennial, postgres};

/// A hub of a test's own, and the program on it.
pub(crate) struct Cli {
    pub(crate) dir: DataDir,
}

impl Cli {
    pub(crate) fn new() -> Self {
        let dir = DataDir::new();
        Self { dir }
    }

    /// With the guest `workloads` deployed.
    pub(crate) fn deployed() -> Self {
        let cli = Self::new();
        let deployed = cli
            .command(&["deploy", "-q", workloads().as_str()])
            .output()
            .unwrap();
        assert!(deployed.status.success(), "{deployed:?}");
        cli
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = perennial(self.dir.path());
        command
            .args(args)
            .env("PERENNIAL_LISTEN", "none")
            .stdin(Stdio::null());
        command
    }

    /// What a user sees: stdout, stderr with `!` before each line, and the exit code where it is not 0.
    pub(crate) fn see(&self, args: &[&str]) -> String {
        self.tell(&self.command(args).output().unwrap())
    }

    pub(crate) fn tell(&self, output: &Output) -> String {
        let mut told = String::from_utf8(output.stdout.clone()).unwrap();
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        for line in stderr.lines().filter(|line| !is_progress(line)) {
            told.push_str(&format!("! {line}\n"));
        }
        match output.status.code() {
            Some(0) => {}
            code => told.push_str(&format!("exit code {code:?}\n")),
        }
        let guests = guest("workloads")
            .parent()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        mask(&self.of_dir(&told).replace(&guests, "GUESTS"))
    }

    /// A text with `DIR` where its hubs are.
    pub(crate) fn of_dir(&self, told: &str) -> String {
        let told = match self.dir.database() {
            Some(database) => postgres::as_of_files(told, database),
            None => told.to_owned(),
        };
        told.replace(self.dir.path().to_str().unwrap(), "DIR")
    }

    pub(crate) fn check(&self, args: &[&str], expected: Expect) {
        expected.assert_eq(&self.see(args));
    }

    /// As `check`, for a line as it is typed into a shell: words, and what stands in single quotes.
    pub(crate) fn types(&self, line: &str, expected: Expect) {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.check(&words, expected);
    }

    /// Runs a command whose output does not matter here.
    pub(crate) fn ok(&self, args: &[&str]) {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", self.tell(&output));
    }

    pub(crate) fn serve(&self) -> Process {
        let mut process = Process(
            self.command(&["serve", "--log", "warn"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let ready = process.line();
        assert!(ready.starts_with("ready: "), "{ready}");
        process
    }
}

/// The words of a line, as a shell splits it.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A child that is gone when the test is.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// The next line of its stdout. One byte at a time, so that nothing after it is lost.
    pub(crate) fn line(&mut self) -> String {
        read_line(self.0.stdout.as_mut().unwrap())
    }

    /// Tells it to stop, and returns when it has: the lease of a host that is killed lasts some seconds where hubs are in a database.
    pub(crate) fn stops(mut self) {
        self.signal("TERM");
        self.0.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is gone already needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn read_line(from: &mut impl std::io::Read) -> String {
    let mut line = String::new();
    BufReader::with_capacity(1, from)
        .read_line(&mut line)
        .unwrap();
    line
}

pub(crate) fn workloads() -> String {
    guest("workloads").to_str().unwrap().to_owned()
}

pub(crate) fn hello() -> String {
    guest("hello-sequence").to_str().unwrap().to_owned()
}

/// How a wait goes is told when it takes long, and how long it takes is the machine's affair.
fn is_progress(line: &str) -> bool {
    let (id, rest) = line.split_once(": ").unwrap_or_default();
    !id.is_empty()
        && !id.contains(' ')
        && ["Pending", "Running", "Suspended"]
            .iter()
            .any(|status| rest.starts_with(status))
}

/// Hides what differs from run to run.
pub(crate) fn mask(text: &str) -> String {
    let mut masked = String::new();
    let text = mask_dates(text);
    let mut rest = text.as_str();
    let in_word = |c: char| c.is_ascii_alphanumeric() || ".:+-".contains(c);
    while !rest.is_empty() {
        let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let head = &word[..word.len() - word.trim_start_matches(':').len()];
        let keep = word[head.len()..].trim_end_matches([':', '.']);
        let tail = &word[head.len() + keep.len()..];
        masked.push_str(head);
        let number_before = NUMBERS_AFTER.iter().any(|key| masked.ends_with(key));
        let size_after = [" B", " KiB", " MiB"]
            .iter()
            .any(|unit| after.starts_with(unit));
        match kind_of(keep) {
            _ if (number_before || size_after) && !keep.is_empty() => masked.push_str("<n>"),
            Some(kind) => masked.push_str(kind),
            None => masked.push_str(keep),
        }
        masked.push_str(tail);
        let next = after.chars().next().map_or(0, char::len_utf8);
        masked.push_str(&after[..next]);
        rest = &after[next..];
    }
    // What is less than a millisecond later is not said to be later.
    masked.replace(" (<span> later)", "")
}

/// Dates as .NET writes them: `11/22/2026`. The slash separates words everywhere else.
fn mask_dates(text: &str) -> String {
    let is_date = |part: &[u8]| {
        part.iter().enumerate().all(|(i, b)| match i {
            2 | 5 => *b == b'/',
            _ => b.is_ascii_digit(),
        })
    };
    let mut masked = text.to_owned();
    for at in (0..text.len().saturating_sub(9)).rev() {
        if is_date(&text.as_bytes()[at..at + 10]) {
            masked.replace_range(at..at + 10, "<date>");
        }
    }
    masked
}

const NUMBERS_AFTER: [&str; 7] = [
    "\"historyBytes\":",
    "\"size\":",
    "\"Size\": ",
    "\"pid\":",
    "(pid ",
    "(process ",
    "\"continuationToken\":\"",
];

fn kind_of(word: &str) -> Option<&'static str> {
    let shape: String = word
        .chars()
        .map(|c| if c.is_ascii_digit() { 'd' } else { c })
        .collect();
    let is_hex = word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) && shape.contains('d');
    if is_hex && matches!(word.len(), 12 | 32 | 64) {
        return Some("<hex>");
    }
    match shape.as_str() {
        "dddd-dd-dd" => return Some("<date>"),
        "dd:dd:dd" => return Some("<time>"),
        "dddd-dd-ddTdd:dd:dd.dddZ" => return Some("<timestamp>"),
        _ => {}
    }
    let span = word
        .trim_start_matches('+')
        .trim_end_matches(['m', 's', 'h']);
    let is_span = span.len() < word.len()
        && span.starts_with(|c: char| c.is_ascii_digit())
        && span.parse::<f64>().is_ok();
    is_span.then_some("<span>")
}
