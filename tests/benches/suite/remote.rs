//! W9: three activities, one after the other, in an orchestration that a remote worker runs. The worker is a process of its own, so that the
//! processor time is that of the host and of its client alone.

#[rustfmt::skip]
#[path = "../../tests/grpc/generated.rs"]
#[allow(
    clippy::all,
    clippy::use_self,
    dead_code,
    missing_docs,
    unused_qualifications,
    reason = "generated code"
)]
mod wire;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use perennial::Host;
use perennial::http::{Api, serve};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use wire::history_event::EventType;
use wire::orchestrator_action::OrchestratorActionType as Asked;
use wire::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use wire::work_item::Request as Work;

use crate::hello::{alone_ms_of, throughput};
use crate::measure::{
    COUNTS, Cost, cost, counts_row, cpu_seconds, data_dir, is_quick, median, rounds, sized, span,
};
use crate::section::{Section, number};

/// The process that plays the worker.
pub(crate) const WORKER: &str = "remote-worker";

/// Where that process finds the host.
const ADDRESS: &str = "PERENNIAL_BENCH_ADDRESS";

const ORCHESTRATION: &str = "RemoteSequence";

/// Activities of an instance.
const STEPS: usize = 3;

/// Workers that have nothing to do.
const IDLE: u32 = 1_000;

type Stub = TaskHubSidecarServiceClient<Channel>;

async fn stub(address: &str) -> Stub {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.tcp_nodelay(true).connect().await.unwrap();
    TaskHubSidecarServiceClient::new(channel).max_decoding_message_size(64 << 20)
}

/// Kills the worker at the end.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_worker(address: &str) -> Worker {
    let mut worker = Command::new(std::env::current_exe().unwrap());
    worker.env(crate::WORKLOAD, WORKER).env(ADDRESS, address);
    Worker(worker.spawn().unwrap())
}

/// Runs the orchestration and its activity until the host has gone.
pub(crate) async fn worker() {
    let mut stub = stub(&std::env::var(ADDRESS).unwrap()).await;
    let request = wire::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 256,
        max_concurrent_activity_work_items: 256,
        ..Default::default()
    };
    let Ok(items) = stub.get_work_items(request).await else {
        return;
    };
    let mut items = items.into_inner();
    while let Ok(Some(item)) = items.message().await {
        let mut stub = stub.clone();
        tokio::spawn(async move {
            let token = item.completion_token;
            let answered = match item.request {
                Some(Work::OrchestratorRequest(turn)) => {
                    let answer = wire::OrchestratorResponse {
                        instance_id: turn.instance_id.clone(),
                        actions: vec![next(&turn)],
                        completion_token: token,
                        ..Default::default()
                    };
                    stub.complete_orchestrator_task(answer).await.map(drop)
                }
                Some(Work::ActivityRequest(call)) => {
                    let outcome = wire::ActivityResponse {
                        instance_id: call
                            .orchestration_instance
                            .map_or_else(String::new, |instance| instance.instance_id),
                        task_id: call.task_id,
                        result: call.input,
                        completion_token: token,
                        ..Default::default()
                    };
                    stub.complete_activity_task(outcome).await.map(drop)
                }
                _ => Ok(()),
            };
            // The host goes away when everything is measured.
            let _ = answered;
        });
    }
}

/// What the orchestration asks for next: a step, or its end.
fn next(turn: &wire::OrchestratorRequest) -> wire::OrchestratorAction {
    let events = turn.past_events.iter().chain(&turn.new_events);
    let done = events.filter(|event| matches!(event.event_type, Some(EventType::TaskCompleted(_))));
    let done = done.count();
    let asked = if done < STEPS {
        Asked::ScheduleTask(wire::ScheduleTaskAction {
            name: "Echo".to_owned(),
            input: Some(done.to_string()),
            ..Default::default()
        })
    } else {
        Asked::CompleteOrchestration(wire::CompleteOrchestrationAction {
            orchestration_status: wire::OrchestrationStatus::Completed.into(),
            ..Default::default()
        })
    };
    wire::OrchestratorAction {
        id: i32::try_from(done).unwrap() + 1,
        orchestrator_action_type: Some(asked),
    }
}

