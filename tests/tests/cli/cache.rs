//! `cache/` beside the hubs, and address space: whatever is wrong with them, commands do what they do.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use perennial_tests::binary;

use crate::see::{Cli, hello};

/// Runs a module, and sees that it does what it does. What was said.
#[track_caller]
fn runs(cli: &Cli) -> String {
    // A command that waits for ever is ended, and has failed.
    let output = Command::new("timeout")
        .arg("60")
        .arg(binary())
        .args(["run", &hello()])
        .env("PERENNIAL_DATA_DIR", cli.dir.path())
        .env("PERENNIAL_LISTEN", "none")
        .output()
        .unwrap();
    let said = cli.tell(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Hello London!"), "{said}");
    said
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_no_file_of_ours_is_not_loaded_and_holds_nobody_up() {
    let cli = Cli::new();
    runs(&cli);
    let cache = cli.dir.path().join("cache");
    let before = files(&cache);
    assert_eq!(
        before.len(),
        3,
        "code for both kinds of guest, and what was found"
    );
    let is_made_again = |put: &dyn Fn(&Path)| {
        files(&cache).iter().for_each(|file| put(file));
        runs(&cli);
        assert_eq!(files(&cache), before);
        for file in &before {
            let found = file.symlink_metadata().unwrap();
            assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600);
        }
    };
    is_made_again(&|file| {
        std::fs::remove_file(file).unwrap();
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    });
    is_made_again(&|file| {
        let elsewhere = cli.dir.path().join(file.file_name().unwrap());
        std::fs::rename(file, &elsewhere).unwrap();
        symlink(elsewhere, file).unwrap();
    });
    is_made_again(&|file| {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    });
    // What is as it should be stays as it is.
    let modified = |file: &PathBuf| file.metadata().unwrap().modified().unwrap();
    let times: Vec<_> = before.iter().map(modified).collect();
    runs(&cli);
    assert_eq!(before.iter().map(modified).collect::<Vec<_>>(), times);
}

#[test]
fn a_cache_that_cannot_be_written_fails_nothing() {
    let cli = Cli::new();
    std::fs::write(cli.dir.path().join("cache"), "not a directory").unwrap();
    runs(&cli);
    runs(&cli);
}

#[test]
fn little_address_space_is_enough() {
    let cli = Cli::new();
    for command in ["inspect", "deploy", "run"] {
        let limited = format!("ulimit -v 64000000; exec \"$0\" {command} \"$1\"");
        let output = Command::new("bash")
            .args(["-c", &limited])
            .arg(binary())
            .arg(hello())
            .env("PERENNIAL_DATA_DIR", cli.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {}", cli.tell(&output));
    }
}
