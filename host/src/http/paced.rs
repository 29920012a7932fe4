//! Answers on connections of HTTP/2, where several share a connection.
//!
//! Invariant: a caller that does not read an answer is disconnected, as one of HTTP/1.1 is (`line.rs`). There the system's buffers fill up
//! and writes stall; here the flow control of one answer stops it while the connection goes on.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::http::places::Asked;

/// The largest frame that is handed to the connection: it keeps what is handed to it until the caller has read it.
const FRAME_BYTES: usize = 16 << 10;

/// The answers of a connection that are being sent.
#[derive(Debug)]
pub(crate) struct Answers {
    begun: Instant,
    /// When each answer handed its last frame out, in milliseconds since `begun` plus one; 0 while the server has none to hand out.
    sent: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Answers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            sent: Mutex::default(),
        })
    }

    /// How long the answer waits that its caller has not read for the longest time.
    pub(crate) fn stalled(&self) -> Duration {
        let mut sent = self.sent();
        sent.retain(|sent| sent.strong_count() > 0);
        let now = self.now();
        let stalled = sent.iter().filter_map(|sent| {
            let since = sent.upgrade()?.load(Relaxed);
            (since > 0).then(|| now.saturating_sub(since))
        });
        Duration::from_millis(stalled.max().unwrap_or_default())
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        ms + 1
    }

    /// Sends an answer: the server works for its caller until the whole answer is handed to the connection.
    pub(crate) fn send(self: &Arc<Self>, body: Body, asked: Asked) -> Body {
        let sent = Arc::new(AtomicU64::new(0));
        {
            let mut all = self.sent();
            // Those that are done are removed before the list grows.
            if all.len() == all.capacity() {
                all.retain(|sent| sent.strong_count() > 0);
            }
            all.push(Arc::downgrade(&sent));
        }
        Body::new(Paced {
            body,
            rest: None,
            answers: Arc::clone(self),
            sent,
            _asked: asked,
        })
    }
}

/// An answer on its way.
struct Paced {
    body: Body,
    /// What is left of a larger frame.
    rest: Option<Bytes>,
    answers: Arc<Answers>,
    sent: Arc<AtomicU64>,
    _asked: Asked,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.sent.store(0, Relaxed);
        let frame = match this.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)),
        };
        let frame = frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|mut bytes| {
                    if bytes.len() > FRAME_BYTES {
                        this.rest = Some(bytes.split_off(FRAME_BYTES));
                    }
                    bytes
                })
            })
        });
        if frame.is_some() {
            this.sent.store(this.answers.now(), Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, Bytes::len) as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::http::places::{Places, PlacesMax};

    fn asked() -> Asked {
        let places = Places::new(PlacesMax {
            all: 1,
            peer: None,
            stranger: 1,
        });
        places.enter([127, 0, 0, 1].into()).caller.asked()
    }

    #[tokio::test]
    async fn a_large_frame_is_handed_out_in_parts_and_nothing_is_lost() {
        let whole: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        let answers = Answers::new();
        let mut body = answers.send(Body::from(whole.clone()), asked());
        assert_eq!(body.size_hint().exact(), Some(100_000));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let bytes = frame.unwrap().into_data().unwrap();
            assert!(bytes.len() <= FRAME_BYTES);
            read.extend_from_slice(&bytes);
            let left = 100_000 - read.len() as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
        }
        assert!(read == whole && body.is_end_stream());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_fetches_is_noticed() {
        let answers = Answers::new();
        let mut body = answers.send(Body::from(vec![0; 100_000]), asked());
        assert_eq!(answers.stalled(), Duration::ZERO);
        body.frame().await.unwrap().unwrap();
        let long = Duration::from_millis(20);
        tokio::time::sleep(long).await;
        assert!(answers.stalled() >= long / 2);
        drop(body);
        assert_eq!(answers.stalled(), Duration::ZERO);
    }
}
