//! Orchestrations that tests and benchmarks drive. `Echo` and `Append` are its own activities; `Native` is a closure of the host.

use std::io::Write;
use std::time::Duration;

use perennial_sdk::prelude::*;
use serde::Deserialize;

/// `n` activities, one after the other.
async fn chain(ctx: Context, n: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for i in 0..n {
        sum += ctx.activity::<u32>("Echo", i).await? & 1;
    }
    Ok(sum)
}

/// `n` activities of the host's program, one after the other.
async fn native_chain(ctx: Context, n: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for i in 0..n {
        sum += ctx.activity::<u32>("Native", i).await? & 1;
    }
    Ok(sum)
}

/// `n` activities at once.
async fn fan_out(ctx: Context, n: u32) -> Result<u32, Failure> {
    let calls = (0..n).map(|i| ctx.activity::<u32>("Echo", i));
    Ok(try_join_all(calls).await?.len() as u32)
}

/// `n` activities of the host's program at once.
async fn native_fan_out(ctx: Context, n: u32) -> Result<u32, Failure> {
    let calls = (0..n).map(|i| ctx.activity::<u32>("Native", i));
    Ok(try_join_all(calls).await?.len() as u32)
}

/// `n` activities at once that compute, each for 5 ms.
async fn spin_out(ctx: Context, n: u32) -> Result<u32, Failure> {
    let calls = (0..n).map(|_| ctx.activity::<u32>("SpinFor", 5));
    Ok(try_join_all(calls).await?.len() as u32)
}

/// `n` activities of the host's program, one after the other; then one more for each event `Go`, without end.
async fn steps_then_events(ctx: Context, n: u32) -> Result<(), Failure> {
    for i in 0..n {
        ctx.activity::<u32>("Native", i).await?;
    }
    loop {
        let value: u32 = ctx.event("Go").await?;
        ctx.activity::<u32>("Stepped", value).await?;
    }
}

/// Waits until a time, in milliseconds since 1970.
async fn sleep_until(ctx: Context, millis: u64) -> Result<(), Failure> {
    ctx.timer_at(Timestamp::from_unix_millis(millis)).await?;
    Ok(())
}

/// Waits for the event `Go` and returns what it carries.
async fn wait(ctx: Context, _: ()) -> Result<String, Failure> {
    ctx.event("Go").await
}

/// Shows what each event `Go` carries as its value and its tag `stage`, and its tags as the value `tags`.
async fn stages(ctx: Context, _: ()) -> Result<(), Failure> {
    loop {
        let stage: String = ctx.event("Go").await?;
        match stage.as_str() {
            "end" => return Ok(()),
            "again" => return ctx.continue_as_new(()),
            "clear" => ctx.clear_value("stage"),
            _ => {
                ctx.set_value("stage", &stage)?;
                ctx.set_tag("stage", Some(&stage));
                ctx.set_value("tags", ctx.tags())?;
            }
        }
    }
}

/// `n` events `Go`, one after the other.
async fn count_events(ctx: Context, n: u32) -> Result<Vec<u32>, Failure> {
    let mut seen = Vec::new();
    for _ in 0..n {
        seen.push(ctx.event("go").await?);
    }
    Ok(seen)
}

