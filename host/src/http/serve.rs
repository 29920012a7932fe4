//! A socket, served with limits until it is told to stop, and drained then.
//!
//! Law: whoever connects can hold one of a bounded number of connections, and each of them only for a bounded time without saying
//! something.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::http::Api;
use crate::http::origin::Scheme;
use crate::http::tls::Tls;

/// Connections at once. One more waits until another ends: HTTP/1.1 has one request at a time on each, so this bounds requests too.
const CONNECTIONS_MAX: usize = 1_024;

/// How long a caller may take for the head of a request, or say nothing between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a caller may take for the handshake of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers of a request, and bytes of its head.
const HEADERS_MAX: usize = 100;
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long requests that are being answered may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after the system has refused a connection for want of something.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is there, then answers what was asked already: waits end at once with what is known, streams end.
///
/// How many connections were cut off because they took too long to end.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let closing = Arc::clone(&api.closing);
    let router = api.into_router();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let drain = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = &mut shutdown => break,
            Some(accepted) = accept(&listener, &places) => accepted,
        };
        let (router, watcher, tls) = (router.clone(), drain.watcher(), tls.clone());
        tokio::spawn(async move {
            let _place = place;
            let stream = match tls {
                None => return converse(stream, Scheme::Plain, router, watcher).await,
                Some(tls) => tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await,
            };
            match stream {
                Ok(Ok(stream)) => converse(stream, Scheme::Tls, router, watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
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

/// The next connection, once there is a place for it. `None` where the system refused it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small, and whoever asks waits for them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection has no TCP_NODELAY");
                }
                return Some((stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    scheme: Scheme,
    router: axum::Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(scheme);
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { answer.await.map_err(|error: Infallible| error) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
