//! What an orchestration may do with the standard library, one thing at a time: which works, which is refused, and how.
#![expect(
    clippy::dbg_macro,
    clippy::print_stdout,
    clippy::print_with_newline,
    clippy::unit_arg,
    clippy::unnecessary_literal_unwrap,
    clippy::unwrap_used,
    reason = "what authors write, and should not always"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_sdk::prelude::*;

const MEBIBYTE: usize = 1 << 20;

fn verdict<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "it worked".to_owned(),
        Err(_) => "an error".to_owned(),
    }
}

/// Does one thing, and says what came of it.
pub(crate) async fn uses(_: Context, what: String) -> Result<String, Failure> {
    Ok(done(&what))
}

/// The same, in an activity.
pub(crate) fn used(what: String) -> Result<String, Failure> {
    Ok(done(&what))
}

fn done(what: &str) -> String {
    let ok = |()| "it worked".to_owned();
    match what {
        // What is written becomes lines of the log.
        "println" => ok(println!("a line by println")),
        "eprintln" => ok(eprintln!("a line by eprintln")),
        "print" => {
            print!("a line ");
            // The library keeps a line until it ends.
            ok(print!("by print\n"))
        }
        "eprint" => ok(eprint!("a line by eprint")),
        "dbg" => dbg!(6 * 7).to_string(),
        "stdout" => verdict(
            std::io::stdout()
                .write_all(b"a line by write\n")
                .and_then(|()| std::io::stdout().flush()),
        ),
        "stderr" => verdict(writeln!(std::io::stderr(), "a line by writeln")),
        "much" => {
            let line = "x".repeat(1_000);
            for _ in 0..200 {
                println!("{line}");
            }
            verdict(std::io::stdout().write_all(&vec![b'y'; 200_000]))
        }
        "stdin" => std::io::stdin()
            .read_to_end(&mut Vec::new())
            .map_or_else(|_| "an error".to_owned(), |bytes| format!("{bytes} bytes")),
        // The network is not there.
        "connect" => verdict(TcpStream::connect("127.0.0.1:80")),
        "connect by name" => verdict(TcpStream::connect("localhost:80")),
        "connect in time" => {
            let address = ([127, 0, 0, 1], 80).into();
            verdict(TcpStream::connect_timeout(&address, Duration::from_secs(1)))
        }
        "connect v6" => verdict(TcpStream::connect("[::1]:80")),
        "listen" => verdict(TcpListener::bind("127.0.0.1:0")),
        "datagram" => verdict(UdpSocket::bind("127.0.0.1:0")),
        "resolve" => verdict(("example.com", 80).to_socket_addrs()),
        // Nor are files, but what was granted to an activity.
        "open" => verdict(std::fs::File::open("/etc/passwd")),
        "create" => verdict(std::fs::write("here", "x")),
        "list" => verdict(std::fs::read_dir(".")),
        "look at" => verdict(std::fs::metadata("/")),
        "link" => verdict(std::fs::hard_link("/a", "/b")),
        "rename" => verdict(std::fs::rename("/a", "/b")),
        "remove" => verdict(std::fs::remove_dir_all("/")),
        // Nor other programs and threads.
        "run" => verdict(std::process::Command::new("true").status()),
        "thread" => verdict(std::thread::Builder::new().spawn(|| {})),
        "yield" => ok(std::thread::yield_now()),
        "sleep" => ok(std::thread::sleep(Duration::from_secs(1))),
        "sleep for nothing" => ok(std::thread::sleep(Duration::ZERO)),
        // The surroundings are empty.
        "variables" => std::env::vars_os().count().to_string(),
        "arguments" => std::env::args_os().count().to_string(),
        "home" => format!("{:?}", std::env::var("HOME").ok()),
        "program" => verdict(std::env::current_exe()),
        "backtrace" => ok(drop(std::backtrace::Backtrace::force_capture())),
        // The clock is the turn's.
        "wall clock" => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .is_ok_and(|since| since > Duration::from_secs(1_500_000_000))
            .to_string(),
        "clock" => Instant::now().elapsed().as_nanos().to_string(),
        "hash map" => {
            let map: HashMap<u32, u32> = (0..100).map(|n| (n, n)).collect();
            map.values().sum::<u32>().to_string()
        }
        // Memory has its limit.
        "much memory" => black_box(vec![1_u8; 16 * MEBIBYTE]).len().to_string(),
        "try too much memory" => {
            let tried = Vec::<u8>::new().try_reserve_exact(2_000 * MEBIBYTE);
            format!("{}", tried.is_err())
        }
        "too much memory at once" => black_box(Vec::<u8>::with_capacity(2_000 * MEBIBYTE))
            .len()
            .to_string(),
        "too much memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(Vec::<u8>::with_capacity(MEBIBYTE));
                black_box(&hoard);
            }
        }
        "too much in a list" => {
            let mut list = vec![0_u64];
            loop {
                list.extend_from_within(..);
                black_box(&list);
            }
        }
        // Ends.
        "panic" => panic!("enough of {}", 6 * 7),
        "index" => black_box([1, 2, 3])[black_box(7)].to_string(),
        "overflow" => (black_box(u8::MAX) + black_box(1)).to_string(),
        "unwrap" => Err::<String, _>("it is bad").unwrap(),
        "write, then panic" => {
            println!("a line before a panic");
            panic!("after a line")
        }
        "exit" => std::process::exit(3),
        "exit well" => std::process::exit(0),
        "abort" => std::process::abort(),
        "depth" => crate::mistakes::down(0).to_string(),
        other => format!("nobody knows how to {other}"),
    }
}
