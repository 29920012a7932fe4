//! What an orchestration can observe. Each hands what it saw to an activity in every turn, so that a replay that sees something else
//! asks for something else, and is found out.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use perennial_sdk::prelude::*;

/// Turns in which each looks.
const LOOKS: u64 = 3;

/// Looks, hands on what was seen, and waits a second, `LOOKS` times.
async fn look<S: serde::Serialize + Clone>(
    ctx: &Context,
    mut see: impl FnMut() -> S,
) -> Result<Vec<S>, Failure> {
    let mut seen = Vec::new();
    for _ in 0..LOOKS {
        let sight = see();
        ctx.activity::<()>("Keep", sight.clone()).await?;
        seen.push(sight);
        ctx.event::<()>("Go").await?;
    }
    Ok(seen)
}

/// Both clocks against the turn's time: the wall clock's milliseconds, and how many the monotonic clock has counted since the start.
pub(crate) async fn clocks(ctx: Context) -> Result<Vec<(u64, u64, u64, u64)>, Failure> {
    let begun = (Instant::now(), ctx.now());
    look(&ctx, || {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        (
            ctx.now().as_unix_millis(),
            wall.map_or(0, |wall| wall.as_millis() as u64),
            ctx.now().since(begun.1).as_nanos() as u64,
            begun.0.elapsed().as_nanos() as u64,
        )
    })
    .await
}

/// The orders in which a map and a set give what is in them, and a hash of a fresh state.
pub(crate) async fn hashes(ctx: Context) -> Result<Vec<(Vec<u32>, Vec<String>, String)>, Failure> {
    let mut old: HashSet<String> = (0..20).map(|n| format!("old {n}")).collect();
    look(&ctx, || {
        let map: HashMap<u32, ()> = (0..40).map(|n| (n, ())).collect();
        old.insert(format!("new {}", old.len()));
        (
            map.into_keys().collect(),
            old.iter().cloned().collect(),
            format!("{:016x}", RandomState::new().hash_one("it")),
        )
    })
    .await
}

/// Random numbers by every road that leads to them.
pub(crate) async fn randoms(ctx: Context) -> Result<Vec<Vec<String>>, Failure> {
    look(&ctx, || {
        let [system, library] = of_the_system(&ctx);
        vec![
            system,
            library,
            ctx.random_u64().to_string(),
            ctx.random_f64().to_string(),
            ctx.new_uuid().to_string(),
        ]
    })
    .await
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
fn of_the_system(_: &Context) -> [String; 2] {
    let mut bytes = [0; 8];
    let system = getrandom::fill(&mut bytes).map(|()| u64::from_le_bytes(bytes));
    [format!("{system:?}"), rand::random::<u64>().to_string()]
}

/// Where there is no system, there is still the context.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
fn of_the_system(ctx: &Context) -> [String; 2] {
    [ctx.random_u64(), ctx.random_u64()].map(|number| number.to_string())
}

/// The bits of what is no number, from operations that leave them to the machine.
#[expect(clippy::eq_op, reason = "that is how one makes what is no number")]
pub(crate) async fn floats(ctx: Context) -> Result<Vec<Vec<String>>, Failure> {
    look(&ctx, || {
        let (zero, infinite, negative) = (
            black_box(0.0_f64),
            black_box(f64::INFINITY),
            black_box(-1.0_f64),
        );
        let odd = black_box(f64::from_bits(0xfff8_dead_beef_0001));
        let doubles = [
            zero / zero,
            -(zero / zero) + 1.0,
            infinite - infinite,
            infinite * zero,
            negative.sqrt(),
            odd + 1.0,
            odd * negative,
            f64::from(black_box(f32::NAN) + 1.0),
        ];
        let small = black_box(f32::from_bits(0x7fc0_1234));
        let mut bits: Vec<String> = doubles
            .iter()
            .map(|value| format!("{:016x}", value.to_bits()))
            .collect();
        bits.push(format!("{:08x}", (small + black_box(1.0_f32)).to_bits()));
        bits.push(format!("{:08x}", (small - small).to_bits()));
        bits
    })
    .await
}

/// What is around it: nothing.
pub(crate) async fn surroundings(ctx: Context) -> Result<Vec<Vec<String>>, Failure> {
    look(&ctx, || {
        let verdict = |name: &str, error: Option<std::io::Error>| {
            format!(
                "{name}: {}",
                error.map_or("it worked".to_owned(), |error| error.kind().to_string())
            )
        };
        vec![
            format!("variables: {}", std::env::vars_os().count()),
            format!("arguments: {}", std::env::args_os().count()),
            verdict("open", std::fs::File::open("/etc/passwd").err()),
            verdict("create", std::fs::write("here", "x").err()),
            verdict("list", std::fs::read_dir(".").err()),
            verdict(
                "connect",
                std::net::TcpStream::connect("127.0.0.1:80").err(),
            ),
            verdict("listen", std::net::TcpListener::bind("127.0.0.1:0").err()),
            verdict("datagram", std::net::UdpSocket::bind("127.0.0.1:0").err()),
            format!(
                "processors: {:?}",
                std::thread::available_parallelism().map_err(|error| error.kind())
            ),
        ]
    })
    .await
}

/// A line at each level, in every turn.
pub(crate) async fn logs(ctx: Context) -> Result<Vec<u64>, Failure> {
    let mut turn = 0;
    look(&ctx, || {
        turn += 1;
        info!("turn {turn} was here");
        turn
    })
    .await
}

/// Burns so many rounds of work in each turn, as often as it is told to.
pub(crate) async fn burns_each_turn(ctx: Context, rounds: u64) -> Result<u64, Failure> {
    let mut sum = 0_u64;
    for turn in 0..LOOKS {
        for n in 0..rounds {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(n ^ turn));
        }
        ctx.event::<()>("Go").await?;
    }
    Ok(sum)
}

/// Holds so many bytes, and takes as many more whenever it is told to.
pub(crate) async fn holds_memory(ctx: Context, bytes: usize) -> Result<usize, Failure> {
    let mut held = Vec::new();
    for _ in 0..LOOKS {
        held.push(vec![1_u8; bytes]);
        ctx.event::<()>("Go").await?;
    }
    Ok(held.iter().map(Vec::len).sum())
}
