//! Takes the commands that other processes have left in the hub.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::requests::intake::{About, Long};
use crate::engine::requests::refused;
use crate::engine::requests::request::{Request, StartRequest};
use crate::engine::requests::steps::takes_steps;
use crate::engine::{Engine, Known, brief};
use crate::foreign::guarded_async;
use crate::outage::warn_seldom;
use crate::store::{self, Change, Reader, Reply, StoreError};

/// Maximum number of commands of other processes read at once.
const COMMANDS_MAX: u32 = 100;

/// The wait before commands are taken again that could not be carried out: the database tells of each only once.
pub(crate) const TAKE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The pending answer to a command.
type Answer = oneshot::Receiver<Result<Reply, StoreError>>;

/// Commands that were read together, as far as they are carried out.
#[derive(Default)]
struct UnderWay {
    answers: Vec<Answer>,
    /// The instances that they start.
    started: HashSet<String>,
    /// The first error for which one stays unanswered.
    failed: Option<StoreError>,
}

impl UnderWay {
    /// Waits until all are answered.
    async fn all_told(&mut self) {
        self.started.clear();
        for answer in std::mem::take(&mut self.answers) {
            self.came_of(answer.await.unwrap_or(Err(StoreError::Closed)));
        }
    }

    fn came_of(&mut self, done: Result<Reply, StoreError>) {
        if let Err(error) = done {
            self.fails(error);
        }
    }

    /// One has met an error. The others go on.
    fn fails(&mut self, error: StoreError) {
        if stays_unanswered(&error) {
            self.failed.get_or_insert(error);
        }
    }
}

/// What waits for deployments that came before it: whatever may start something, and everything after that for the same instance.
#[derive(Default)]
struct Behind(HashSet<String>);

