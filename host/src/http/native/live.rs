//! Live streams: server-sent events that a client can resume after the last event that it received.
//!
//! Invariants: the id of an event is its position, including the rewinds before it; a client that resumes with the last id misses nothing,
//! and events that a rewind replaced since are sent anew.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::HeaderMap;
use futures::stream;

use crate::client::{
    Change, ChangeCursor, Changed, Changes, Client, Cursor, Found, InstanceStatus,
};
use crate::http::Api;
use crate::http::bill::{Bill, Counted, Held, Turn};
use crate::http::native::doc::{Operation, get, text};
use crate::http::native::extract::{Ask, Failed, Segments};
use crate::http::native::feed::{Feeds, Follower, News, Next, NextPiece, Source, Told};
use crate::http::native::reply::Raw;
use crate::http::native::sent::{
    KEEP_ALIVE, STILL_THERE, events, last_seen, stream_of, write_event,
};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get(
            "/instances/{id}/live",
            follow,
            "followInstance",
            "The history of an instance as server-sent events, from its beginning or after \
             Last-Event-ID, until it has ended; after a rewind it goes on from where the history \
             was cut",
        )
        .query("after", text(), "The same as the header Last-Event-ID")
        .answer_raw(
            200,
            "`history` for each event, `ended` with the instance at the end; ids are \
             EXECUTION:GENERATION:NUMBER",
            "text/event-stream",
            events,
        ),
        get(
            "/live",
            changes,
            "followChanges",
            "Changes of instances as server-sent events, from now on or after Last-Event-ID",
        )
        .query("name", text(), "Only this orchestration")
        .query("idPrefix", text(), "Only ids with this prefix")
        .query("after", text(), "The same as the header Last-Event-ID")
        .answer_raw(
            200,
            "`instance` for each change, with the instance as it is then",
            "text/event-stream",
            events,
        ),
    ]
}

/// The feeds of a server.
#[derive(Debug)]
pub(in crate::http) struct Live {
    told: Arc<Told>,
    histories: Arc<Feeds<(String, String), HistoryPiece>>,
    changes: Arc<Feeds<String, ChangesPiece>>,
    looks: Bill,
}

impl Live {
    /// The bill of those who read something again when they are told that it changed.
    pub(in crate::http) fn looks(&self) -> &Bill {
        &self.looks
    }

    /// The bill of all followers.
    pub(in crate::http) fn bill(&self) -> &Bill {
        &self.told.bill
    }

    /// The bill, for an answer that outlives its handler.
    pub(super) fn shared_bill(&self) -> Arc<Bill> {
        Arc::clone(&self.told.bill)
    }

    pub(in crate::http) fn new(told: Told) -> Self {
        let looks = Bill::of_looks(told.closing());
        Self {
            told: Arc::new(told),
            histories: Arc::default(),
            changes: Arc::default(),
            looks,
        }
    }
}

/// A part of a history, serialized.
#[derive(Clone, Debug)]
pub(in crate::http) struct HistoryPiece {
    /// `before` is the reader's cursor, and `from` the first event: earlier than `before` after a rewind.
    before: Cursor,
    from: Cursor,
    to: Cursor,
    text: Bytes,
    /// The number and offset of each event in the text, and last the offset of the `ended` event.
    marks: Arc<[(u64, usize)]>,
    /// When it was read, and whether there were no more events then.
    read_at: Instant,
    complete: bool,
    ended: bool,
}

/// The part of a piece that is new to a follower.
enum Rest {
    Text(Bytes),
    Nothing,
    /// Events between the cursor and the piece are missing.
    Missing,
}

impl HistoryPiece {
    /// Reads events after a cursor from the hub. `None` if the instance was purged, the host has stopped, or the server shuts down.
    async fn read(
        client: &Client,
        id: &str,
        place: &Cursor,
        told: &Told,
        turn: &mut Option<Held<'_>>,
    ) -> Option<Self> {
        let (read_at, mut to) = (Instant::now(), place.clone());
        let found = client.history_after(id, &mut to).await.ok()??;
        told.bill.has_read(found.took);
        let mut text = String::new();
        let mut marks = Vec::with_capacity(found.events.len() + 1);
        for event in &found.events {
            marks.push((event.number, text.len()));
            write_event(&mut text, "history", &to.id_of(event.number), event);
        }
        marks.push((u64::MAX, text.len()));
        if let Some(ended) = &found.ended {
            write_event(&mut text, "ended", &to.id_of(u64::MAX), ended);
        }
        let Found {
            from,
            ended,
            complete,
            ..
        } = found;
        Some(Self {
            before: place.clone(),
            from,
            to,
            text: told.piece(text, turn).await?,
            marks: marks.into(),
            read_at,
            complete,
            ended: ended.is_some(),
        })
    }

