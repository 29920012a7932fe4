//! Goes through a history, turn by turn.

use futures::{Stream, TryStreamExt};
use perennial::{Client, Error, Event, HistoryEvent, HistoryQuery, Json, Timestamp};

use super::replace::is_replaceable;
use super::states::{State, received};
use crate::instance::event::{About, Named, failure, payload};
use crate::instance::events;

/// Turns that are listed at once.
pub(super) const ROWS: u32 = 100;

/// Events that the line of a turn names.
const NAMED: usize = 2;

/// Which turn is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Turn(u32),
    Last,
}

/// A turn in a line.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) number: u32,
    pub(super) at: Timestamp,
    /// What came in, and what was answered, in short.
    pub(super) received: String,
    pub(super) produced: String,
}

/// A turn in full.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) number: u32,
    pub(super) at: Timestamp,
    pub(super) events: Vec<HistoryEvent>,
    /// What each event is about.
    pub(super) lines: Vec<About>,
    /// How many of the events came in.
    pub(super) received: usize,
    /// The execution after this turn.
    pub(super) state: State,
    /// When the next turn was recorded, if there is one.
    pub(super) next_at: Option<Timestamp>,
}

impl Chosen {
    pub(super) fn is_last(&self) -> bool {
        self.next_at.is_none()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) rows: Vec<Row>,
    /// The first turn after the rows, if there is one.
    pub(super) rows_end: Option<u32>,
    pub(super) chosen: Option<Chosen>,
    /// How many executions of the instance came before this one.
    pub(super) execution: Option<u32>,
}

/// Reads a history up to the turns that are listed with the one asked for.
pub(super) async fn walk(history: HistoryQuery, asked: Asked) -> Result<Walked, Error> {
    through(history.stream(), asked).await
}

/// As [`walk`], for any events.
async fn through<E>(
    mut events: impl Stream<Item = Result<HistoryEvent, E>> + Unpin,
    asked: Asked,
) -> Result<Walked, E> {
    let mut walk = Walk::of(asked);
    let mut turn: Vec<HistoryEvent> = Vec::new();
    while let Some(event) = events.try_next().await? {
        let ends = turn.first().is_some_and(|first| first.turn != event.turn);
        if ends {
            walk.take(std::mem::take(&mut turn));
            if !walk.goes_on(&event) {
                return Ok(walk.found);
            }
        }
        turn.push(event);
    }
    if !turn.is_empty() {
        walk.take(turn);
    }
    Ok(walk.finish())
}

/// Something that came in and can be replaced, without its payload.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) number: u64,
    pub(super) turn: u32,
    pub(super) at: Timestamp,
    pub(super) kind: &'static str,
    pub(super) line: About,
    /// The size of its payload, or of its failure.
    pub(super) size: Option<usize>,
}

/// What can be replaced from an event on, and the event with which more of it begins.
pub(super) async fn candidates(
    client: &Client,
    id: &str,
    from: u64,
) -> Result<(Vec<Candidate>, Option<u64>), Error> {
    let mut events = events::from(client, id, from);
    let mut found = Vec::new();
    while let Some((of, line)) = events.try_next().await? {
        let event = &of.event;
        if is_replaceable(event) {
            if found.len() == ROWS as usize {
                return Ok((found, Some(of.number)));
            }
            found.push(Candidate {
                number: of.number,
                turn: of.turn,
                at: of.at,
                kind: event.name(),
                line,
                size: size(event),
            });
        }
    }
    Ok((found, None))
}

/// Bytes of a payload or a failure.
fn size(event: &Event) -> Option<usize> {
    match failure(event) {
        Some(failure) => Some(failure.size()),
        None => payload(event)?.map(Json::size),
    }
}

struct Walk {
    asked: Asked,
    /// The first turn that is listed.
    from: u32,
    named: Named,
    state: State,
    found: Walked,
}

impl Walk {
    fn of(asked: Asked) -> Self {
        let from = match asked {
            Asked::Turn(number) => number / ROWS * ROWS,
            Asked::Last => 0,
        };
        Self {
            asked,
            from,
            named: Named::default(),
            state: State::default(),
            found: Walked::default(),
        }
    }

    /// Whether the turn that begins with this event is still of interest.
    fn goes_on(&mut self, next: &HistoryEvent) -> bool {
        if let Some(chosen) = &mut self.found.chosen
            && chosen.next_at.is_none()
            && self.asked != Asked::Last
        {
            chosen.next_at = Some(next.at);
        }
        let is_past = self.asked != Asked::Last && next.turn >= self.from.saturating_add(ROWS);
        if is_past {
            self.found.rows_end = Some(next.turn);
        }
        !is_past
    }