impl Behind {
    /// Whether a request waits.
    fn has(&mut self, request: &Request) -> bool {
        let subject = request.subject();
        let waits =
            !request.goes_past_deployments() || subject.is_some_and(|id| self.0.contains(id));
        if waits {
            self.0.extend(subject.map(str::to_owned));
        }
        waits
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

    /// Takes the commands of other processes, and returns when all of them are answered but those that wait for other hosts or for a module to
    /// be compiled.
    ///
    /// # Errors
    /// The first one that kept a command from being answered. It stays in the hub, and is to be taken again.
    pub(crate) async fn take_commands(self: &Arc<Self>) -> Result<(), StoreError> {
        // Only one task at a time, so that no command is taken twice.
        let _one = self.requests.commands.lock().await;
        loop {
            let own = self.partitions();
            let here = own;
            // Whoever is in here now may be answered while the commands are read.
            let long = self.requests.long_commands.lock().clone();
            let limit = COMMANDS_MAX.saturating_add(u32::try_from(long.len()).unwrap_or(u32::MAX));
            let unanswered = move |reader: &Reader| reader.within(here).unanswered(limit);
            let mut commands = self.reading(unanswered).await?;
            commands.retain(|(token, _)| !long.contains_key(token));
            if self.is_stopping() {
                return Ok(());
            }
            let deploys = long.values().any(|long| *long == Long::Deployment);
            let mut behind = deploys.then(Behind::default);
            let mut under_way = UnderWay::default();
            let mut is_taken = false;
            for (token, body) in commands {
                let request = store::decode::<Request>(&body, "a command");
                if let (Some(behind), Ok(request)) = (&mut behind, &request)
                    && behind.has(request)
                {
                    continue;
                }
                is_taken = true;
                // Starts wait for their first turns. What may be about an instance that is being started waits for that.
                let subject = request.as_ref().map_or(Some(""), Request::subject);
                // It would never be carried out: whoever runs the instance does not look where it is.
                let is_misplaced = subject.is_some_and(|id| !own.has(own.of_id(id)));
                if is_misplaced && let Ok(request) = &request {
                    let declined = Change::Answer(misplaced(request));
                    let told = self.write_answer(token, self.known(), declined, |_| {});
                    under_way.answers.push(told.await);
                    continue;
                }
                if subject.is_none_or(|id| under_way.started.contains(id)) {
                    under_way.all_told().await;
                }
                match request.map(Request::into_start) {
                    Ok(Ok((start, remote))) => {
                        self.take_start(token, start, remote, &mut under_way);
                    }
                    Ok(Err(request)) if takes_steps(&request) || self.is_divided(&request) => {
                        // The request reads the hub, so earlier commands must be committed.
                        under_way.all_told().await;
                        let long = Long::Other;
                        self.take_long(token, *request, long, &mut under_way).await;
                    }
                    // Other hosts have left commands here too, which have nothing to do with what is compiled.
                    Ok(Err(request))
                        if self.is_shared() && matches!(*request, Request::Deploy(_)) =>
                    {
                        let long = Long::Deployment;
                        self.take_long(token, *request, long, &mut under_way).await;
                        behind.get_or_insert_default();
                    }
                    Ok(Err(request)) => {
                        self.take_command(token, Ok(*request), &mut under_way).await;
                    }
                    Err(error) => self.take_command(token, Err(error), &mut under_way).await,
                }
            }
            under_way.all_told().await;
            if let Some(error) = under_way.failed {
                return Err(error);
            }
            if !is_taken {
                return Ok(());
            }
        }
    }

    /// Whether other hosts may run some of the instances that a request is about.
    fn is_divided(&self, request: &Request) -> bool {
        self.is_shared() && request.is_several()
    }

    /// Carries out a command that takes long. It may wait for other hosts, and they for commands that they have left here, so others are taken
    /// meanwhile.
    async fn take_long(
        self: &Arc<Self>,
        token: String,
        request: Request,
        long: Long,
        under_way: &mut UnderWay,
    ) {
        let command = guarded_async(Box::pin(
            Arc::clone(self).carry_out_long(token.clone(), request),
        ));
        if !self.is_shared() {
            let done = self.or_refused(token, command.await).await;
            return under_way.came_of(done);
        }
        let under_way = &self.requests.long_commands;
        under_way.lock().insert(token.clone(), long);
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            let done = engine.or_refused(token.clone(), command.await).await;
            let stays = done.as_ref().is_err_and(stays_unanswered);
            if let (true, Err(error)) = (stays, done) {
                warn_seldom!(%error, "a command of another process could not be carried out; it is tried again");
                tokio::time::sleep(TAKE_AGAIN_AFTER).await;
            }
            engine.requests.long_commands.lock().remove(&token);
            if stays || long == Long::Deployment {
                engine.requests.new_commands.notify_one();
            }
        });
    }

    async fn carry_out_long(
        self: Arc<Self>,
        token: String,
        request: Request,
    ) -> Result<Reply, StoreError> {
        let done = match &request {
            Request::Deploy(_) => match self.begin_command(token.clone(), Ok(request)).await {
                Ok(told) => told.await.unwrap_or(Err(StoreError::Closed)),
                Err(error) => Err(error),
            },
            steps if takes_steps(steps) => self.in_steps(request, Some(token.clone())).await,
            _ => {
                let knew = self.known();
                match self.submit(request).await {
                    Ok(reply) => {
                        let answer = Change::Answer(reply);
                        let told = self.write_answer(token.clone(), knew, answer, |_| {});
                        told.await.await.unwrap_or(Err(StoreError::Closed))
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match done {
            // Its sender learns that it may send it again. It would wait as long each time, maybe for a sender that is gone.
            Err(error @ (StoreError::NotTaken { .. } | StoreError::NoAnswer(_))) => {
                let why = format!("it was carried out in part, or not at all: {error}");
                self.refuse(token, refused::OVERLOADED, why).await
            }
            done => done,
        }
    }

    /// What became of a command. One whose execution panicked is refused, because it would panic again.
    async fn or_refused(
        self: &Arc<Self>,
        token: String,
        done: Result<Result<Reply, StoreError>, String>,
    ) -> Result<Reply, StoreError> {
        match done {
            Ok(done) => done,
            Err(why) => {
                self.panicked("a command of another process was carried out", &why);
                let why = format!("the command was not carried out, or in part: {why}");
                self.refuse(token, refused::CORRUPT, why).await
            }
        }
    }

    async fn refuse(
        self: &Arc<Self>,
        token: String,
        kind: &str,
        message: String,
    ) -> Result<Reply, StoreError> {
        let refusal = Change::Answer(refused::refused(kind, message));
        let told = self.write_answer(token, self.known(), refusal, |_| {});
        told.await.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Begins to carry a command out.
    async fn take_command(
        self: &Arc<Self>,
        token: String,
        request: Result<Request, StoreError>,
        under_way: &mut UnderWay,
    ) {
        let begun = guarded_async(Box::pin(self.begin_command(token.clone(), request))).await;
        match begun {
            Ok(Ok(answer)) => under_way.answers.push(answer),
            Ok(Err(error)) => under_way.fails(error),
            Err(why) => under_way.came_of(self.or_refused(token, Err(why)).await),
        }
    }

    async fn begin_command(
        self: &Arc<Self>,
        token: String,
        request: Result<Request, StoreError>,
    ) -> Result<Answer, StoreError> {
        let mut told_by_host = None;
        let knew = self.known();
        let change = match request {
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
        Ok(self.write_answer(token, knew, change, hears).await)
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
            let started = engine.start_for_command(token.clone(), start, remote);
            let started = guarded_async(started).await;
            drop(tell.send(engine.or_refused(token, started).await));
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
        let knew = self.known();
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
        let told = self.write_answer(token, knew, change, |_| {}).await;
        told.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Makes a change in the transaction that answers a command. `knew` is as in [`job_knowing`](Self::job_knowing).
    async fn write_answer(
        self: &Arc<Self>,
        token: String,
        knew: Known,
        change: Change,
        then: impl FnOnce(&Result<Reply, StoreError>) + Send + 'static,
    ) -> Answer {
        let about = About::of(&change);
        let (tell, told) = oneshot::channel();
        let engine = Arc::clone(self);
        let write = self.job_knowing(knew, change, move |_, result| {
            let result = result.map(|outcome| engine.answered(about, outcome));
            then(&result);
            drop(tell.send(result));
        });
        let write = write.answering(token);
        self.hub.writer.submit_later(write).await;
        told
    }
}

/// Whether a command that met this error has no answer, and is to be carried out here. The others were withdrawn by their sender after they
/// were read, so that nothing was changed, or whoever runs the instance now answers them.
fn stays_unanswered(error: &StoreError) -> bool {
    !matches!(error, StoreError::TakenBack | StoreError::Elsewhere(_))
}
