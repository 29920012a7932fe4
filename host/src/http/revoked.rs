//! Ends long-running answers whose key is revoked.
//!
//! Law: whoever was let in with a key is told nothing more soon after that key is revoked, however long the answer goes on.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use crate::client::{Client, KeyHash};

/// How often the keys of a hub are read while answers to their owners go on. A request that is answered sooner is not looked at again.
const EVERY: Duration = Duration::from_secs(1);

/// What is said in a stream of events that ends because its key was revoked.
const OVER: &str = "event: unauthorized\ndata: {\"error\":{\"code\":\"unauthorized\",\"message\":\"the key of this request was revoked\"}}\n\n";

/// The keys of a hub, once they were read.
type Known = Option<Vec<KeyHash>>;

/// Reads the keys of each hub once for all answers that go on.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    hubs: Mutex<HashMap<String, watch::Sender<Known>>>,
}

/// Who was let in with a key.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) client: Client,
    pub(crate) key: KeyHash,
}

impl Revocations {
    fn hubs(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Known>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of a hub, from now on.
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

    /// Reads the keys of a hub until nobody asks any more.
    async fn read(self: Arc<Self>, client: Client) {
        loop {
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
                // Where they cannot be read nobody new is let in, and who was there stays.
                if let Ok(keys) = keys {
                    tell.send_if_modified(|known| {
                        let is_new = known.as_ref() != Some(&keys);
                        *known = Some(keys);
                        is_new
                    });
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Comes to an end when a key is revoked.
    async fn revoked(self: Arc<Self>, admitted: Admitted) {
        let mut known = self.watch(&admitted.client);
        let is_gone = |known: &Known| {
            known
                .as_ref()
                .is_some_and(|keys| !keys.contains(&admitted.key))
        };
        if known.wait_for(is_gone).await.is_err() {
            // Nobody reads the keys any more, since the runtime ends.
            std::future::pending().await
        }
    }

    /// Waits for an answer, and sees to it that it ends when the key is revoked. `None` where that happened before there was one.
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
            () = Arc::clone(self).revoked(Admitted { client, key }) => None,
        }
    }

    /// An answer that is made while it is sent ends when the key is revoked; one that is there already is sent.
    fn ending(self: &Arc<Self>, answer: Response, admitted: Admitted) -> Response {
        if answer.body().size_hint().upper().is_some() {
            return answer;
        }
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let is_events = kind.is_some_and(|kind| kind == "text/event-stream");
        let this = Arc::clone(self);
        answer.map(|body| {
            Body::new(Ending {
                body,
                revoked: Some(Box::pin(this.revoked(admitted))),
                is_events,
            })
        })
    }
}

/// A body that ends when its key is revoked.
struct Ending {
    body: Body,
    /// `None` once it is over.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_events: bool,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(revoked) = &mut this.revoked else {
            return Poll::Ready(None);
        };
        if revoked.as_mut().poll(context).is_pending() {
            return Pin::new(&mut this.body).poll_frame(context);
        }
        this.revoked = None;
        Poll::Ready(Some(match this.is_events {
            true => Ok(Frame::data(Bytes::from_static(OVER.as_bytes()))),
            // It must not look whole.
            false => Err(axum::Error::new("the key of this request was revoked")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.revoked.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
