//! Serves a socket with limits until told to stop, then drains it.
//!
//! Invariants: each connection holds one of a bounded number of places, and loses it if its peer is idle for too long; health checks are
//! always answered, whatever other connections do.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::Request;
use axum::response::Response;
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::descriptors;
use crate::foreign::panic_message;
use crate::http::Api;
use crate::http::bill::{Follows, on_bill};
use crate::http::body::{Received, Streamed};
use crate::http::line::Line;
use crate::http::origin::Scheme;
use crate::http::paced::Answers;
use crate::http::places::{Asked, Caller, ConnectionPermit, Places};
use crate::http::tls::Tls;
use crate::limits::http as limits;
use crate::outage::Outage;

/// How long running requests may take at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay after the system could not accept a connection for lack of a resource.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How a connection of HTTP/2 begins. No method of HTTP/1.1 begins so.
const PREFACE: &[u8] = b"PRI ";

/// The delay before the beginning of a connection is looked at again that has arrived only in part.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How often the answers of a connection are checked for a caller that does not read them.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Bytes of one request of HTTP/2 that a caller may send before they are processed.
const REQUEST_WINDOW: u32 = 256 << 10;

/// The routers for connections within the limits, and for those at the door.
#[derive(Clone)]
struct Routers {
    inside: axum::Router,
    door: axum::Router,
}

