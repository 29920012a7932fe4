//! Streams that tell that something has changed, and not what: for pages that are read again then.
//!
//! Invariants: a notice costs no read of the hub; what those who are told read afterwards is on a bill, and no notice is sent until it is
//! paid. So the more they read, and the more their reads cost, the less often they are told.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures::stream;
use tokio::time::Instant;

use crate::client::{Notices, NoticesOf};
use crate::http::Api;
use crate::http::bill::Counted;
use crate::http::native::doc::{Operation, get, number, text};
use crate::http::native::extract::{Ask, Failed};
use crate::http::native::reply::Raw;
use crate::http::native::sent::{KEEP_ALIVE, STILL_THERE, events, stream_of};

/// The time between two notices: what it is by default, and what it can be.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_LEAST: Duration = Duration::from_millis(100);
const EVERY_MOST: Duration = Duration::from_secs(3_600);

/// A notice. A browser passes no event on that has no data.
const CHANGED: &str = "event: changed\ndata: {}\n\n";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get(
            "/live/changed",
            changed,
            "followNotices",
            "That something has changed, as server-sent events without content: at once, and then at \
             most one in a span of time. It costs the host next to nothing, where /live reads each \
             instance that changes",
        )
        .query("id", text(), "Only this instance")
        .query("idPrefix", text(), "Only ids with this prefix")
        .query("every", number(), "The span in seconds; 1 if there is none")
        .answer_raw(
            200,
            "`changed` after a change. The span becomes longer while the pages of the dashboard \
             that are read again cost the host much",
            "text/event-stream",
            events,
        ),
    ]
}

/// Somebody who is told.
struct Told {
    api: Arc<Api>,
    notices: Notices,
    every: Duration,
    /// When the next notice may be sent.
    from: Instant,
    /// Whether there is one to send.
    is_due: bool,
    _counted: Counted,
}

async fn changed(ask: Ask) -> Result<Raw, Failed> {
    let every = ask.query.seconds("every")?.unwrap_or(EVERY);
    let prefix = || NoticesOf::Prefix(ask.query.text("idPrefix").unwrap_or_default().to_owned());
    let one = ask.query.text("id").map(|id| NoticesOf::One(id.to_owned()));
    let notices = ask.client.notices(one.unwrap_or_else(prefix));
    let bill = ask.api.live().shared_bill();
    let told = Told {
        api: ask.api,
        notices,
        every: every.clamp(EVERY_LEAST, EVERY_MOST),
        from: Instant::now(),
        is_due: false,
        _counted: bill.follower(),
    };
    Ok(Raw(stream_of(stream::unfold(told, Told::next), bill)))
}

impl Told {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let api = Arc::clone(&self.api);
        let sent = tokio::select! {
            next = tokio::time::timeout(KEEP_ALIVE, self.wait()) => match next {
                Ok(is_there) => is_there.then_some(CHANGED)?,
                Err(_) => STILL_THERE,
            },
            () = api.closing.closed() => return None,
        };
        Some((Bytes::from_static(sent.as_bytes()), self))
    }

    /// Waits until a notice is to be sent; false if there will be no more. It can be dropped and called again.
    async fn wait(&mut self) -> bool {
        tokio::time::sleep_until(self.from).await;
        if !self.is_due {
            self.is_due = self.notices.next().await.is_ok();
        }
        if !self.is_due {
            return false;
        }
        self.api.live().looks().paid().await;
        self.is_due = false;
        self.from = Instant::now() + self.every;
        true
    }
}
