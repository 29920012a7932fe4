//! Serves a connection of HTTP/2: it has several requests at a time, each with a flow control of its own.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

use crate::http::bill::{Follows, on_bill};
use crate::http::closing::Closing;
use crate::http::origin::Scheme;
use crate::http::paced::Answers;
use crate::http::places::Caller;
use crate::limits::http as limits;

/// Bytes of one request that a caller may send before they are processed.
const REQUEST_WINDOW: u32 = 256 << 10;

/// How often a connection is checked: for a caller that does not read an answer, and for one that asks nothing.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// How long a caller that asks nothing may take to close the connection when it is told to.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Serves a connection until it ends. The watcher is held meanwhile, so that a server that drains waits for it.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: Scheme,
    router: axum::Router,
    _watcher: Watcher,
    closing: &Closing,
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
        // A client may give up all of its requests at once, without losing the connection for those that it makes next.
        .max_pending_accept_reset_streams(limits::STREAMS as usize)
        .max_header_list_size(limits::STREAM_HEAD_BYTES)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        // A worker's stream may be silent for long; a peer that is gone does not answer.
        .keep_alive_interval(limits::PING_EVERY)
        .keep_alive_timeout(limits::PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let mut told_to_end = None::<Instant>;
    let runs = async {
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
                () = closing.closed(), if told_to_end.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    told_to_end = Some(Instant::now());
                }
                () = tokio::time::sleep(CHECK_EVERY) => {
                    if answers.stalled() >= limits::WRITE_TIMEOUT {
                        tracing::debug!("a caller did not read an answer; its connection is closed");
                        return;
                    }
                    if whose.waits().is_none_or(|idle| idle < limits::IDLE_TIMEOUT) {
                        continue;
                    }
                    match told_to_end {
                        None => {
                            connection.as_mut().graceful_shutdown();
                            told_to_end = Some(Instant::now());
                        }
                        Some(since) if since.elapsed() >= LAST_WORDS => return,
                        Some(_) => {}
                    }
                }
            }
        }
    };
    on_bill(runs, || whose.bill()).await;
}
