//! Callers who do not do their part, as a stranger's script would make them: who connect and say nothing, who ask and do not read, who
//! begin to send and do not go on. The host says how it is, works for others, and holds no more than it says.
//!
//! With `PERENNIAL_LONG` there are more of them.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use perennial_tests::{DataDir, Serve, module};
use serde_json::json;

/// Places of the host that is attacked.
const PLACES: usize = 64;

/// Bytes that its bodies and answers may take up.
const MEMORY: u64 = 32 << 20;

/// What is held beside them: buffers of connections, rows that are being read, what an allocator keeps.
const SLACK: u64 = 128 << 20;

/// Longer than any of this takes.
const LIMIT: Duration = Duration::from_secs(60);

fn is_long() -> bool {
    std::env::var_os("PERENNIAL_LONG").is_some()
}

fn serve(dir: &DataDir) -> Serve {
    let (places, memory) = (PLACES.to_string(), MEMORY.to_string());
    Serve::start(
        dir.path(),
        &[
            "--listen",
            "127.0.0.1:0",
            "--max-connections",
            &places,
            "--max-http-memory",
            &memory,
        ],
    )
}

/// A hub with a few instances that have large inputs, and no host.
async fn hub(large: usize) -> DataDir {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let input = "x".repeat(1 << 20);
    let input = &input[..(1 << 20) - 64];
    for n in 0..large {
        let start = client.start("Wait").id(format!("large-{n}"));
        start.input(&input).await.unwrap();
    }
    host.shut_down().await;
    dir
}

/// Asks on a connection of its own, and reads the answer to its end.
fn ask(address: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The host must say how it is, each time.
fn is_healthy(address: SocketAddr) {
    for path in ["/healthz", "/readyz", "/healthz"] {
        let begun = Instant::now();
        let answer = ask(address, &format!("GET {path}"), b"").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}");
    }
}

