//! Metrics of requests by status and duration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::Buckets;
use crate::histogram::Histogram;
use crate::http::Api;

#[derive(Debug, Default)]
pub(crate) struct RequestMetrics {
    classes: [AtomicU64; 5],
    begun: AtomicU64,
    ended: AtomicU64,
    seconds: Histogram,
}

impl RequestMetrics {
    /// The number of answers by status class.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        names
            .into_iter()
            .zip(&self.classes)
            .map(|(name, count)| (name, count.load(Relaxed)))
    }

    pub(crate) fn under_way(&self) -> u64 {
        let ended = self.ended.load(Relaxed);
        self.begun.load(Relaxed).saturating_sub(ended)
    }

    pub(crate) fn seconds(&self) -> Buckets {
        self.seconds.read(1e-6)
    }
}

/// Counts the request as ended when dropped, also if the caller disconnects.
struct InFlight(Arc<Api>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.request_metrics.ended.fetch_add(1, Relaxed);
    }
}

/// Counts a request. Forbids browsers to guess the content type of the answer.
pub(crate) async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    api.request_metrics.begun.fetch_add(1, Relaxed);
    let under_way = InFlight(Arc::clone(&api));
    let mut response = next.run(request).await;
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    drop(under_way);
    let class = usize::from(response.status().as_u16() / 100);
    if let Some(count) = api.request_metrics.classes.get(class.saturating_sub(1)) {
        count.fetch_add(1, Relaxed);
    }
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    api.request_metrics.seconds.record(micros);
    response
}
