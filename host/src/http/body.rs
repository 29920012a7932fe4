//! Reads request bodies and bounds what all bodies and answers take up together.
//!
//! Laws: who may not ask is answered before the body is read; a body or an answer that is larger than what a connection has anyway takes
//! its bytes from the budget while it is there, and is refused where there are none left; a caller is told why its body was not taken.

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
use crate::http::places::Caller;
use crate::http::{Api, wire};
use crate::limits::http as limits;

/// How long an answer whose size is known only later waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It has more bytes than are allowed.
    TooLarge(usize),
    /// It took too long.
    Slow,
    /// It ended before it was complete.
    Broken,
    /// All bytes that there are for bodies and answers are taken.
    NoRoom,
}

/// Bytes that were taken from the budget, until nobody has them any more.
struct Kept {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that give back their part of the budget when the last of their clones is dropped.
pub(crate) fn kept(bytes: Bytes, permit: Permit) -> Bytes {
    Bytes::from_owner(Kept {
        bytes,
        _permit: permit,
    })
}

/// Reads a body that is no longer than allowed.
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
    // The usual body: it came at once, and is taken as it came.
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

/// Makes room for so many bytes, in steps that double: what is taken is what is there, not what a caller says that it will send.
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

/// The next bytes of a body, none where it has ended.
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
                // Trailers: nothing here needs them.
                Err(_) => {}
            },
        }
    }
}

/// A part of the budget for an answer that is about to be made, waited for where it is not there.
async fn room(api: &Api, bytes: usize) -> Result<Permit, Spent> {
    api.budget.take(bytes as u64, ROOM_TIMEOUT).await
}

/// Room for an answer that is read from the hub: as it is read, and as it is written, with one item that is large itself.
///
/// # Errors
/// [`Spent`] where it does not become free soon.
pub(crate) async fn room_for(api: &Api, read: usize) -> Result<Permit, Spent> {
    /// As large as the largest payload, where nothing else is said, and more than a failure.
    const ITEM: usize = 1 << 20;
    room(api, 2 * (read + ITEM)).await
}

/// Room for an instance with its history, if there ever is so much.
///
/// # Errors
/// [`Spent`] where it does not become free soon. What never fits is told before.
pub(crate) async fn room_for_history(
    api: &Api,
    status: &InstanceStatus,
) -> Result<Option<Permit>, Spent> {
    /// An event without its payloads, in memory and in JSON.
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

/// An answer in JSON that was made in room taken before. It keeps of it what it needs.
///
/// # Errors
/// [`Spent`] where it needs more, and there is no more.
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

/// An answer that is JSON already, where there is room for it now.
///
/// # Errors
/// [`Spent`] where there is none.
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

/// Says that an answer has taken what it needs.
#[derive(Clone, Copy)]
struct Counted;

fn keep(response: Response, permit: Permit) -> Response {
    let mut response = response.map(|body| {
        Body::new(Answer {
            body,
            permit: Some(permit),
        })
    });
    response.extensions_mut().insert(Counted);
    response
}

/// Lets an answer go out that is small, or for which there is room.
///
/// # Errors
/// [`Spent`] where there is none.
pub(crate) fn bounded(api: &Api, response: Response) -> Result<Response, Spent> {
    let size = size(&response);
    if size <= limits::FREE_BYTES || response.extensions().get::<Counted>().is_some() {
        return Ok(response);
    }
    let permit = api.budget.try_take(size as u64)?;
    Ok(keep(response, permit))
}

/// A body whose first bytes, which are all, have a part of the budget.
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
                // With the bytes, which outlive this body: they wait to be written.
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

/// A request's body as it comes in. What nobody read of it is read and forgotten.
pub(crate) struct Received {
    body: Option<Incoming>,
    caller: Arc<Caller>,
    /// Whether its sender waits to be told to send it, and has not been.
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
        // Where the runtime is gone, so is the caller.
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

/// An answer that goes on: its caller is served until it ends.
pub(crate) struct Streamed {
    pub(crate) body: Body,
    pub(crate) caller: Arc<Caller>,
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

impl Drop for Streamed {
    fn drop(&mut self) {
        self.caller.answered();
    }
}