/// Waits so many milliseconds.
async fn sleep(ctx: Context, millis: u64) -> Result<(), Failure> {
    ctx.timer(Duration::from_millis(millis)).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Steps {
    file: String,
    steps: u32,
}

/// Activities that write a line each into a file, half of them one after the other and half at once.
async fn append(ctx: Context, input: Steps) -> Result<u32, Failure> {
    let line = |i: u32| (input.file.clone(), format!("{} {i}", ctx.instance_id()));
    for i in 0..input.steps / 2 {
        let () = ctx.activity("Append", line(i)).await?;
    }
    let rest: Vec<Call> = (input.steps / 2..input.steps)
        .map(|i| ctx.activity("Append", line(i)))
        .collect();
    try_join_all(rest).await?;
    Ok(input.steps)
}

type Call = perennial_sdk::ActivityCall<()>;

/// As `append`, but each attempt writes a line about itself.
async fn logged(ctx: Context, input: Steps) -> Result<u32, Failure> {
    for _ in 0..input.steps / 2 {
        let () = ctx.activity("Log", &input.file).await?;
    }
    let rest: Vec<Call> = (input.steps / 2..input.steps)
        .map(|_| ctx.activity("Log", &input.file))
        .collect();
    try_join_all(rest).await?;
    Ok(input.steps)
}

#[derive(Deserialize)]
struct Family {
    file: String,
    steps: u32,
    children: u32,
}

/// Children that each write so many lines.
async fn logged_below(ctx: Context, family: Family) -> Result<u32, Failure> {
    let input = perennial_sdk::serde_json::json!({ "file": family.file, "steps": family.steps });
    let children = (0..family.children).map(|_| ctx.child::<u32>("Logged", &input));
    Ok(try_join_all(children).await?.into_iter().sum())
}

async fn child_sum(ctx: Context, n: u32) -> Result<u32, Failure> {
    let children = (0..n).map(|i| ctx.child::<u32>("Chain", i));
    Ok(try_join_all(children).await?.into_iter().sum())
}

#[derive(Deserialize)]
struct Wide {
    timers: u32,
    children: u32,
}

/// Waits for many timers of a day and many children that wait for an event.
async fn waits_widely(ctx: Context, wide: Wide) -> Result<(), Failure> {
    let day = Duration::from_secs(24 * 60 * 60);
    let timers: Vec<_> = (0..wide.timers).map(|_| ctx.timer(day)).collect();
    let children = (0..wide.children).map(|_| ctx.child::<String>("Wait", ()));
    try_join_all(children.collect::<Vec<_>>()).await?;
    for timer in timers {
        timer.await?;
    }
    Ok(())
}

async fn count_down(ctx: Context, n: u32) -> Result<String, Failure> {
    if n > 0 {
        return ctx.continue_as_new(n - 1);
    }
    Ok("lift-off".to_owned())
}

async fn panics(_: Context, _: ()) -> Result<(), Failure> {
    panic!("the sky is falling");
}

async fn spins(_: Context, _: ()) -> Result<(), Failure> {
    loop {
        std::hint::black_box(0);
    }
}

async fn allocates(_: Context, _: ()) -> Result<usize, Failure> {
    let mut hoard = Vec::new();
    loop {
        hoard.push(Vec::<u8>::with_capacity(1 << 20));
        std::hint::black_box(&hoard);
    }
}

async fn recurses(_: Context, depth: u64) -> Result<u64, Failure> {
    #[expect(unconditional_recursion, reason = "that is what it is for")]
    fn down(depth: u64) -> u64 {
        std::hint::black_box(down(std::hint::black_box(depth + 1)) + 1)
    }
    Ok(down(depth))
}

async fn awaits_nothing(_: Context, _: ()) -> Result<(), Failure> {
    std::future::pending().await
}

async fn calls_unknown(ctx: Context, _: ()) -> Result<(), Failure> {
    ctx.activity("NoSuchActivity", ()).await
}

async fn runs_failing(ctx: Context, _: ()) -> Result<(), Failure> {
    ctx.activity("Fails", ()).await
}

/// Fails while a file is not there, then waits for the event `Go`.
async fn mendable(ctx: Context, file: String) -> Result<String, Failure> {
    let () = ctx.activity("MustExist", file).await?;
    ctx.event("Go").await
}

/// Asks for each file at once, and fails with the last failure once all have ended.
async fn mends_all(ctx: Context, files: Vec<String>) -> Result<usize, Failure> {
    let calls = files
        .iter()
        .map(|file| ctx.activity::<()>("MustExist", file));
    let failed = join_all(calls)
        .await
        .into_iter()
        .rev()
        .find_map(Result::err);
    failed.map_or(Ok(files.len()), Err)
}

/// Waits for the event `Go` no longer than so many milliseconds.
async fn goes_in_time(ctx: Context, millis: u64) -> Result<String, Failure> {
    ctx.timeout(Duration::from_millis(millis), ctx.event("Go"))
        .await
}

#[derive(Deserialize)]
struct Launch {
    ids: Vec<String>,
    fails: bool,
}

/// Starts an instance of `Wait` under each id, and ends at once.
async fn launches(ctx: Context, launch: Launch) -> Result<usize, Failure> {
    for id in &launch.ids {
        ctx.start_instance(id, "Wait", ()).start()?;
    }
    match launch.fails {
        true => Err(Failure::new("Meant", "it was meant to fail")),
        false => Ok(launch.ids.len()),
    }
}

async fn runs_busy(ctx: Context, _: ()) -> Result<(), Failure> {
    ctx.activity("Busy", ()).await
}

async fn retries(ctx: Context, attempts: u32) -> Result<u32, Failure> {
    let policy = RetryPolicy::new(attempts, Duration::from_millis(1));
    ctx.activity("Flaky", ()).retry(policy).await
}

#[derive(Deserialize)]
struct Requested {
    /// What the activity `http` is given.
    request: perennial_sdk::serde_json::Value,
    attempts: u32,
    timeout_millis: u64,
}

/// The activity `http`, as a guest without an SDK calls it.
async fn calls_http(
    ctx: Context,
    input: Requested,
) -> Result<perennial_sdk::serde_json::Value, Failure> {
    let policy = RetryPolicy::new(input.attempts, Duration::from_millis(1));
    let call = ctx.activity("http", input.request).retry(policy);
    call.attempt_timeout(Duration::from_millis(input.timeout_millis))
        .await
}

/// What an orchestration sees of the world.
async fn observes(ctx: Context, _: ()) -> Result<Vec<String>, Failure> {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis());
        seen.push(format!("{}", now == u128::from(ctx.now().as_unix_millis())));
        let mut set = std::collections::HashSet::new();
        set.extend(0..16);
        seen.push(format!("{:?}", set.into_iter().collect::<Vec<i32>>()));
        seen.push(format!("{}", std::env::vars().count()));
        seen.push(format!("{}", std::fs::read_dir("/").is_err()));
        seen.push(format!("{} {}", ctx.random_u64(), ctx.new_uuid()));
        let () = ctx.event("Go").await?;
    }
    Ok(seen)
}