async fn until_served(host: &Host) {
    let client = host.client();
    while client.workers().await.unwrap().connected.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Processor milliseconds of the host in a second in which nothing happens.
async fn idle_ms(seconds: f64) -> f64 {
    let before = cpu_seconds();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    (cpu_seconds() - before) * 1e3 / seconds
}

/// Milliseconds in which a history of at least 10,000 events is read as a stream, and the number of events.
async fn history_ms(host: &Host, address: &str) -> (f64, usize) {
    let client = host.client();
    let id = client.start("Chain").input(&sized(3_400)).await.unwrap();
    crate::measure::ends(&client, &id).await;
    let request = wire::StreamInstanceHistoryRequest {
        instance_id: id,
        ..Default::default()
    };
    let mut stub = stub(address).await;
    let begun = Instant::now();
    let chunks = stub.stream_instance_history(request).await.unwrap();
    let (mut chunks, mut events) = (chunks.into_inner(), 0);
    while let Some(chunk) = chunks.message().await.unwrap() {
        events += chunk.events.len();
    }
    (begun.elapsed().as_secs_f64() * 1e3, events)
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W9",
        "hello-sequence through a remote worker",
        "An orchestration calls one activity three times in sequence. A worker in another process runs both, over gRPC. `64` are in flight, then one.",
    );
    let dir = data_dir();
    let host = crate::hello::host(&dir).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let api = Api::new(host.client()).this_machine_only();
    let server = tokio::spawn(serve(listener, api, None, std::future::pending()));
    let worker = start_worker(&address);
    until_served(&host).await;
    let client = host.client();
    let (mut rates, mut many, mut alone, mut latencies) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds() {
        let work = throughput(&client, ORCHESTRATION, None, 64, span());
        let (total, done) = cost(&host, work).await;
        rates.push(done / total.seconds);
        many.push(total.each(done));
        let count = sized(100);
        let (total, took) = cost(&host, alone_ms_of(&client, ORCHESTRATION, count)).await;
        alone.push(total.each(f64::from(count)));
        latencies.extend(took);
    }
    drop(worker);
    let (ms, events) = history_ms(&host, &address).await;
    let seconds = if is_quick() { 0.2 } else { 10.0 };
    let before = idle_ms(seconds).await;
    let mut idle = Vec::new();
    for _ in 0..sized(IDLE) {
        let mut stub = stub(&address).await;
        let items = stub.get_work_items(wire::GetWorkItemsRequest::default());
        idle.push((items.await.unwrap(), stub));
    }
    let with = idle_ms(seconds).await;
    drop(idle);
    server.abort();
    host.shut_down().await;
    let of = |costs: &[Cost], pick: fn(&Cost) -> f64| {
        median(&costs.iter().map(pick).collect::<Vec<_>>())
    };
    section.at_most(
        "commits of an instance alone",
        4.0,
        "",
        of(&alone, |c| c.commits),
    );
    section.at_most(
        "CPU of the host and its client, an instance, 64 in flight",
        0.5,
        "ms",
        of(&many, |c| c.cpu * 1e3),
    );
    section.at_most("a history of 10,000 events, streamed", 100.0, "ms", ms);
    section.table(
        "Counts",
        COUNTS,
        vec![
            counts_row("instance, 64 in flight", &many),
            counts_row("instance alone", &alone),
        ],
    );
    section.table(
        "Rates and waits",
        ["what", "measured"],
        vec![
            [
                "instances a second, 64 in flight".to_owned(),
                number(median(&rates)),
            ],
            [
                "ms of one alone, median".to_owned(),
                number(median(&latencies)),
            ],
            ["events of the history".to_owned(), number(events as f64)],
            [
                "ms of CPU a second, without workers".to_owned(),
                number(before),
            ],
            [
                format!(
                    "ms of CPU a second, with {} idle workers and their connections",
                    sized(IDLE)
                ),
                number(with),
            ],
        ],
    );
    section
}