    /// Takes the events of the next turn.
    fn take(&mut self, events: Vec<HistoryEvent>) {
        let Some(first) = events.first() else {
            return;
        };
        let (number, at) = (first.turn, first.at);
        for event in &events {
            if let Event::ExecutionStarted(start) = &event.event {
                self.found.execution = Some(start.execution);
            }
        }
        if number < self.from {
            for event in &events {
                self.named.tell(&event.event);
                self.state.apply(event);
            }
            return;
        }
        if self.asked == Asked::Last && number.is_multiple_of(ROWS) {
            self.found.rows.clear();
        }
        let received = received(&events);
        let mut lines = Vec::with_capacity(events.len());
        for event in &events {
            self.named.tell(&event.event);
            lines.push(self.named.about(&event.event));
            self.state.apply(event);
        }
        self.found.rows.push(Row {
            number,
            at,
            received: brief(&events[..received], &lines[..received]),
            produced: brief(&events[received..], &lines[received..]),
        });
        // The state is copied once only: it may hold thousands of tasks.
        let state = match self.asked {
            Asked::Turn(asked) if asked == number => self.state.clone(),
            Asked::Turn(_) => return,
            Asked::Last => State::default(),
        };
        self.found.chosen = Some(Chosen {
            number,
            at,
            events,
            lines,
            received,
            state,
            next_at: None,
        });
    }

    fn finish(mut self) -> Walked {
        if let (Asked::Last, Some(chosen)) = (self.asked, &mut self.found.chosen) {
            chosen.state = self.state;
        }
        self.found
    }
}

/// Events in short: the names of the first, and how many more.
fn brief(events: &[HistoryEvent], lines: &[About]) -> String {
    let told: Vec<(&HistoryEvent, &About)> = (events.iter().zip(lines))
        .filter(|(event, _)| !matches!(event.event, Event::TurnStarted { .. }))
        .collect();
    let mut text = String::new();
    for (at, (event, line)) in told.iter().take(NAMED).enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(&line.brief(&event.event));
    }
    match told.len() {
        0 => "nothing".to_owned(),
        all if all > NAMED => format!("{text}, and {} more", all - NAMED),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, turn: u32, rest: &str) -> HistoryEvent {
        let text =
            format!(r#"{{"number":{number},"turn":{turn},"at":"2026-03-01T12:00:00Z",{rest}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    /// Two events a turn.
    fn long(turns: u32) -> Vec<Result<HistoryEvent, ()>> {
        (0..turns)
            .flat_map(|turn| {
                let number = u64::from(turn) * 2;
                let raised =
                    r#""event":"ExternalEventRaised","eventNumber":0,"name":"go","data":7"#;
                let called = format!(
                    r#""event":"ActivityScheduled","task":{turn},"name":"A","runBy":"native""#
                );
                [
                    Ok(event(number, turn, raised)),
                    Ok(event(number + 1, turn, &called)),
                ]
            })
            .collect()
    }

    async fn walked(turns: u32, asked: Asked) -> Walked {
        through(futures::stream::iter(long(turns)), asked)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_turn_is_found_with_its_state_and_the_turns_around_it() {
        let found = walked(5_000, Asked::Turn(250)).await;
        let rows: Vec<u32> = found.rows.iter().map(|row| row.number).collect();
        assert_eq!((rows.len(), rows[0], found.rows_end), (100, 200, Some(300)));
        assert_eq!(found.rows[0].received, "ExternalEventRaised go");
        let chosen = found.chosen.unwrap();
        assert_eq!(
            (chosen.number, chosen.events.len(), chosen.received),
            (250, 2, 1)
        );
        assert_eq!(chosen.state.tasks.len(), 251);
        assert!(!chosen.is_last());
    }

    #[tokio::test]
    async fn the_last_turn_is_found_without_its_number() {
        for turns in [1, 100, 101, 5_000] {
            let found = walked(turns, Asked::Last).await;
            let chosen = found.chosen.unwrap();
            assert_eq!(chosen.number, turns - 1);
            assert!(chosen.is_last() && found.rows.len() <= 100);
            assert_eq!(chosen.state.tasks.len(), turns as usize);
            assert_eq!(found.rows.last().unwrap().number, turns - 1);
            let same = walked(turns, Asked::Turn(turns - 1)).await;
            assert!(same.chosen.unwrap().is_last() && same.rows == found.rows);
        }
    }

    #[tokio::test]
    async fn a_turn_that_is_not_there_is_not_found() {
        assert!(walked(3, Asked::Turn(3)).await.chosen.is_none());
        assert!(walked(0, Asked::Last).await.chosen.is_none());
        assert!(walked(3, Asked::Turn(u32::MAX)).await.chosen.is_none());
    }

    #[test]
    fn many_events_are_counted() {
        let raised = r#""event":"ExternalEventRaised","eventNumber":0,"name":"go""#;
        let events: Vec<HistoryEvent> = (0..5).map(|number| event(number, 0, raised)).collect();
        let lines: Vec<About> = (events.iter())
            .map(|of| Named::default().about(&of.event))
            .collect();
        assert_eq!(
            brief(&events, &lines),
            "ExternalEventRaised go, ExternalEventRaised go, and 3 more"
        );
        assert_eq!(brief(&[], &[]), "nothing");
    }
}
