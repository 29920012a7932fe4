//! Requests: what instances are asked, and what they answer.

use std::time::Duration;

use perennial_core::{Event, Failure as CoreFailure, Json, Message, kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert;
use super::instance::{Asker, RequestRecord};
use super::report::{Report, decoded, encoded, failure_of};
use super::run::{Input, Moment, Run};
use super::world::World;
use crate::Failure;
use crate::validator::judge;

/// A request that an instance was sent.
pub struct ReceivedRequest(RequestRecord);

/// A request that an instance sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentRequest {
    /// The id of the instance that is asked.
    pub to: String,
    /// Its name.
    pub name: String,
    /// Its input.
    pub input: serde_json::Value,
}

impl ReceivedRequest {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its input.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[must_use]
    #[track_caller]
    pub fn input<T: DeserializeOwned>(&self) -> T {
        let what = format!("the input of request {:?}", self.0.name);
        decoded(&what, self.0.input.as_ref())
    }

    /// The answer; `None` if there is none yet.
    ///
    /// # Panics
    ///
    /// If the answer is not an `O`.
    #[must_use]
    #[track_caller]
    pub fn result<O: DeserializeOwned>(&self) -> Option<Result<O, Failure>> {
        let what = format!("the answer to request {:?}", self.0.name);
        Some(match self.0.answer.clone()? {
            Ok(output) => Ok(decoded(&what, output.as_ref())),
            Err(failure) => Err(failure_of(failure)),
        })
    }
}

impl Input {
    /// Sends a request, under an id of its own.
    ///
    /// # Panics
    ///
    /// If serde cannot write the input.
    #[must_use]
    pub fn request(name: impl Into<String>, input: impl Serialize) -> Self {
        Self::request_with_id("", name, input)
    }

    /// Sends a request under this id. However often it is sent, it arrives once.
    ///
    /// # Panics
    ///
    /// If serde cannot write the input.
    #[must_use]
    pub fn request_with_id(
        id: impl Into<String>,
        name: impl Into<String>,
        input: impl Serialize,
    ) -> Self {
        Self(Message::Request {
            number: None,
            id: id.into(),
            name: name.into(),
            input: Some(encoded(&input)),
        })
    }
}

impl Run {
    /// Sends a request so long after the start.
    pub fn request_after(self, time: Duration, name: &str, input: impl Serialize) -> Self {
        self.after(time, Input::request(name, input))
    }

    /// Sends a request as soon as the instance is ready to answer one of this name. Given several times, once for each.
    pub fn request_when_waiting(self, name: &str, input: impl Serialize) -> Self {
        let awaited = name.to_owned();
        self.when(
            move |moment| moment.answers(&awaited),
            Input::request(name, input),
        )
    }

    /// Sends a request now, and runs what follows.
    pub fn request(&mut self, name: &str, input: impl Serialize) -> ReceivedRequest {
        let id = self.world.next_request_id();
        self.give(Input::request_with_id(&id, name, input));
        let asked = self.report().all_requests();
        let mut asked = asked.into_iter().rev();
        match asked.find(|request| request.id() == id) {
            Some(request) => request,
            None => unreachable!("a request to an instance is noted"),
        }
    }

    /// Whether it is ready to answer a request with this name.
    #[must_use]
    pub fn answers(&self, request: &str) -> bool {
        self.moment().answers(request)
    }
}

impl Moment<'_> {
    /// Whether it is ready to answer a request with this name.
    #[must_use]
    pub fn answers(&self, request: &str) -> bool {
        let running = self.instance.and_then(|one| one.state.running());
        let mut awaited = running.into_iter().flat_map(|one| &one.waiting.requests);
        awaited.any(|other| other.to_lowercase() == request.to_lowercase())
    }
}

impl Report {
    /// The requests with this name that it was sent, in any case and in order.
    #[must_use]
    pub fn requests(&self, name: &str) -> Vec<ReceivedRequest> {
        let mut requests = self.all_requests();
        requests.retain(|request| request.name().to_lowercase() == name.to_lowercase());
        requests
    }

    fn all_requests(&self) -> Vec<ReceivedRequest> {
        let own = self.own().into_iter().flat_map(|own| &own.requests);
        own.cloned().map(ReceivedRequest).collect()
    }

    /// The answers to the requests with this name, in the order in which the requests were sent.
    ///
    /// # Panics
    ///
    /// If one of them is not answered yet, or its answer is not an `O`; with the history.
    #[must_use]
    #[track_caller]
    pub fn answers<O: DeserializeOwned>(&self, name: &str) -> Vec<Result<O, Failure>> {
        let requests = self.requests(name);
        let answers = requests.iter().map(|request| match request.result() {
            Some(answer) => answer,
            None => panic!(
                "request {name:?} ({}) has no answer yet\n{self}",
                request.id()
            ),
        });
        answers.collect()
    }

    /// Checks the answers to the requests with this name, none of which is a failure.
    ///
    /// # Panics
    ///
    /// If there are others, with the history.
    #[track_caller]
    pub fn assert_answers(&self, name: &str, answers: &[impl Serialize]) {
        let expected: Vec<_> = answers.iter().map(|one| serde_json::json!(one)).collect();
        let found: Result<Vec<serde_json::Value>, Failure> =
            self.answers(name).into_iter().collect();
        match found {
            Ok(found) => assert!(
                found == expected,
                "the answers to {name:?} are {found:?}, not {expected:?}\n{self}"
            ),
            Err(failure) => panic!("request {name:?} was answered with {failure:?}\n{self}"),
        }
    }

