//! Reads request bodies and bounds what all bodies and answers take up together.
//!
//! Invariants: a caller without permission is answered before its body is read; a body or an answer beyond the free bytes of its connection
//! takes its size from the budget while it is in memory, and is refused if the budget is exhausted; the caller is told why its body was
//! refused.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::budget::{Budget, Permit, Spent};
use crate::client::InstanceStatus;
use crate::http::places::{Asked, Caller};
use crate::http::{Api, wire};
use crate::limits::http as limits;

/// How long an answer waits for the budget if its size is known only later.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It exceeds the limit, which is given in bytes.
    TooLarge(usize),
    /// The caller sent it too slowly.
    Slow,
    /// The connection ended before it was complete.
    Broken,
    /// The budget of bodies and answers is exhausted.
    NoRoom,
}

/// Bytes with their part of the budget.
struct Kept {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Attaches a permit to bytes; it is returned when the last clone is dropped.
pub(crate) fn kept(bytes: Bytes, permit: Permit) -> Bytes {
    Bytes::from_owner(Kept {
        bytes,
        _permit: permit,
    })
}

/// Reads a body up to the size limit.
///
/// # Errors
/// Why it was not read.
pub(crate) async fn read(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, Unread> {
    let declared = headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(Unread::TooLarge(limit));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut body = body;
    let end = Instant::now() + limits::BODY_TIMEOUT;
    let Some(first) = next(&mut body, end).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > limit {
        return Err(Unread::TooLarge(limit));
    }
    // The usual case: a small body that arrived at once needs no copy.
    if first.len() <= limits::FREE_BYTES && body.is_end_stream() {
        return Ok(first);
    }
    let mut permit = None;
    let mut whole = Vec::new();
    let mut frame = Some(first);
    while let Some(bytes) = frame {
        let size = whole.len() + bytes.len();
        if size > limit {
            return Err(Unread::TooLarge(limit));
        }
        grow(&api.budget, &mut permit, &mut whole, size, declared, limit)?;
        whole.extend_from_slice(&bytes);
        frame = next(&mut body, end).await?;
    }
    let whole = Bytes::from(whole);
    Ok(match permit {
        Some(permit) => kept(whole, permit),
        None => whole,
    })
}

/// Enlarges the permit in doubling steps: it covers what has arrived, not the length that the caller announced.
fn grow(
    budget: &Budget,
    permit: &mut Option<Permit>,
    whole: &mut Vec<u8>,
    size: usize,
    declared: Option<usize>,
    limit: usize,
) -> Result<(), Unread> {
    if size <= whole.capacity() {
        return Ok(());
    }
    let end = declared.unwrap_or(limit);
    let capacity = size
        .max((2 * whole.capacity()).min(end))
        .max(limits::FREE_BYTES);
    if capacity > limits::FREE_BYTES {
        let no_room = |_: Spent| Unread::NoRoom;
        match permit {
            Some(permit) => permit.resize(capacity as u64).map_err(no_room)?,
            None => *permit = Some(budget.try_take(capacity as u64).map_err(no_room)?),
        }
    }
    whole.reserve_exact(capacity - whole.len());
    Ok(())
}

/// The next bytes of a body; `None` at its end.
async fn next(body: &mut Body, end: Instant) -> Result<Option<Bytes>, Unread> {
    let idle = Instant::now() + limits::BODY_IDLE_TIMEOUT;
    loop {
        let frame = tokio::time::timeout_at(end.min(idle), body.frame()).await;
        match frame {
            Err(_) => return Err(Unread::Slow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Unread::Broken),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                // Trailers are ignored.
                Err(_) => {}
            },
        }
    }
}

/// Takes a part of the budget for a future answer, and waits for it.
pub(crate) async fn room(api: &Api, bytes: usize) -> Result<Permit, Spent> {
    api.budget.take(bytes as u64, ROOM_TIMEOUT).await
}

/// Takes a part of the budget for an answer that is read from the hub: for the data read, its JSON, and one large item.
///
/// # Errors
/// [`Spent`] if it does not become free soon.
pub(crate) async fn room_for(api: &Api, read: usize) -> Result<Permit, Spent> {
    /// The default limit of a payload; a failure is smaller.
    const ITEM: usize = 1 << 20;
    room(api, 2 * (read + ITEM)).await
}

/// Takes a part of the budget for an instance with its history; `None` if that exceeds the whole budget.
///
/// # Errors
/// [`Spent`] if it does not become free soon.
pub(crate) async fn room_for_history(
    api: &Api,
    status: &InstanceStatus,
) -> Result<Option<Permit>, Spent> {
    /// Bytes of an event without its payloads, in memory and in JSON.
    const EVENT: u64 = 600;
    let events = status.history_events.saturating_mul(EVENT);
    let needed = status
        .history_bytes
        .saturating_mul(2)
        .saturating_add(events);
    if needed > api.budget.total() {
        return Ok(None);
    }
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    room_for(api, needed / 2).await.map(Some)
}

/// Writes a JSON answer within a permit, and reduces the permit to the answer's size.
///
/// # Errors
/// [`Spent`] if the answer needs more than the permit and the budget is exhausted.
pub(crate) fn json_in<T: serde::Serialize + ?Sized>(
    mut permit: Permit,
    status: StatusCode,
    value: &T,
) -> Result<Response, Spent> {
    let response = wire::json(status, value);
    let size = size(&response);
    permit.resize(size as u64)?;
    Ok(keep(response, permit))
}

/// Sends a text that is JSON already, within the budget.
///
/// # Errors
/// [`Spent`] if the budget is exhausted.
pub(crate) fn text_in_room(api: &Api, text: &str) -> Result<Response, Spent> {
    if text.len() <= limits::FREE_BYTES {
        return Ok(wire::json_text(StatusCode::OK, text));
    }
    let permit = api.budget.try_take(text.len() as u64)?;
    Ok(keep(wire::json_text(StatusCode::OK, text), permit))
}

fn size(response: &Response) -> usize {
    let exact = HttpBody::size_hint(response.body()).exact();
    usize::try_from(exact.unwrap_or_default()).unwrap_or(usize::MAX)
}

/// Marks an answer that already has its part of the budget.
#[derive(Clone, Copy)]
struct Counted;

/// Lets an answer hold its part of the budget until it is written.
pub(crate) fn keep(response: Response, permit: Permit) -> Response {
    let mut response = response.map(|body| {
        Body::new(Answer {
            body,
            permit: Some(permit),
        })
    });
    response.extensions_mut().insert(Counted);
    response
}

/// Lets an answer pass if it is small or fits into the budget.
///
/// # Errors
/// [`Spent`] if the budget is exhausted.
pub(crate) fn bounded(api: &Api, response: Response) -> Result<Response, Spent> {
    let size = size(&response);
    if size <= limits::FREE_BYTES || response.extensions().get::<Counted>().is_some() {
        return Ok(response);
    }
    let permit = api.budget.try_take(size as u64)?;
    Ok(keep(response, permit))
}

/// A body of one frame that holds a part of the budget.
struct Answer {
    body: Body,
    permit: Option<Permit>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        frame.map_ok(|frame| {
            frame.map_data(|bytes| match this.permit.take() {
                // The permit moves to the bytes: they outlive this body while they wait to be written.
                Some(permit) => kept(bytes, permit),
                None => bytes,
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request. On drop, the unread rest is read and discarded.
pub(crate) struct Received {
    body: Option<Incoming>,
    caller: Arc<Caller>,
    /// Whether the client waits for `100 Continue`, which was not sent.
    held_back: bool,
    stalled: bool,
}

impl Received {
    pub(crate) fn new(body: Incoming, headers: &HeaderMap, caller: Arc<Caller>) -> Self {
        Self {
            body: Some(body),
            caller,
            held_back: headers.contains_key(header::EXPECT),
            stalled: false,
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        this.held_back = false;
        let frame = Pin::new(body).poll_frame(cx);
        match &frame {
            Poll::Pending if !this.stalled => {
                this.stalled = true;
                this.caller.stalls();
            }
            Poll::Pending => {}
            Poll::Ready(read) => {
                if this.stalled {
                    this.stalled = false;
                    this.caller.moves();
                }
                if matches!(read, None | Some(Err(_))) {
                    this.body = None;
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(HttpBody::size_hint)
            .unwrap_or_default()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if self.held_back {
            return;
        }
        // Without a runtime the connection is gone too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(limits::DISCARD_TIMEOUT, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = limits::DISCARDED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A streamed answer: the server works for its caller until it ends.
pub(crate) struct Streamed {
    pub(crate) body: Body,
    pub(crate) _asked: Asked,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
