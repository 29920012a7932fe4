//! Takes the commands that other processes have left in the hub.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::engine::requests::intake::About;
use crate::engine::requests::refused;
use crate::engine::requests::request::{Request, StartRequest};
use crate::engine::requests::steps::{carry_out, takes_steps};
use crate::engine::{Engine, brief};
use crate::store::{self, Change, Reader, Reply, StoreError};

/// Maximum number of commands of other processes read at once.
const COMMANDS_MAX: u32 = 100;

/// The pending answer to a command.
type Answer = oneshot::Receiver<Result<Reply, StoreError>>;

/// Commands that were read together, as far as they are carried out.
#[derive(Default)]
struct UnderWay {
    answers: Vec<Answer>,
    /// The instances that they start.
    started: HashSet<String>,
}

impl UnderWay {
    /// Waits until all are answered.
    async fn all_told(&mut self) -> Result<(), StoreError> {
        self.started.clear();
        for answer in self.answers.drain(..) {
            match answer.await.unwrap_or(Err(StoreError::Closed)) {
                // The sender withdrew the command after it was read, so nothing was changed. Or whoever runs the instance now answers it.
                Ok(_) | Err(StoreError::TakenBack | StoreError::Elsewhere(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Request {
    /// The start that is asked for, and whether it is one of a remote worker's orchestration.
    fn into_start(self) -> Result<(StartRequest, bool), Box<Self>> {
        match self {
            Self::Start(start) => Ok((start, false)),
            Self::Remote(request) => match *request {
                Self::Start(start) => Ok((start, true)),
                other => Err(Box::new(Self::Remote(Box::new(other)))),
            },
            other => Err(Box::new(other)),
        }
    }
}

/// The answer to a command that is in the wrong place.
fn misplaced(request: &Request) -> Reply {
    let id = request.subject().unwrap_or_default();
    Reply::Refused {
        kind: refused::INVALID.to_owned(),
        message: format!(
            "the command for the instance {:?} was left for another partition than that of the instance",
            brief(id)
        ),
    }
}

impl Engine {
    /// Notified when commands of other processes may wait: for who takes them, which may notify it too.
    #[cfg(feature = "postgres")]
    pub(crate) fn new_commands(&self) -> Arc<tokio::sync::Notify> {
        Arc::clone(&self.requests.new_commands)
    }

    /// Takes the commands of other processes, and returns when all of them are answered.
    pub(crate) async fn take_commands(self: &Arc<Self>) -> Result<(), StoreError> {
        // Only one task at a time, so that no command is taken twice.
        let _one = self.requests.commands.lock().await;
        loop {
            let own = self.partitions();
            let here = own;
            let unanswered = move |reader: &Reader| reader.within(here).unanswered(COMMANDS_MAX);
            let commands = self.reading(unanswered).await?;
            if commands.is_empty() || self.is_stopping() {
                return Ok(());
            }
            let mut under_way = UnderWay::default();
            for (token, body) in commands {
                let request = store::decode::<Request>(&body, "a command");
                // Starts wait for their first turns. What may be about an instance that is being started waits for that.
                let subject = request.as_ref().map_or(Some(""), Request::subject);
                // It would never be carried out: whoever runs the instance does not look where it is.
                let is_misplaced = subject.is_some_and(|id| !own.has(own.of_id(id)));
                if is_misplaced && let Ok(request) = &request {
                    let declined = Change::Answer(misplaced(request));
                    let told = self.write_answer(token, declined, |_| {}).await;
                    under_way.answers.push(told);
                    continue;
                }
                if subject.is_none_or(|id| under_way.started.contains(id)) {
                    under_way.all_told().await?;
                }
                match request.map(Request::into_start) {
                    Ok(Ok((start, remote))) => {
                        self.take_start(token, start, remote, &mut under_way);
                    }
                    Ok(Err(request)) => {
                        self.take_command(token, Ok(*request), &mut under_way)
                            .await?;
                    }
                    Err(error) => {
                        self.take_command(token, Err(error), &mut under_way).await?;
                    }
                }
            }
            under_way.all_told().await?;
        }
    }

    /// Begins to carry a command out.
    async fn take_command(
        self: &Arc<Self>,
        token: String,
        request: Result<Request, StoreError>,
        under_way: &mut UnderWay,
    ) -> Result<(), StoreError> {
        let mut told_by_host = None;
        let change = match request {
            Ok(several) if self.is_shared() && several.is_several() => {
                under_way.all_told().await?;
                match Box::pin(self.submit(several)).await {
                    Ok(reply) => Change::Answer(reply),
                    Err(StoreError::Elsewhere(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(steps) if takes_steps(&steps) => {
                // The request reads the hub, so earlier commands must be committed.
                under_way.all_told().await?;
                let engine = Arc::clone(self);
                let steps = move || carry_out(&engine, steps, Some(token));
                return match self.blocking(&self.requests.steps, steps).await {
                    Ok(_) | Err(StoreError::TakenBack | StoreError::Elsewhere(_)) => Ok(()),
                    Err(error) => Err(error),
                };
            }
            Ok(Request::ToHost(to)) if self.is_told(&to) => {
                told_by_host = Some(*to);
                Change::Answer(Reply::Done)
            }
            Ok(request) => match self.judge(&request).await? {
                Some(declined) => Change::Answer(declined),
                None => self.prepare(self.made_ready(request).await?),
            },
            Err(error) => Change::Answer(Reply::Refused {
                kind: refused::INVALID.to_owned(),
                message: format!("{error}: it was written by another version of Perennial"),
            }),
        };
        let engine = Arc::clone(self);
        let hears = move |result: &Result<Reply, StoreError>| {
            // Once it is answered, it is not read again.
            if let (Some(to), Ok(_)) = (told_by_host, result) {
                engine.runtime.spawn(Arc::clone(&engine).hear(to));
            }
        };
        let told = self.write_answer(token, change, hears).await;
        under_way.answers.push(told);
        Ok(())
    }

    /// Begins to start an instance.
    fn take_start(
        self: &Arc<Self>,
        token: String,
        start: StartRequest,
        remote: bool,
        under_way: &mut UnderWay,
    ) {
        under_way.started.insert(start.id.clone());
        let (tell, told) = oneshot::channel();
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            let started = engine.start_for_command(token, start, remote).await;
            drop(tell.send(started));
        });
        under_way.answers.push(told);
    }

    /// Starts an instance with its first turn, in the transaction that answers the command.
    async fn start_for_command(
        self: &Arc<Self>,
        token: String,
        start: StartRequest,
        remote: bool,
    ) -> Result<Reply, StoreError> {
        let started = self.start_instance(start.clone(), remote, Some(&token));
        let change = match started.await {
            Ok(Reply::Done) => return Ok(Reply::Done),
            // Unless a transaction has said so already, this one does.
            Ok(reply) => Change::Answer(reply),
            Err(error @ (StoreError::TakenBack | StoreError::Elsewhere(_))) => return Err(error),
            Err(error) if error.is_end() => return Err(error),
            // Its first turn may be what failed: it must keep neither the start nor other commands waiting.
            Err(_) if remote => self.prepare(Request::Remote(Box::new(Request::Start(start)))),
            Err(_) => self.prepare(Request::Start(start)),
        };
        let told = self.write_answer(token, change, |_| {}).await;
        told.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Makes a change in the transaction that answers a command.
    async fn write_answer(
        self: &Arc<Self>,
        token: String,
        change: Change,
        then: impl FnOnce(&Result<Reply, StoreError>) + Send + 'static,
    ) -> Answer {
        let about = About::of(&change);
        let (tell, told) = oneshot::channel();
        let engine = Arc::clone(self);
        let write = self.job(change, move |_, result| {
            let result = result.map(|outcome| engine.answered(about, outcome));
            then(&result);
            drop(tell.send(result));
        });
        let write = write.answering(token);
        self.hub.writer.submit_later(write).await;
        told
    }
}