fn echo(value: u32) -> Result<u32, Failure> {
    Ok(value)
}

fn append_line((file, line): (String, String)) -> Result<(), Failure> {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}

/// Appends a line that says whose attempt this is, and when it began.
fn log(ctx: ActivityContext, file: String) -> Result<(), Failure> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    let (id, execution, task) = (ctx.instance_id(), ctx.execution_id(), ctx.task());
    append_line((
        file,
        format!("{id} {execution} {task} {} {now}", ctx.attempt()),
    ))
}

fn fails() -> Result<(), Failure> {
    Err(Failure::new("CardDeclined", "the card was declined").not_retryable())
}

fn must_exist(file: String) -> Result<(), Failure> {
    if std::path::Path::new(&file).exists() {
        return Ok(());
    }
    Err(Failure::new("Missing", format!("there is no {file}")).not_retryable())
}

fn busy() -> Result<(), Failure> {
    loop {
        std::hint::black_box(0);
    }
}

fn spin_for(millis: u32) -> Result<u32, Failure> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(millis.into()) {
        std::hint::spin_loop();
    }
    Ok(millis)
}

fn flaky(ctx: ActivityContext, _: ()) -> Result<u32, Failure> {
    match ctx.attempt() {
        attempt @ 3.. => Ok(attempt),
        attempt => Err(Failure::new("Flaky", format!("attempt {attempt} failed"))),
    }
}

perennial_sdk::export! {
    orchestrations: {
        "Chain" => chain,
        "NativeChain" => native_chain,
        "FanOutN" => fan_out,
        "NativeFanOutN" => native_fan_out,
        "SpinOutN" => spin_out,
        "StepsThenEvents" => steps_then_events,
        "SleepUntil" => sleep_until,
        "Wait" => wait,
        "CountEvents" => count_events,
        "Stages" => stages,
        "Sleep" => sleep,
        "Append" => append,
        "Logged" => logged,
        "LoggedBelow" => logged_below,
        "WaitsWidely" => waits_widely,
        "ChildSum" => child_sum,
        "CountDown" => count_down,
        "Panics" => panics,
        "Spins" => spins,
        "Allocates" => allocates,
        "Recurses" => recurses,
        "AwaitsNothing" => awaits_nothing,
        "CallsUnknown" => calls_unknown,
        "RunsFailing" => runs_failing,
        "Mendable" => mendable,
        "MendsAll" => mends_all,
        "GoesInTime" => goes_in_time,
        "Launches" => launches,
        "RunsBusy" => runs_busy,
        "Retries" => retries,
        "Observes" => observes,
        "CallsHttp" => calls_http,
    },
    activities: {
        "Echo" => echo,
        "Append" => append_line,
        "Log" => log,
        "Fails" => fails,
        "MustExist" => must_exist,
        "Busy" => busy,
        "Flaky" => flaky,
        "SpinFor" => spin_for,
    },
}