/// Serves until `shutdown` completes, then finishes running requests: waits end at once with the current state, streams end.
///
/// Returns the number of connections that were cut off because they did not end in time.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let closing = Arc::clone(&api.closing);
    let places = api.places();
    let routers = Routers {
        door: api.clone().into_door(),
        inside: api.into_router(),
    };
    let drain = GracefulShutdown::new();
    // Foreign code: a panic also means shutdown.
    let mut shutdown = std::pin::pin!(AssertUnwindSafe(shutdown).catch_unwind());
    let refused = Outage::default();
    loop {
        let (stream, address) = tokio::select! {
            ended = &mut shutdown => {
                if let Err(panic) = ended {
                    let why = panic_message(panic);
                    tracing::error!(why, "what says when to stop serving panicked; serving stops");
                }
                break;
            }
            accepted = accept(&listener, &places, &refused) => accepted,
        };
        let place = places.enter(address.ip());
        let (routers, watcher, tls) = (routers.clone(), drain.watcher(), tls.clone());
        tokio::spawn(async move {
            let caller = Arc::clone(&place.caller);
            tokio::select! {
                () = talk(stream, &place, routers, watcher, tls) => {}
                () = caller.sent_away() => {
                    tracing::debug!(%address, "a connection gave way to another");
                }
            }
        });
    }
    drop(listener);
    closing.close();
    let left = drain.count();
    match tokio::time::timeout(DRAIN_TIMEOUT, drain.shutdown()).await {
        Ok(()) => 0,
        Err(_) => left,
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Places,
    refused: &Outage,
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if descriptors::is_in_reserve(&stream) {
                    // The last descriptors are reserved for the store.
                    places.make_room();
                }
                // Answers are small, and callers wait for them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection has no TCP_NODELAY");
                }
                return (stream, address);
            }
            Err(error) => {
                if let Some(unsaid) = refused.failed() {
                    tracing::warn!(%error, unsaid, "a connection could not be accepted");
                }
                // Descriptors may be exhausted: close a connection that keeps the server waiting.
                places.make_room();
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn talk(
    stream: TcpStream,
    place: &ConnectionPermit,
    routers: Routers,
    watcher: Watcher,
    tls: Option<Tls>,
) {
    let caller = &place.caller;
    let by_preface = tls.is_none() && begins_http2(&stream).await;
    let line = Line::new(stream, Arc::clone(caller), limits::WRITE_TIMEOUT);
    let router = if place.at_door {
        routers.door
    } else {
        routers.inside
    };
    let talk = async {
        let Some(tls) = tls else {
            return converse(line, by_preface, Scheme::Plain, router, watcher, caller).await;
        };
        match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(line)).await {
            Ok(Ok(stream)) => {
                let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                converse(stream, agreed, Scheme::Tls, router, watcher, caller).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    };
    if !place.at_door {
        return talk.await;
    }
    // A caller that is too slow at the door can connect again.
    let _ = tokio::time::timeout(limits::DOOR_TIMEOUT, talk).await;
}

/// Whether a connection begins as one of HTTP/2. It waits for the first bytes as long as for the head of a request.
async fn begins_http2(stream: &TcpStream) -> bool {
    let looks = async {
        let mut first = [0; PREFACE.len()];
        loop {
            match stream.peek(&mut first).await {
                Ok(0) | Err(_) => return false,
                Ok(count) if !PREFACE.starts_with(&first[..count]) => return false,
                Ok(count) if count == PREFACE.len() => return true,
                // A peek does not wait for more than it has seen.
                Ok(_) => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        }
    };
    let looked = tokio::time::timeout(limits::HEAD_TIMEOUT, looks).await;
    looked.unwrap_or_default()
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_http2: bool,
    scheme: Scheme,
    router: axum::Router,
    watcher: Watcher,
    caller: &Arc<Caller>,
) {
    if is_http2 {
        return converse_2(stream, scheme, router, watcher, caller).await;
    }
    let (whose, caller) = (caller, Arc::clone(caller));
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let asked = caller.asked();
        request.extensions_mut().insert(scheme);
        let answer = router.clone().oneshot(received(request, &caller));
        async move {
            let response = answer.await.map_err(|error: Infallible| error)?;
            Ok::<_, Infallible>(answered(response, asked))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    let connection = on_bill(watcher.watch(connection), || whose.bill());
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// As [`converse`], with HTTP/2: it has several requests at a time, each with a flow control of its own.
async fn converse_2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: Scheme,
    router: axum::Router,
    watcher: Watcher,
    caller: &Arc<Caller>,
) {
    let (whose, caller) = (caller, Arc::clone(caller));
    let answers = Answers::new();
    let sending = Arc::clone(&answers);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let asked = caller.asked();
        request.extensions_mut().insert(scheme);
        let answer = router.clone().oneshot(request.map(Body::new));
        let sending = Arc::clone(&sending);
        async move {
            let mut response = answer.await.map_err(|error: Infallible| error)?;
            if let Some(Follows(bill)) = response.extensions_mut().remove() {
                asked.0.follows(bill);
            }
            Ok::<_, Infallible>(response.map(|body| sending.send(body, asked)))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::STREAM_HEAD_BYTES)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        // A worker's stream may be silent for long; a peer that is gone does not answer.
        .keep_alive_interval(limits::PING_EVERY)
        .keep_alive_timeout(limits::PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    watched(
        on_bill(watcher.watch(connection), || whose.bill()),
        &answers,
    )
    .await;
}

/// Runs a connection until it ends, or until its caller has not read an answer for too long.
async fn watched<E: std::fmt::Display>(
    connection: impl Future<Output = Result<(), E>>,
    answers: &Answers,
) {
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = tokio::time::sleep(CHECK_EVERY) => {
                if answers.stalled() >= limits::WRITE_TIMEOUT {
                    tracing::debug!("a caller did not read an answer; its connection is closed");
                    return;
                }
            }
        }
    }
}

fn received(request: Request<Incoming>, caller: &Arc<Caller>) -> Request<Body> {
    let (head, body) = request.into_parts();
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        Body::new(Received::new(body, &head.headers, Arc::clone(caller)))
    };
    Request::from_parts(head, body)
}

/// A complete answer only needs the caller to read it; a streamed one keeps the server working until it ends.
fn answered(response: Response, asked: Asked) -> Response {
    let mut response = response;
    if let Some(Follows(bill)) = response.extensions_mut().remove() {
        asked.0.follows(bill);
    }
    if HttpBody::size_hint(response.body()).exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::new(Streamed {
            body,
            _asked: asked,
        })
    })
}
