//! What activities can do, and cannot.

use std::hint::black_box;
use std::time::Duration;

use perennial_sdk::prelude::*;
use perennial_sdk::serde_json::Value;

pub(crate) fn keep(_: Value) -> Result<(), Failure> {
    Ok(())
}

/// What an attempt sees of the world.
pub(crate) fn look(path: String) -> Result<Vec<String>, Failure> {
    let verdict = |name: &str, error: Option<std::io::Error>| {
        format!(
            "{name}: {}",
            error.map_or("it worked".to_owned(), |error| error.kind().to_string())
        )
    };
    let mut variables: Vec<String> = std::env::vars()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    variables.sort();
    Ok(vec![
        format!("variables: {variables:?}"),
        verdict("list", std::fs::read_dir(&path).err()),
        verdict("write", std::fs::write(format!("{path}/new"), "x").err()),
        verdict("above", std::fs::read_dir(format!("{path}/..")).err()),
        verdict(
            "connect",
            std::net::TcpStream::connect("127.0.0.1:80").err(),
        ),
    ])
}

pub(crate) fn write((path, text): (String, String)) -> Result<(), Failure> {
    Ok(std::fs::write(path, text)?)
}

pub(crate) fn spin() -> Result<(), Failure> {
    loop {
        black_box(0);
    }
}

pub(crate) fn sleep(millis: u64) -> Result<(), Failure> {
    std::thread::sleep(Duration::from_millis(millis));
    Ok(())
}

pub(crate) fn panics() -> Result<(), Failure> {
    panic!("the activity has had enough");
}

pub(crate) fn traps() -> Result<(), Failure> {
    crate::mistakes::trap()
}

pub(crate) fn hoards() -> Result<usize, Failure> {
    let mut hoard = Vec::new();
    loop {
        hoard.push(Vec::<u8>::with_capacity(1 << 20));
        black_box(&hoard);
    }
}

pub(crate) fn recurses() -> Result<u64, Failure> {
    Ok(crate::mistakes::down(0))
}

pub(crate) fn declines(ctx: ActivityContext, why: String) -> Result<(), Failure> {
    let limit: Result<u32, _> = "10 coins".parse::<u32>();
    let failure = Failure::new("CardDeclined", format!("declined: {why}"))
        .not_retryable()
        .with_details(&ctx.attempt());
    Err(match limit {
        Ok(_) => failure,
        Err(error) => failure.caused_by(error),
    })
}

/// A map with keys that are no texts.
pub(crate) fn no_json() -> Result<std::collections::BTreeMap<(u8, u8), u8>, Failure> {
    Ok([((1, 2), 3)].into())
}

pub(crate) fn exits() -> Result<(), Failure> {
    std::process::exit(3)
}
