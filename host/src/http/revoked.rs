//! Ends long-running answers whose key is revoked.
//!
//! Invariant: an answer to a caller with a key ends soon after the key is revoked, however long the answer is.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use crate::client::{Client, KeyHash};

/// The interval of reading a hub's keys while long answers run. Shorter requests are not checked again.
const EVERY: Duration = Duration::from_secs(1);

/// The last event of a stream whose key was revoked.
const OVER: &str = "event: unauthorized\ndata: {\"error\":{\"code\":\"unauthorized\",\"message\":\"the key of this request was revoked\"}}\n\n";

/// The keys of a hub; `None` before the first read.
type Known = Option<Vec<KeyHash>>;

/// Reads the keys of each hub once for all long-running answers.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    hubs: Mutex<HashMap<String, watch::Sender<Known>>>,
}

/// Marks an answer that ends soon although its size is not known: it is not ended when the key is revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short;

/// A caller that was admitted with a key.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) client: Client,
    pub(crate) key: KeyHash,
}

impl Revocations {
    fn hubs(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Known>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to the keys of a hub.
    fn watch(self: &Arc<Self>, client: &Client) -> watch::Receiver<Known> {
        let mut hubs = self.hubs();
        if let Some(known) = hubs.get(client.task_hub()) {
            return known.subscribe();
        }
        let (tell, told) = watch::channel(None);
        hubs.insert(client.task_hub().to_owned(), tell);
        drop(hubs);
        let reading = Arc::clone(self).read(client.clone());
        tokio::spawn(reading);
        told
    }

    /// Reads the keys of a hub while there are subscribers.
    async fn read(self: Arc<Self>, client: Client) {
        let mut changes = client.key_changes();
        loop {
            if let Some(changes) = &mut changes {
                changes.mark_unchanged();
            }
            let keys = client.key_hashes().await;
            {
                let mut hubs = self.hubs();
                let Some(tell) = hubs.get(client.task_hub()) else {
                    return;
                };
                if tell.receiver_count() == 0 {
                    hubs.remove(client.task_hub());
                    return;
                }
                // If the keys cannot be read, running answers continue; new requests are refused elsewhere.
                if let Ok(keys) = keys {
                    tell.send_if_modified(|known| {
                        let is_new = known.as_ref() != Some(&keys);
                        *known = Some(keys);
                        is_new
                    });
                }
            }
            // A host in this process says when a key was made or revoked; other processes change the keys of no hub that it runs.
            let changed = async {
                match &mut changes {
                    Some(changes) => changes.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            if tokio::time::timeout(EVERY, changed).await == Ok(false) {
                // The host has stopped, and says nothing more.
                changes = None;
            }
        }
    }

    /// Completes when the key is revoked.
    async fn revoked(self: Arc<Self>, admitted: Arc<Admitted>) {
        let mut known = self.watch(&admitted.client);
        let is_gone = |known: &Known| {
            known
                .as_ref()
                .is_some_and(|keys| !keys.contains(&admitted.key))
        };
        loop {
            if known.wait_for(is_gone).await.is_err() {
                // The reader ended because the runtime is shutting down.
                std::future::pending().await
            }
            // What was read before the key was made does not have it.
            if !still_admits(&admitted).await {
                return;
            }
            if known.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Waits for an answer, and ends the answer when the key is revoked. `None` if the key was revoked before the answer.
    pub(crate) async fn guard(
        self: &Arc<Self>,
        admitted: Admitted,
        answer: impl Future<Output = Response>,
    ) -> Option<Response> {
        let mut answer = pin!(answer);
        if let Ok(answer) = tokio::time::timeout(EVERY, &mut answer).await {
            return Some(self.ending(answer, admitted));
        }
        let (client, key) = (admitted.client.clone(), admitted.key);
        tokio::select! {
            answer = answer => Some(self.ending(answer, admitted)),
            () = Arc::clone(self).revoked(Arc::new(Admitted { client, key })) => None,
        }
    }

    /// Wraps a streamed answer so that it ends when the key is revoked; a complete answer is left as it is.
    fn ending(self: &Arc<Self>, answer: Response, admitted: Admitted) -> Response {
        let is_short = answer.extensions().get::<Short>().is_some();
        if is_short || answer.body().size_hint().upper().is_some() {
            return answer;
        }
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let kind = match kind.map(HeaderValue::as_bytes) {
            Some(b"text/event-stream") => Kind::Events,
            Some(kind) if kind.starts_with(b"application/grpc") => Kind::Grpc,
            _ => Kind::Other,
        };
        let this = Arc::clone(self);
        let admitted = Arc::new(admitted);
        answer.map(|body| {
            let changes = admitted.client.key_changes();
            let mut ending = Ending {
                body,
                revoked: None,
                changes,
                check: None,
                admitted: Arc::clone(&admitted),
                kind,
            };
            // The key may have been revoked since it was looked up.
            ending.begin_check();
            ending.revoked = Some(Box::pin(this.revoked(admitted)));
            Body::new(ending)
        })
    }
}

/// Whether the key still is one of the hub. If the keys cannot be read, running answers continue.
async fn still_admits(admitted: &Admitted) -> bool {
    let keys = admitted.client.key_hashes().await;
    keys.map_or(true, |keys| keys.contains(&admitted.key))
}

/// The end of a call of gRPC whose key was revoked.
fn unauthenticated() -> HeaderMap {
    const UNAUTHENTICATED: HeaderValue = HeaderValue::from_static("16");
    const MESSAGE: HeaderValue =
        HeaderValue::from_static("the%20key%20of%20this%20call%20was%20revoked");
    let name = HeaderName::from_static;
    HeaderMap::from_iter([
        (name("grpc-status"), UNAUTHENTICATED),
        (name("grpc-message"), MESSAGE),
    ])
}

/// A body that ends when the key of its request is revoked.
struct Ending {
    body: Body,
    /// `None` after the key was revoked.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Changes of the hub's keys: after each, nothing is sent before the key was looked up again.
    changes: Option<watch::Receiver<()>>,
    check: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    admitted: Arc<Admitted>,
    kind: Kind,
}

impl Ending {
    fn begin_check(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
        let admitted = Arc::clone(&self.admitted);
        self.check = Some(Box::pin(async move { still_admits(&admitted).await }));
    }

    /// Whether the key admits what is sent now.
    fn poll_admitted(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let Some(revoked) = &mut self.revoked else {
            return Poll::Ready(false);
        };
        if revoked.as_mut().poll(context).is_ready() {
            return Poll::Ready(false);
        }
        loop {
            let changed = self.changes.as_ref().map(watch::Receiver::has_changed);
            if let Some(Ok(true)) = changed {
                self.begin_check();
            }
            let Some(check) = &mut self.check else {
                return Poll::Ready(true);
            };
            match check.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) => return Poll::Ready(false),
                Poll::Ready(true) => self.check = None,
            }
        }
    }
}

/// How a streamed answer ends early.
#[derive(Clone, Copy)]
enum Kind {
    Events,
    Grpc,
    Other,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.revoked.is_none() {
            return Poll::Ready(None);
        }
        match this.poll_admitted(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(true) => return Pin::new(&mut this.body).poll_frame(context),
            Poll::Ready(false) => {}
        }
        this.revoked = None;
        Poll::Ready(Some(match this.kind {
            Kind::Events => Ok(Frame::data(Bytes::from_static(OVER.as_bytes()))),
            Kind::Grpc => Ok(Frame::trailers(unauthenticated())),
            // An error, so that the truncated answer does not look complete.
            Kind::Other => Err(axum::Error::new("the key of this request was revoked")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.revoked.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