    /// The follower's cursor after this piece. A piece that was read for others may end before the cursor; then the cursor stays, so that
    /// nothing is sent twice.
    fn leads_to(&self, place: &Cursor) -> Cursor {
        let ends_before = place.is_beside(&self.to) && self.to.next_event < place.next_event;
        match ends_before {
            true => place.clone(),
            false => self.to.clone(),
        }
    }

    fn rest(&self, place: &Cursor) -> Rest {
        if *place == self.before || place.is_at(&self.before) {
            return match &self.text {
                text if text.is_empty() => Rest::Nothing,
                text => Rest::Text(text.clone()),
            };
        }
        if !place.is_beside(&self.to) || place.next_event < self.from.next_event {
            return Rest::Missing;
        }
        let next = self
            .marks
            .partition_point(|(number, _)| *number < place.next_event);
        let begin = self.marks.get(next).map_or(self.text.len(), |(_, at)| *at);
        match self.text.slice(begin..) {
            rest if rest.is_empty() => Rest::Nothing,
            rest => Rest::Text(rest),
        }
    }
}

/// Reads a history for a feed.
struct History {
    client: Client,
    id: String,
    place: Cursor,
}

impl Source for History {
    type Piece = HistoryPiece;

    fn next<'a>(&'a mut self, told: &'a Told) -> NextPiece<'a, HistoryPiece> {
        Box::pin(async move {
            loop {
                // Subscribe before reading, so that no change is missed.
                let changed = self.client.changed(&self.id);
                let mut turn = Some(told.bill.turn(Turn::Feed).await);
                let (client, place) = (&self.client, &self.place);
                let read = HistoryPiece::read(client, &self.id, place, told, &mut turn);
                let piece = read.await?;
                drop(turn);
                self.place = piece.to.clone();
                if !piece.text.is_empty() {
                    return Some(Next {
                        bytes: piece.text.len(),
                        last: piece.ended,
                        piece,
                    });
                }
                if piece.complete {
                    changed.await;
                }
            }
        })
    }
}

/// A follower of one instance.
struct Following {
    api: Arc<Api>,
    client: Client,
    id: String,
    place: Cursor,
    follower: Option<Follower<HistoryPiece>>,
    /// Since when events may be missing between the cursor and the next piece; `None` if none are.
    behind_since: Option<Instant>,
    over: bool,
    _counted: Counted,
}

