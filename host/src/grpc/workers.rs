//! The calls of remote workers: the stream of work items that each of them holds, and their answers.
//!
//! Invariants: an item whose stream ends is given back; an answer counts only for the item that its token names, and only while that item
//! is out. Answers to other tokens are accepted and change nothing, since a worker cannot know what became of its item. One that names an item
//! of another host of the hub is passed on to that.

mod items;
mod parts;

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::Stream;
use perennial_core::Callee;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status};

use crate::engine::Engine;
use crate::engine::remote::messages::HostMessage;
use crate::engine::remote::{Connection, Filter, NameFilter, Offer, WorkItem};
use crate::grpc::from_wire;
use crate::grpc::generated as wire;
use crate::grpc::generated::work_item::Request as Work;
use crate::grpc::status::shutting_down;

pub(crate) use items::is_for_workers;
use items::translated;
pub(crate) use parts::Workers;
use parts::{Part, StreamId};

/// A stream of work items.
pub(in crate::grpc) type WorkItems =
    Pin<Box<dyn Stream<Item = Result<wire::WorkItem, Status>> + Send>>;

/// How long a stream is silent at most. Workers take a stream that is silent for two minutes for dead.
const PING: Duration = Duration::from_secs(30);

/// How often a stream looks for items whose time is over, and whether the host stops. Each idle worker costs a wake-up as often.
const LOOK: Duration = Duration::from_secs(5);

/// Items that a worker gets at once that does not say how many it takes, and the most that any gets.
const ITEMS: u32 = 100;
const ITEMS_MAX: u32 = 10_000;

/// Characters of the name of a worker.
const NAME_CHARS: usize = 200;

/// A stream to a worker. Dropping it gives the items back that are out on it.
struct Streaming {
    id: StreamId,
    engine: Arc<Engine>,
    workers: Arc<Workers>,
    _connection: Arc<Connection>,
    items: mpsc::UnboundedReceiver<WorkItem>,
    streams_history: bool,
    /// How long it is silent at most.
    silence: Duration,
    /// The host stops, or has lost its hub.
    stops: watch::Receiver<bool>,
    /// The server stops.
    closes: watch::Receiver<bool>,
}

/// What a stream does next.
enum Next {
    End,
    Item(WorkItem),
    Silence,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.workers.forget(self.id);
    }
}

/// Connects a worker.
pub(in crate::grpc) fn connect(
    engine: &Arc<Engine>,
    workers: &Arc<Workers>,
    closes: watch::Receiver<bool>,
    request: Request<wire::GetWorkItemsRequest>,
) -> Result<WorkItems, Status> {
    let streaming = streaming(engine, workers, closes, request)?;
    Ok(Box::pin(futures::stream::try_unfold(
        streaming,
        |mut streaming| async move { Ok(Some((streaming.next().await?, streaming))) },
    )))
}

fn streaming(
    engine: &Arc<Engine>,
    workers: &Arc<Workers>,
    closes: watch::Receiver<bool>,
    request: Request<wire::GetWorkItemsRequest>,
) -> Result<Streaming, Status> {
    if engine.is_stopping() || *closes.borrow() {
        return Err(shutting_down());
    }
    let offer = offer(&request);
    let streams_history = offer.streams_history;
    let (connection, items) = engine.connect(offer);
    let connection = Arc::new(connection);
    let (stop, stops) = watch::channel(false);
    let id = workers.stream();
    tokio::spawn(look_after(
        Arc::clone(engine),
        Arc::clone(workers),
        id,
        Arc::downgrade(&connection),
        stop,
    ));
    Ok(Streaming {
        id,
        engine: Arc::clone(engine),
        workers: Arc::clone(workers),
        _connection: connection,
        items,
        streams_history,
        silence: PING,
        stops,
        closes,
    })
}

/// Looks after a stream also while its worker takes nothing from it.
async fn look_after(
    engine: Arc<Engine>,
    workers: Arc<Workers>,
    id: StreamId,
    connection: Weak<Connection>,
    stop: watch::Sender<bool>,
) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        if engine.is_stopping() {
            stop.send_replace(true);
            return;
        }
        connection.expire();
        // Answers may have come by way of other hosts.
        workers.retain(id, |token| engine.item_is_out(token));
    }
}

impl Streaming {
    /// The next message to the worker.
    async fn next(&mut self) -> Result<wire::WorkItem, Status> {
        loop {
            let next = tokio::select! {
                biased;
                _ = self.stops.wait_for(|stops| *stops) => Next::End,
                _ = self.closes.wait_for(|closes| *closes) => Next::End,
                item = self.items.recv() => item.map_or(Next::End, Next::Item),
                () = tokio::time::sleep(self.silence) => Next::Silence,
            };
            match next {
                Next::End => return Err(self.ends()),
                Next::Item(item) => {
                    if let Some(item) = self.sent(item) {
                        return Ok(item);
                    }
                }
                Next::Silence => {
                    return Ok(wire::WorkItem {
                        request: Some(Work::HealthPing(wire::HealthPing {})),
                        completion_token: String::new(),
                    });
                }
            }
        }
    }

    /// Gives every item back, which is not the worker's fault, so that it does not count as a loss.
    fn ends(&self) -> Status {
        for token in self.workers.forget(self.id) {
            self.engine.abandoned(&token);
        }
        shutting_down()
    }

