//! Fan-out and fan-in: one activity for each file of a directory, in parallel, and a table of what they found.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Input {
    /// A directory that the deployment granted, by the path that the guest knows it by.
    #[serde(default = "current_directory")]
    root: String,
}

#[derive(Serialize)]
struct Report {
    files: Vec<Row>,
    totals: Totals,
}

/// What is known of one file: its counts and digest, or why there are none.
#[derive(Serialize, Deserialize)]
struct Row {
    path: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Counts {
    bytes: u64,
    lines: u64,
    words: u64,
    sha256: String,
}

#[derive(Default, Serialize)]
struct Totals {
    files: usize,
    unreadable: usize,
    bytes: u64,
    lines: u64,
    words: u64,
}

#[derive(Serialize)]
struct Progress {
    done: usize,
    of: usize,
}

/// Counts and hashes every file under a directory
#[orchestration]
async fn fan_out(ctx: Context, input: Option<Input>) -> Result<Report, Failure> {
    let root = input.map_or_else(current_directory, |input| input.root);
    let paths: Vec<String> = ctx.activity("ListFiles", &root).await?;
    let of = paths.len();
    let mut running: FuturesUnordered<_> = paths.into_iter().map(|path| row(&ctx, path)).collect();
    let mut files = Vec::with_capacity(of);
    while let Some(row) = running.next().await {
        files.push(row);
        let done = files.len();
        if done == of || is_tenth(done, of) {
            ctx.set_custom_status(Progress { done, of })?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let totals = totals(&files);
    Ok(Report { files, totals })
}

/// A file that cannot be read is a row of the table, not the end of the work.
async fn row(ctx: &Context, path: String) -> Row {
    match ctx.activity::<Counts>("HashFile", &path).await {
        Ok(counts) => Row {
            path,
            counts: Some(counts),
            error: None,
        },
        Err(failure) => Row {
            path,
            counts: None,
            error: Some(failure.to_string()),
        },
    }
}

/// Whether another tenth of the work is done: a status for each file would be more history than the files.
fn is_tenth(done: usize, of: usize) -> bool {
    done * 10 / of > (done - 1) * 10 / of
}

fn totals(files: &[Row]) -> Totals {
    let mut totals = Totals {
        files: files.len(),
        ..Totals::default()
    };
    for row in files {
        match &row.counts {
            Some(counts) => {
                totals.bytes += counts.bytes;
                totals.lines += counts.lines;
                totals.words += counts.words;
            }
            None => totals.unreadable += 1,
        }
    }
    totals
}

fn current_directory() -> String {
    ".".to_owned()
}

/// Lists the files under a directory, but not what is hidden or in a directory named `target`.
#[activity]
fn list_files(root: String) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    let mut directories = VecDeque::from([Path::new(&root).to_path_buf()]);
    while let Some(directory) = directories.pop_front() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if directory == Path::new(&root) => {
                let message =
                    format!("cannot list {root:?}: {error}; is it granted to this deployment?");
                return Err(Failure::new("DirectoryNotReadable", message)
                    .caused_by(error)
                    .not_retryable());
            }
            Err(error) => {
                warn!("skipped {}: {error}", directory.display());
                continue;
            }
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if name.starts_with('.') {
                continue;
            } else if kind.is_file() {
                files.push(entry.path().to_string_lossy().into_owned());
            } else if kind.is_dir() && name != "target" {
                directories.push_back(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file once, a piece at a time.
#[activity]
fn hash_file(path: String) -> Result<Counts, Failure> {
    let failed =
        |error: io::Error| Failure::new("FileNotReadable", error.to_string()).not_retryable();
    let mut file = File::open(&path).map_err(failed)?;
    let mut digest = Sha256::new();
    let (mut bytes, mut lines, mut words, mut in_word) = (0, 0, 0, false);
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut piece).map_err(failed)?;
        if length == 0 {
            break;
        }
        digest.update(&piece[..length]);
        bytes += length as u64;
        for byte in &piece[..length] {
            lines += u64::from(*byte == b'\n');
            let is_word = !byte.is_ascii_whitespace();
            words += u64::from(is_word && !in_word);
            in_word = is_word;
        }
    }
    let sha256 = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Counts {
        bytes,
        lines,
        words,
        sha256,
    })
}

perennial_sdk::export! {
    orchestrations: [fan_out],
    activities: [list_files, hash_file],
}