async fn follow(
    ask: Ask,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Result<Raw, Failed> {
    let place = match last_seen(&ask, &headers) {
        None => Cursor::default(),
        Some(last) => Cursor::after(&last).ok_or_else(|| {
            Failed::invalid(format!(
                "{last:?} is not the id of an event of this stream; send the last id that it sent"
            ))
        })?,
    };
    if ask.client.status(&id).await?.is_none() {
        return Err(Failed::no_instance(&id));
    }
    let bill = Arc::clone(&ask.api.live().told.bill);
    let following = Following {
        api: ask.api,
        client: ask.client,
        id,
        place,
        follower: None,
        behind_since: None,
        over: false,
        _counted: bill.follower(),
    };
    let events = stream::unfold(following, Following::next);
    Ok(Raw(stream_of(events, bill)))
}

impl Following {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            if self.over || self.api.closing.is_closed() {
                return None;
            }
            let text = match (&self.follower, self.behind_since) {
                (None, _) => {
                    self.join();
                    None
                }
                (Some(_), None) => self.listen().await,
                (Some(_), Some(since)) => self.catch_up(since).await,
            };
            if let Some(text) = text {
                return Some((text, self));
            }
        }
    }

    /// Joins the feed before reading what it missed, so that no event is lost in between.
    fn join(&mut self) {
        let live = self.api.live();
        let key = (self.client.task_hub().to_owned(), self.id.clone());
        let follower = live.histories.join(key, &live.told, || History {
            client: self.client.clone(),
            id: self.id.clone(),
            place: self.place.clone(),
        });
        self.behind_since = (!follower.is_first).then(Instant::now);
        self.follower = Some(follower);
    }

    async fn listen(&mut self) -> Option<Bytes> {
        let follower = self.follower.as_mut()?;
        let news = tokio::time::timeout(KEEP_ALIVE, follower.next()).await;
        match news {
            Err(_) => return Some(Bytes::from_static(STILL_THERE.as_bytes())),
            Ok(News::Piece(piece)) => match piece.rest(&self.place) {
                Rest::Text(text) => {
                    self.place = piece.leads_to(&self.place);
                    self.over = piece.ended;
                    return Some(text);
                }
                Rest::Nothing => {}
                Rest::Missing => self.behind_since = Some(Instant::now()),
            },
            Ok(News::Behind) => self.behind_since = Some(Instant::now()),
            // The instance may have restarted since: read the hub.
            Ok(News::Over) => {
                let text = self.catch_up(Instant::now()).await;
                self.follower = None;
                return text;
            }
        }
        None
    }

    /// Gets missed events from recent pieces of others, or from the hub.
    async fn catch_up(&mut self, since: Instant) -> Option<Bytes> {
        let api = Arc::clone(&self.api);
        let told = &api.live().told;
        let recent = Arc::clone(&self.follower.as_ref()?.recent);
        // Followers that wait for their turn meanwhile find this piece in `recent`.
        let mut turn = Some(told.bill.turn(Turn::Behind).await);
        let known = recent.find(|piece| self.leads_on(piece, since));
        let piece = match known {
            Some(piece) => piece,
            None => {
                let (client, place) = (&self.client, &self.place);
                let read = HistoryPiece::read(client, &self.id, place, told, &mut turn);
                let Some(piece) = read.await else {
                    self.over = true;
                    return None;
                };
                recent.keep(&piece, piece.text.len(), told);
                piece
            }
        };
        drop(turn);
        told.bill.expect(1, piece.text.len());
        let rest = piece.rest(&self.place);
        self.place = piece.leads_to(&self.place);
        self.over = piece.ended;
        // A piece that was read before the gap may not contain the missing events.
        self.behind_since = (!piece.complete || piece.read_at < since).then_some(since);
        match rest {
            Rest::Text(text) => Some(text),
            Rest::Nothing | Rest::Missing => None,
        }
    }

    /// The piece, if it has events after the cursor, or shows that there are none.
    fn leads_on(&self, piece: &HistoryPiece, since: Instant) -> Option<HistoryPiece> {
        let leads_on = match piece.rest(&self.place) {
            Rest::Text(_) => true,
            Rest::Nothing => piece.complete && piece.read_at >= since,
            Rest::Missing => false,
        };
        leads_on.then(|| piece.clone())
    }
}

/// Changes of instances, serialized.
#[derive(Clone, Debug)]
pub(in crate::http) struct ChangesPiece {
    text: Bytes,
    /// The name and id of each changed instance, and the end of its event in the text.
    changes: Arc<[(String, String, usize)]>,
    /// The cursor after the last change.
    last: ChangeCursor,
    /// The cursor of the read, the time, and whether it got all changes. `after` is `None` for pieces of the feed, which follow each other.
    after: Option<ChangeCursor>,
    read_at: Instant,
    all: bool,
}

impl ChangesPiece {
    /// `None` at shutdown.
    async fn new(
        told: &Told,
        after: Option<ChangeCursor>,
        read_at: Instant,
        found: Changed,
        turn: &mut Option<Held<'_>>,
    ) -> Option<Self> {
        told.bill.has_read(found.took);
        let mut text = String::new();
        let mut changes = Vec::with_capacity(found.changes.len());
        let last = found.changes.iter().map(Change::place).max();
        for change in found.changes {
            write_event(&mut text, "instance", &change.id(), &change.instance);
            let InstanceStatus {
                name, instance_id, ..
            } = change.instance;
            changes.push((name, instance_id, text.len()));
        }
        Some(Self {
            text: told.piece(text, turn).await?,
            changes: changes.into(),
            last: last.or(after).unwrap_or_default(),
            after,
            read_at,
            all: found.all,
        })
    }
}

/// Reads changes for a feed.
struct Watched(Changes);

impl Source for Watched {
    type Piece = ChangesPiece;

    fn next<'a>(&'a mut self, told: &'a Told) -> NextPiece<'a, ChangesPiece> {
        Box::pin(async move {
            told.bill.paid().await;
            let found = self.0.next().await.ok()?;
            let piece = ChangesPiece::new(told, None, Instant::now(), found, &mut None).await?;
            Some(Next {
                bytes: piece.text.len(),
                last: false,
                piece,
            })
        })
    }
}

