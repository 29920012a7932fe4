//! The messages of calls on their way in and out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::budget::{Budget, Permit};
use crate::grpc::shutting_down;
use crate::http::closing::Closing;
use crate::http::grpc::{no_room, panicked};
use crate::limits::http as limits;

/// What a call takes of the budget of bodies for its message, until it is answered.
pub(super) struct Charge {
    budget: Budget,
    taken: Mutex<(u64, Option<Permit>)>,
}

impl Charge {
    pub(super) fn new(budget: Budget) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { budget, taken })
    }

    /// Charges bytes that have arrived. The permit grows in doubling steps.
    fn add(&self, bytes: usize) -> Result<(), Status> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 += bytes as u64;
        let total = taken.0;
        if total <= limits::FREE_BYTES as u64 {
            return Ok(());
        }
        match &mut taken.1 {
            Some(permit) if permit.units() >= total => Ok(()),
            Some(permit) => permit.resize(total.max(2 * permit.units())),
            none => self
                .budget
                .try_take(total)
                .map(|permit| *none = Some(permit)),
        }
        .map_err(|_| no_room())
    }
}

/// An answer of one message, whole and charged. A message that could not be read is the caller's error.
pub(super) async fn whole(
    answered: Response<tonic::body::Body>,
    charge: &Charge,
) -> Response<tonic::body::Body> {
    /// How the status of a message begins that the library could not read.
    const UNREADABLE: &str = "failed to decode Protobuf message";
    let (head, body) = answered.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        if status.message().starts_with(UNREADABLE) {
            return Status::invalid_argument(status.message().to_owned()).into_http();
        }
        // A status alone has no body: some clients do not accept an empty one.
        return Response::from_parts(head, body);
    }
    let body = match body.collect().await {
        Ok(body) => body,
        Err(status) => return status.into_http(),
    };
    let trailers = body.trailers().cloned().map(Ok);
    let bytes = body.to_bytes();
    if let Err(status) = charge.add(bytes.len()) {
        return status.into_http();
    }
    let body = Full::new(bytes).with_trailers(std::future::ready(trailers));
    Response::from_parts(head, tonic::body::Body::new(body))
}

/// The body of a call: it is charged as it arrives, and must not come too slowly.
pub(super) fn received(body: Body, charge: Arc<Charge>) -> Body {
    Body::new(Received::new(body, charge, limits::BODY_IDLE_TIMEOUT))
}

struct Received {
    body: Body,
    charge: Arc<Charge>,
    patience: Duration,
    idle: Pin<Box<Sleep>>,
    end: Instant,
}

impl Received {
    fn new(body: Body, charge: Arc<Charge>, patience: Duration) -> Self {
        Self {
            body,
            charge,
            patience,
            idle: Box::pin(tokio::time::sleep(patience)),
            end: Instant::now() + limits::BODY_TIMEOUT,
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.idle.as_mut().poll(cx));
                let why = "the message of this call came too slowly; send it at once";
                return Poll::Ready(Some(Err(Status::deadline_exceeded(why))));
            }
        };
        let next = Instant::now() + this.patience;
        this.idle.as_mut().reset(next.min(this.end));
        Poll::Ready(frame.map(|frame| {
            let frame =
                frame.map_err(|_| Status::cancelled("the message of this call broke off"))?;
            if let Some(bytes) = frame.data_ref() {
                this.charge.add(bytes.len())?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. It holds what the call takes, and ends with a status at shutdown and after a panic.
pub(super) struct Answer<K> {
    body: Option<tonic::body::Body>,
    /// For streams: the signal that the server is shutting down.
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _held: K,
}

impl<K> Answer<K> {
    pub(super) fn new(body: tonic::body::Body, closing: Option<Arc<Closing>>, held: K) -> Self {
        let closed = |closing: Arc<Closing>| Box::pin(async move { closing.closed().await }) as _;
        Self {
            body: Some(body),
            closing: closing.map(closed),
            _held: held,
        }
    }

    /// Ends the answer early with a status.
    fn end(&mut self, status: &Status) -> Option<Result<Frame<Bytes>, axum::Error>> {
        self.body = None;
        let mut trailers = HeaderMap::new();
        Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(error) => Err(axum::Error::new(error)),
        })
    }
}

impl<K: Unpin> HttpBody for Answer<K> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        match polled {
            Ok(Poll::Ready(frame)) => {
                Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)))
            }
            Ok(Poll::Pending) => {
                let Some(closing) = &mut this.closing else {
                    return Poll::Pending;
                };
                ready!(closing.as_mut().poll(cx));
                Poll::Ready(this.end(&shutting_down()))
            }
            Err(panic) => Poll::Ready(this.end(&panicked(panic))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_message_is_charged_until_its_call_is_answered() {
        let budget = Budget::new(100_000);
        let charge = Charge::new(budget.clone());
        let mut body = received(Body::from(vec![0; 60_000]), Arc::clone(&charge));
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(budget.used(), 60_000);
        let more = Charge::new(budget.clone());
        let mut body = received(Body::from(vec![0; 60_000]), more);
        assert!(body.frame().await.unwrap().is_err());
        let mut small = received(Body::from("small"), Charge::new(budget.clone()));
        assert!(small.frame().await.unwrap().is_ok());
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_message_that_comes_too_slowly_is_refused() {
        let silent = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let (charge, patience) = (Charge::new(Budget::new(1)), Duration::from_millis(10));
        let mut body = Received::new(Body::from_stream(silent), charge, patience);
        let refused = body.frame().await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("too slowly"), "{refused}");
    }

    #[tokio::test]
    async fn a_panic_in_a_stream_ends_it_with_a_status() {
        let panics = futures::stream::poll_fn(|_| -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            panic!("a test")
        });
        let body = tonic::body::Body::new(http_body_util::StreamBody::new(panics));
        let mut answer = Answer::new(body, None, ());
        let trailers = answer.frame().await.unwrap().unwrap();
        let trailers = trailers.into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "13");
        assert!(answer.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_server_does() {
        let silent = futures::stream::pending::<Result<Frame<Bytes>, Status>>();
        let body = tonic::body::Body::new(http_body_util::StreamBody::new(silent));
        let closing = Arc::new(Closing::default());
        let mut answer = Answer::new(body, Some(Arc::clone(&closing)), ());
        assert!(futures::poll!(answer.frame()).is_pending());
        closing.close();
        let trailers = answer.frame().await.unwrap().unwrap();
        assert_eq!(trailers.into_trailers().unwrap()["grpc-status"], "14");
    }
}