/// Somebody else is served again, soon.
async fn works_for_others(address: SocketAddr) {
    let begun = Instant::now();
    loop {
        match ask(address, "GET /api/v1/counts", b"") {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return,
            other => assert!(begun.elapsed() < LIMIT, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A caller who sends this, as far as it is taken, and then nothing; it never reads.
fn caller(address: SocketAddr, sends: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    send(&mut stream, sends);
    stream
}

/// Sends what is taken without waiting for long. One that was refused, or gave way to another, sends no more.
fn send(stream: &mut TcpStream, mut bytes: &[u8]) {
    while let Ok(sent @ 1..) = stream.write(bytes) {
        bytes = &bytes[sent..];
        if bytes.is_empty() {
            return;
        }
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

/// A metric of the host.
fn metric(address: SocketAddr, name: &str) -> f64 {
    let metrics = ask(address, "GET /metrics", b"").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    value.trim().parse().unwrap()
}

#[tokio::test]
async fn callers_who_never_read_keep_nobody_from_the_host() {
    let dir = hub(4).await;
    let host = serve(&dir);
    let address = host.address();
    let count = if is_long() { 1_030 } else { 2 * PLACES };
    let asks = "GET /api/v1/instances?input=true HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(40);
    let callers: Vec<TcpStream> = (0..count)
        .map(|_| caller(address, asks.as_bytes()))
        .collect();
    is_healthy(address);
    works_for_others(address).await;
    is_healthy(address);
    drop(callers);
    works_for_others(address).await;
}

#[tokio::test]
async fn callers_who_never_finish_what_they_say_keep_nobody_from_the_host() {
    let dir = hub(0).await;
    let host = serve(&dir);
    let address = host.address();
    let start =
        "POST /api/v1/instances HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    for says in ["", "GET /api/v1/counts HTTP/1.1\r\nx-head: ", start] {
        let count = if is_long() { 1_030 } else { 2 * PLACES };
        let callers: Vec<TcpStream> = (0..count)
            .map(|_| caller(address, says.as_bytes()))
            .collect();
        is_healthy(address);
        works_for_others(address).await;
        is_healthy(address);
        drop(callers);
    }
}

#[tokio::test]
async fn what_callers_hold_up_is_bounded_in_all_and_given_back() {
    let dir = hub(8).await;
    let host = serve(&dir);
    let address = host.address();
    works_for_others(address).await;
    let before = resident(host.pid());
    let mut most = before;
    let mut look = |what: &str| {
        let now = resident(host.pid());
        most = most.max(now);
        let grown = now.saturating_sub(before);
        assert!(grown < MEMORY + SLACK, "{what}: {} MiB", grown >> 20);
    };
    let list = "GET /api/v1/instances?input=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let show =
        "GET /api/v1/instances/large-1?input=true&history=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let follow = "GET /api/v1/instances/large-1/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (what, asks) in [("lists", list), ("histories", show), ("followers", follow)] {
        let asks = asks.repeat(8);
        let mut callers = Vec::new();
        for _ in 0..if is_long() { 400 } else { 100 } {
            callers.push(caller(address, asks.as_bytes()));
            look(what);
        }
        is_healthy(address);
        look(what);
    }
    const PART: usize = 4 << 20;
    let part = vec![b'x'; PART];
    let uploads = (
        60 << 20,
        "PUT /api/v1/modules/m",
        if is_long() { 60 << 20 } else { 4 << 20 },
    );
    let starts = (3 << 20, "POST /api/v1/instances", 2 << 20);
    for (length, head, sends) in [uploads, starts] {
        let sends: usize = sends;
        let head =
            format!("{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        let mut callers: Vec<TcpStream> = Vec::new();
        for _ in 0..60 {
            callers.push(caller(address, head.as_bytes()));
        }
        for _ in 0..sends.div_ceil(PART) {
            for stream in &mut callers {
                send(stream, &part[..PART.min(sends)]);
            }
            look(&head);
        }
        is_healthy(address);
        look(&head);
    }
    works_for_others(address).await;
    // Whoever was refused is told when to ask again, and everything is given back once the callers are gone.
    assert!(metric(address, "perennial_http_memory_refused_total") > 0.0);
    let begun = Instant::now();
    while metric(address, "perennial_http_memory_bytes") > 0.0 {
        assert!(begun.elapsed() < LIMIT, "something is not given back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    look("after all of it");
    println!("at most {} MiB more", (most - before) >> 20);
}

/// Everything that a host may hold, at once: guests, what is queued, answers that nobody reads, bodies that do not end, and followers.
#[tokio::test]
async fn all_attacks_at_once_hold_no_more_than_the_bounds_together() {
    let dir = hub(8).await;
    let host = serve(&dir);
    let address = host.address();
    works_for_others(address).await;
    let before = resident(host.pid());
    let guests: u32 = if is_long() { 2_000 } else { 200 };
    for n in 0..guests {
        let body = json!({ "orchestration": "Wait", "id": format!("w{n}") }).to_string();
        let started = ask(address, "POST /api/v1/instances", body.as_bytes()).unwrap();
        assert!(started.starts_with("HTTP/1.1 201"), "{started}");
    }
    let ask_of = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").repeat(8);
    let body_of = |head: &str, length: usize| {
        let head =
            format!("{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        head + &"x".repeat(2 << 20)
    };
    let attacks = [
        ask_of("/api/v1/instances?input=true"),
        ask_of("/api/v1/instances/large-1?input=true&history=true"),
        ask_of("/api/v1/instances/large-1/live"),
        body_of("PUT /api/v1/modules/m", 60 << 20),
        body_of("POST /api/v1/instances", 3 << 20),
    ];
    // 1 GiB of guests is far more than these are: each has touched a few pages.
    let bound = MEMORY + SLACK + u64::from(guests) * (512 << 10);
    let rounds = if is_long() { 80 } else { 12 };
    let (mut callers, mut most) = (Vec::new(), 0);
    for _ in 0..rounds {
        for attack in &attacks {
            callers.push(caller(address, attack.as_bytes()));
        }
        let grown = resident(host.pid()).saturating_sub(before);
        most = most.max(grown);
        assert!(grown < bound, "{} of {} MiB", grown >> 20, bound >> 20);
    }
    is_healthy(address);
    drop(callers);
    works_for_others(address).await;
    println!("at most {} MiB more, of {}", most >> 20, bound >> 20);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_and_not_cut_off() {
    let dir = hub(0).await;
    let host = serve(&dir);
    let address = host.address();
    let body = vec![b'x'; 16 << 20];
    for head in [
        "POST /api/v1/instances",
        "POST /runtime/webhooks/durabletask/orchestrators/Wait",
        "PUT /api/v1/modules/none/grants",
    ] {
        // All of it is sent before anything is read, as most clients do.
        let answer = ask(address, head, &body).unwrap();
        let expected = if head.contains("grants") {
            "403"
        } else {
            "413"
        };
        let begins = format!("HTTP/1.1 {expected}");
        assert!(answer.starts_with(&begins), "{head}: {answer}");
    }
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /api/v1/instances HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..16 {
        stream.write_all(chunk.as_bytes()).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// What a host does in a time.
struct Did {
    events: f64,
    /// Reads of the hub for followers, and the processors' time that they cost.
    reads: f64,
    cpu: f64,
    /// Memory at the end, and seconds that it took.
    resident: u64,
    seconds: f64,
}

/// What a host does in a time, with so many followers of its one busy instance.
async fn did_in(time: Duration, followers: usize, dir: &Path) -> Did {
    let host = Serve::start(
        dir,
        &["--listen", "127.0.0.1:0", "--max-connections", "2048"],
    );
    let address = host.address();
    let start = json!({ "orchestration": "Chain", "id": "followed", "input": 1_000_000 });
    let started = ask(
        address,
        "POST /api/v1/instances",
        start.to_string().as_bytes(),
    )
    .unwrap();
    assert!(started.starts_with("HTTP/1.1 201"), "{started}");
    let look = || {
        let shown = ask(address, "GET /api/v1/instances/followed", b"").unwrap();
        let json = shown.split("\r\n\r\n").nth(1).unwrap();
        let shown: serde_json::Value = serde_json::from_str(json).unwrap();
        let reads = metric(address, "perennial_http_follower_reads_total ");
        let cpu = metric(address, "perennial_http_follower_cpu_seconds_total ");
        (shown["historyEvents"].as_f64().unwrap(), reads, cpu)
    };
    let follow = "GET /api/v1/instances/followed/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut tasks = Vec::new();
    for _ in 0..followers {
        let stream = caller(address, follow.as_bytes());
        stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
        tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            let mut read = 0;
            while let Ok(bytes @ 1..) =
                tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await
            {
                read += bytes;
            }
            read
        }));
    }
    tokio::time::sleep(time / 2).await;
    let (begun, before) = (Instant::now(), look());
    tokio::time::sleep(time).await;
    let (after, seconds) = (look(), begun.elapsed().as_secs_f64());
    let counted = metric(address, "perennial_http_followers ");
    assert!(
        counted >= followers as f64,
        "{counted} of {followers} follow"
    );
    let did = Did {
        events: (after.0 - before.0) / seconds,
        reads: after.1 - before.1,
        cpu: after.2 - before.2,
        resident: resident(host.pid()),
        seconds,
    };
    println!(
        "{followers} followers: {:.0} events a second, {} reads, {:.2} of a processor, {} MiB",
        did.events,
        did.reads,
        did.cpu / seconds,
        did.resident >> 20,
    );
    host.kill();
    for task in tasks {
        assert!(task.await.unwrap() > 0, "a follower was told nothing");
    }
    did
}

/// The followers run on the same machine as the host. What the host spends on them is measured by itself, and does not depend on what else
/// the machine does; in the long run the throughput is compared too, which has the followers' own part in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_followers_cost_less_than_a_fifth() {
    /// What one follower adds to the memory of a host, with its connection, and what they share.
    const FOLLOWER_BYTES: u64 = 64 << 10;
    const SHARED_BYTES: u64 = 128 << 20;
    let (followers, seconds) = if is_long() { (1_000, 10) } else { (500, 3) };
    let time = Duration::from_secs(seconds);
    let dir = hub(0).await;
    let none = did_in(time, 0, dir.path()).await;
    let dir = hub(0).await;
    let many = did_in(time, followers, dir.path()).await;
    let processors = std::thread::available_parallelism().unwrap().get() as f64;
    // What is under way when it is paid for, and a timer, come on top.
    let spent = many.cpu / many.seconds / processors;
    assert!(spent < 0.2, "{spent:.2} of the processors' time");
    // A faster machine reads more in the same time of its processors: some a second for each follower, and not one for each event.
    assert!(
        many.reads < 10.0 * followers as f64 * many.seconds,
        "{} reads",
        many.reads
    );
    let each = many.resident.saturating_sub(none.resident);
    let most = SHARED_BYTES + followers as u64 * FOLLOWER_BYTES;
    assert!(each < most, "{} MiB more", each >> 20);
    let part = if is_long() { 0.8 } else { 0.4 };
    let (many, none) = (many.events, none.events);
    assert!(
        many > part * none,
        "{many:.0} events a second instead of {none:.0}"
    );
}