    /// An item as it goes out; `None` if no message can hold it, which fails what it is about.
    fn sent(&self, item: WorkItem) -> Option<wire::WorkItem> {
        let (of, token) = match &item {
            WorkItem::Orchestration(item) => (Callee::Orchestration, item.token.clone()),
            WorkItem::Activity(item) => (Callee::Activity, item.token.clone()),
        };
        match translated(item, self.streams_history) {
            Ok(item) => {
                self.workers.is_out(self.id, of, token);
                Some(item)
            }
            Err(failure) => {
                match of {
                    Callee::Orchestration => {
                        let refused = from_wire::refused(failure);
                        self.engine.orchestration_answered(&token, refused);
                    }
                    Callee::Activity => {
                        self.engine.activity_answered(&token, Err(failure));
                    }
                }
                None
            }
        }
    }
}

fn offer(request: &Request<wire::GetWorkItemsRequest>) -> Offer {
    let message = request.get_ref();
    let (orchestrations, activities) = match &message.work_item_filters {
        None => (Filter::All, Filter::All),
        Some(filters) => {
            let orchestrations = filters.orchestrations.iter();
            let activities = filters.activities.iter();
            (
                only(orchestrations.map(|one| (&one.name, &one.versions))),
                only(activities.map(|one| (&one.name, &one.versions))),
            )
        }
    };
    let streams_history = wire::WorkerCapability::HistoryStreaming.into();
    Offer {
        worker: name(request),
        orchestrations,
        activities,
        orchestrations_max: credits(message.max_concurrent_orchestration_work_items),
        activities_max: credits(message.max_concurrent_activity_work_items),
        streams_history: message.capabilities.contains(&streams_history),
    }
}

fn only<'a>(names: impl Iterator<Item = (&'a String, &'a Vec<String>)>) -> Filter {
    let names = names.map(|(name, versions)| NameFilter {
        name: name.clone(),
        versions: versions.clone(),
    });
    Filter::Only(names.collect())
}

/// How many items a worker gets at once.
fn credits(asked: i32) -> u32 {
    match u32::try_from(asked) {
        Ok(0) | Err(_) => ITEMS,
        Ok(asked) => asked.min(ITEMS_MAX),
    }
}

/// What a worker calls itself, or else the program that it is.
fn name(request: &Request<wire::GetWorkItemsRequest>) -> String {
    let metadata = |key| request.metadata().get(key).and_then(|it| it.to_str().ok());
    let id = Some(request.get_ref().worker_instance_id.as_str());
    let names = [
        metadata("workerid"),
        id,
        metadata("x-user-agent"),
        metadata("user-agent"),
    ];
    let mut names = names.into_iter().flatten();
    let name = names.find(|name| !name.is_empty()).unwrap_or("a worker");
    name.chars().take(NAME_CHARS).collect()
}

/// Takes the answer to a turn.
pub(in crate::grpc) async fn complete_orchestration(
    engine: &Arc<Engine>,
    workers: &Workers,
    response: wire::OrchestratorResponse,
) -> Result<(), Status> {
    #[allow(
        deprecated,
        reason = "workers of some versions still send answers in parts"
    )]
    let is_partial = response.is_partial;
    let token = response.completion_token;
    if let Some(host) = engine.host_of_token(&token) {
        if is_partial {
            return Err(Status::failed_precondition(
                "this part of an answer belongs to an item of another host, which takes answers in parts only itself; let the worker and that host talk without a load balancer in between, or use a later version of the SDK",
            ));
        }
        let message = match response.requires_history {
            true => HostMessage::GivenBack { token },
            false => HostMessage::TurnAnswered {
                token,
                answer: Box::new(from_wire::answer(response.actions, response.custom_status)),
            },
        };
        return tell(engine, host, message).await;
    }
    if is_partial {
        workers.keep(&token, response.actions);
        return Ok(());
    }
    let answer = match workers.take(Callee::Orchestration, &token) {
        Part::NotOut => return Ok(()),
        Part::TooLarge => from_wire::refused(parts::too_large()),
        Part::Actions(mut actions) => {
            if response.requires_history {
                engine.abandoned(&token);
                return Ok(());
            }
            actions.extend(response.actions);
            from_wire::answer(actions, response.custom_status)
        }
    };
    engine.orchestration_answered(&token, answer);
    Ok(())
}

/// Takes the outcome of an activity.
pub(in crate::grpc) async fn complete_activity(
    engine: &Arc<Engine>,
    workers: &Workers,
    response: wire::ActivityResponse,
) -> Result<(), Status> {
    let token = response.completion_token.clone();
    if let Some(host) = engine.host_of_token(&token) {
        let outcome = from_wire::outcome(response);
        return tell(
            engine,
            host,
            HostMessage::ActivityAnswered { token, outcome },
        )
        .await;
    }
    if workers.take(Callee::Activity, &token) != Part::NotOut {
        engine.activity_answered(&token, from_wire::outcome(response));
    }
    Ok(())
}

/// A worker gives an item back.
pub(in crate::grpc) async fn abandon(
    engine: &Arc<Engine>,
    workers: &Workers,
    of: Callee,
    token: String,
) -> Result<(), Status> {
    if let Some(host) = engine.host_of_token(&token) {
        return tell(engine, host, HostMessage::GivenBack { token }).await;
    }
    if workers.take(of, &token) != Part::NotOut {
        engine.abandoned(&token);
    }
    Ok(())
}

/// Tells another host what became of its item. One that is gone waits for nothing.
async fn tell(engine: &Arc<Engine>, host: i64, message: HostMessage) -> Result<(), Status> {
    match engine.tell_host(host, message).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Status::unavailable(format!(
            "the host whose item this is could not be told of the answer: {error}; send it again"
        ))),
    }
}

#[cfg(test)]
mod tests;