    /// The requests that it sent to other instances.
    #[must_use]
    pub fn requests_sent(&self) -> Vec<SentRequest> {
        let sent = self.events().filter_map(|(_, event)| match event {
            Event::RequestSent {
                instance_id,
                name,
                input,
                ..
            } => Some(SentRequest {
                to: instance_id.clone(),
                name: name.clone(),
                input: decoded("the input of a request", input.as_ref()),
            }),
            _ => None,
        });
        sent.collect()
    }
}

impl World {
    pub(super) fn next_request_id(&mut self) -> String {
        self.requests += 1;
        format!("request-{}", self.requests)
    }

    /// Does what a client asked for. A request is judged before it is recorded, as on a host.
    pub(super) fn asked(&mut self, to: &str, message: Message) {
        let Message::Request {
            id, name, input, ..
        } = message
        else {
            self.deliver(to, message);
            return;
        };
        let id = match id.as_str() {
            "" => self.next_request_id(),
            _ => id,
        };
        let Some(instance) = self.instances.get_mut(to) else {
            return;
        };
        if instance.requests.iter().any(|known| known.id == id) {
            return;
        }
        let mut known = self.environment.component.orchestrations.iter();
        let definition = known.find(|known| known.name == instance.name);
        let validators = definition.map_or(&[][..], |definition| definition.validators);
        let is_live = !instance.state.has_ended();
        let judged = judge(validators, &name, input.as_ref().map(Json::as_str));
        if let (true, Err(failure)) = (is_live, judged) {
            let failure = convert::of_wit(failure.into_wit());
            return instance.requests.push(RequestRecord {
                id,
                name,
                input,
                asker: None,
                answer: Some(Err(failure)),
            });
        }
        self.request(to, (id, name, input), None);
    }

    /// Sends a request to an instance.
    fn request(
        &mut self,
        to: &str,
        (id, name, input): (String, String, Option<Json>),
        asker: Option<Asker>,
    ) {
        let message = Message::Request {
            number: None,
            id: id.clone(),
            name: name.clone(),
            input: input.clone(),
        };
        if let Some(instance) = self.instances.get_mut(to) {
            instance.requests.push(RequestRecord {
                id: id.clone(),
                name,
                input,
                asker,
                answer: None,
            });
            if !self.deliver(to, message) {
                self.answered(to, &id, &Err(not_answered("the instance has ended")));
            }
        } else if let Some(asker) = asker {
            let failure = not_answered(&format!("there is no instance {to:?}"));
            self.tell(asker, Err(failure));
        }
    }

    /// Does what follows from an event about requests.
    pub(super) fn follow_request(&mut self, id: &str, event: &Event) {
        match event {
            Event::RequestAnswered {
                id: request,
                outcome,
                ..
            } => self.answered(id, request, outcome),
            Event::RequestSent {
                task,
                instance_id,
                id: request,
                name,
                input,
                refused,
            } => {
                let Some(sender) = self.instances.get(id) else {
                    return;
                };
                let asker = Asker {
                    instance: id.to_owned(),
                    serial: sender.serial,
                    task: sender.task(*task),
                };
                match refused {
                    Some(failure) => self.tell(asker, Err(failure.clone())),
                    None => {
                        let request = (request.clone(), name.clone(), input.clone());
                        self.request(instance_id, request, Some(asker));
                    }
                }
            }
            _ => {}
        }
    }

    /// Answers what an instance has left unanswered at its end.
    pub(super) fn leave_requests(&mut self, id: &str) {
        let own = self.instances.get(id).into_iter();
        let open = own.flat_map(|own| &own.requests);
        let open = open.filter(|request| request.answer.is_none());
        let open: Vec<String> = open.map(|request| request.id.clone()).collect();
        for request in open {
            self.answered(id, &request, &Err(not_answered("the instance has ended")));
        }
    }

    fn answered(&mut self, id: &str, request: &str, outcome: &Result<Option<Json>, CoreFailure>) {
        let own = self.instances.get_mut(id).into_iter();
        let mut requests = own.flat_map(|own| &mut own.requests);
        let Some(open) = requests.find(|one| one.id == request && one.answer.is_none()) else {
            return;
        };
        open.answer = Some(outcome.clone());
        if let Some(asker) = open.asker.clone() {
            self.tell(asker, outcome.clone());
        }
    }

    /// Gives the answer to a request to the instance that asked.
    fn tell(&mut self, asker: Asker, outcome: Result<Option<Json>, CoreFailure>) {
        let Asker {
            instance,
            serial,
            task,
        } = asker;
        if self.serial(&instance) == Some(serial) {
            self.deliver(&instance, Message::RequestEnded { task, outcome });
        }
    }
}

fn not_answered(why: &str) -> CoreFailure {
    CoreFailure::permanent(
        kind::NOT_ANSWERED,
        format!("the request is not answered: {why}"),
    )
}