/// A follower of changes.
struct Watching {
    api: Arc<Api>,
    client: Client,
    follower: Follower<ChangesPiece>,
    /// The cursor, while it differs from the feed's, and the time since when changes may be missing in between.
    since: Option<ChangeCursor>,
    behind_since: Instant,
    /// The last change that was sent.
    last: ChangeCursor,
    name: Option<String>,
    id_prefix: Option<String>,
    _counted: Counted,
}

async fn changes(ask: Ask, headers: HeaderMap) -> Result<Raw, Failed> {
    let since = match last_seen(&ask, &headers) {
        Some(last) => Some(ask.client.goes_on_after(Client::change_place(&last)?)),
        None => None,
    };
    // Subscribe before all other requests: changes from now on must not be missed.
    let now = ask.client.changes();
    let live = ask.api.live();
    let key = ask.client.task_hub().to_owned();
    let follower = live.changes.join(key, &live.told, || Watched(now));
    let bill = Arc::clone(&live.told.bill);
    let watching = Watching {
        client: ask.client.clone(),
        follower,
        behind_since: Instant::now(),
        last: since.unwrap_or_else(Changes::now),
        since,
        name: ask.query.text("name").map(str::to_owned),
        id_prefix: ask.query.text("idPrefix").map(str::to_owned),
        api: ask.api,
        _counted: bill.follower(),
    };
    let events = stream::unfold(watching, Watching::next);
    Ok(Raw(stream_of(events, bill)))
}

impl Watching {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            let piece = match self.since {
                Some(since) => self.missed(since).await?,
                None => {
                    let news = tokio::time::timeout(KEEP_ALIVE, self.follower.next());
                    match news.await {
                        Err(_) => return Some((Bytes::from_static(STILL_THERE.as_bytes()), self)),
                        Ok(News::Piece(piece)) => piece,
                        Ok(News::Behind) => {
                            let place = self.client.goes_on_after(self.last);
                            (self.since, self.behind_since) = (Some(place), Instant::now());
                            continue;
                        }
                        Ok(News::Over) => return None,
                    }
                }
            };
            self.last = self.last.max(piece.last);
            let text = self.wanted(&piece);
            if !text.is_empty() {
                return Some((text, self));
            }
        }
    }

    /// Gets changes after a cursor from recent pieces of others, or from the hub.
    async fn missed(&mut self, since: ChangeCursor) -> Option<ChangesPiece> {
        let api = Arc::clone(&self.api);
        let told = &api.live().told;
        let recent = Arc::clone(&self.follower.recent);
        // Followers that wait for their turn meanwhile find this piece in `recent`.
        let mut turn = Some(told.bill.turn(Turn::Behind).await);
        // A piece that was read before the gap may not contain the missing changes.
        let is_new = |piece: &ChangesPiece| piece.read_at >= self.behind_since;
        let leads_on = |piece: &ChangesPiece| {
            piece.after == Some(since) && (!piece.text.is_empty() || piece.all && is_new(piece))
        };
        let known = recent.find(|piece| leads_on(piece).then(|| piece.clone()));
        let piece = match known {
            Some(piece) => piece,
            None => {
                let read_at = Instant::now();
                let found = self.client.changed_after(since).await.ok()?;
                let piece = ChangesPiece::new(told, Some(since), read_at, found, &mut turn).await?;
                recent.keep(&piece, piece.text.len(), told);
                piece
            }
        };
        told.bill.expect(1, piece.text.len());
        self.since = (!piece.all || !is_new(&piece)).then_some(piece.last);
        Some(piece)
    }

    fn wanted(&self, piece: &ChangesPiece) -> Bytes {
        if self.name.is_none() && self.id_prefix.is_none() {
            return piece.text.clone();
        }
        let (mut wanted, mut begin) = (Vec::new(), 0);
        for (name, id, end) in piece.changes.iter() {
            if self.is_for(name, id) {
                wanted.extend_from_slice(&piece.text[begin..*end]);
            }
            begin = *end;
        }
        wanted.into()
    }

    fn is_for(&self, name: &str, id: &str) -> bool {
        let is_wanted = |wanted: &Option<String>, fits: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(fits)
        };
        is_wanted(&self.name, &|wanted| wanted == name)
            && is_wanted(&self.id_prefix, &|prefix| id.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests;
