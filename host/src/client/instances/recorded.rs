//! Recorded histories as files: all that a replay needs, in the stored form.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::Stream;
use perennial_core::{
    Corrupt, Digest, Event, Rejection, Start, State, Status, Timestamp, Turn, check_known_id,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::instances::history_query::{HISTORY_BYTES_MAX, PageCursor, TURNS};
use crate::client::json::{HexDigest, StatusName};
use crate::client::{Client, Error, Result};
use crate::foreign::guarded;
use crate::store::{InstanceRow, StoreError, decode, encode};

/// The version of the format that is written, and the newest that is read.
const VERSION: u32 = 1;

/// The most bytes that a file of a recorded history has.
pub const RECORDED_BYTES_MAX: u64 = 256 << 20;

/// Stored bytes of a page. In JSON they are a third more, beside the turns themselves.
const PAGE_BYTES_MAX: usize = HISTORY_BYTES_MAX / 2;

/// The recorded history of an instance's current execution, with all that a replay needs: what `perennial export` writes, and
/// [`Replayer`](crate::Replayer) reads. It contains every payload of the execution.
///
/// As JSON it is an object that begins with `"perennialHistory": 1`, the version of the format. The fields up to `generation` say whose it is.
/// Each of the `turns` has its `number`, the number of its `firstEvent`, the host's time `at` in milliseconds since 1970, the hash of the guest's
/// `answer` in hexadecimal (absent if it gave none), and its events: `received` and `produced` in Base64 are the bytes that a hub stores, which
/// every later version reads, and `events` names them, for people.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecordedHistory {
    perennial_history: u32,
    /// The id of the instance.
    pub instance_id: String,
    /// The name of its orchestration.
    pub name: String,
    /// The version of its orchestration.
    pub version: Option<String>,
    /// Its status when the history was read.
    #[serde_as(as = "StatusName")]
    pub runtime_status: Status,
    /// The module that it ran on; `None` if a remote worker runs it.
    #[serde_as(as = "Option<HexDigest>")]
    pub module: Option<Digest>,
    /// The number of the execution within the instance.
    pub execution: u32,
    /// How often the execution was rewound.
    pub generation: u32,
    turns: Vec<RecordedTurn>,
    /// The token of the next page; only in pages.
    continuation_token: Option<String>,
}

/// A turn, in the stored form.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RecordedTurn {
    number: u32,
    first_event: u64,
    at: u64,
    answer: Option<String>,
    received: String,
    produced: String,
    #[serde(default)]
    events: Vec<String>,
}

impl RecordedTurn {
    fn of(turn: &Turn) -> Result<Self, StoreError> {
        let stored = |events: &[Event]| -> Result<String, StoreError> {
            Ok(BASE64_STANDARD.encode(encode(events)?))
        };
        Ok(Self {
            number: turn.number,
            first_event: turn.first_event,
            at: turn.at.0,
            answer: turn.answer.map(|hash| format!("{hash:016x}")),
            received: stored(&turn.received)?,
            produced: stored(&turn.produced)?,
            events: turn.events().map(|event| event.name().to_owned()).collect(),
        })
    }

    fn turn(&self) -> Result<Turn, String> {
        let number = self.number;
        let events = |text: &str, what: &str| -> Result<Vec<Event>, String> {
            let bytes = BASE64_STANDARD.decode(text);
            let bytes = bytes.map_err(|error| format!("turn {number}, {what}: {error}"))?;
            decode(&bytes, format_args!("turn {number}, {what}")).map_err(|error| match error {
                StoreError::Corrupt(why) => why,
                other => other.to_string(),
            })
        };
        let answer = self.answer.as_ref().map(|text| {
            u64::from_str_radix(text, 16)
                .map_err(|_| format!("turn {number}: the answer {text:?} is no hash"))
        });
        Ok(Turn {
            number,
            first_event: self.first_event,
            at: Timestamp(self.at),
            received: events(&self.received, "received")?,
            produced: events(&self.produced, "produced")?,
            answer: answer.transpose()?,
            next: None,
        })
    }
}

/// Where a text goes on.
enum Place {
    Begin,
    /// After the page with this token.
    After(String),
    End,
}

impl RecordedHistory {
    /// Reads what `perennial export` wrote. It may come from anywhere: what no host would have written is refused.
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what is wrong with it, and what to do.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        /// The field that says what the rest is.
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "perennialHistory")]
            version: Option<u32>,
        }
        if text.len() as u64 > RECORDED_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the history has {} bytes; at most {RECORDED_BYTES_MAX} are read",
                text.len()
            )));
        }
        let no_object = text.trim_ascii_start().first() != Some(&b'{');
        let head = match serde_json::from_slice::<Head>(text) {
            Ok(head) => head,
            Err(_) if no_object && !text.trim_ascii().is_empty() => Head { version: None },
            Err(error) => return Err(Error::invalid(format!("it is not valid JSON: {error}"))),
        };
        match head.version {
            Some(1..=VERSION) => {}
            Some(version) => {
                return Err(Error::invalid(format!(
                    "it has version {version} of the format of recorded histories, and this program reads versions up to {VERSION}; \
                     use a newer program"
                )));
            }
            None => {
                return Err(Error::invalid(
                    "it is no recorded history, which begins with \"perennialHistory\"; `perennial export ID` writes one (the output of \
                     `perennial history --json` lacks what a replay needs)",
                ));
            }
        }
        let this: Self = serde_json::from_slice(text).map_err(|error| {
            Error::invalid(format!("it is a damaged recorded history: {error}"))
        })?;
        this.check()?;
        Ok(this)
    }

    /// Whether it is what a host writes: each turn follows the one before, and its events are those of an execution.
    fn check(&self) -> Result<()> {
        let damaged = |why: String| {
            Error::invalid(format!(
                "it is a damaged recorded history: {why}; export it again"
            ))
        };
        if self.continuation_token.is_some() {
            return Err(damaged("it is only a page of one".to_owned()));
        }
        check_known_id(&self.instance_id).map_err(|error| damaged(error.to_string()))?;
        let mut state = State::new(self.generation);
        for turn in self.turns() {
            let turn = turn.map_err(damaged)?;
            if (turn.number, turn.first_event) != (state.turns, state.next_event) {
                return Err(damaged(format!(
                    "turn {} stands where turn {} would follow",
                    turn.number, state.turns
                )));
            }
            let folded = guarded(|| -> Result<(), Corrupt> {
                turn.events().try_for_each(|event| state.apply(event))
            });
            folded
                .map_err(&damaged)?
                .map_err(|corrupt| damaged(corrupt.to_string()))?;
            state.turns += 1;
        }
        let start = state.start();
        let is_of =
            |start: &Start| (&start.instance_id, &start.name) == (&self.instance_id, &self.name);
        if !self.turns.is_empty() && !start.is_none_or(is_of) {
            return Err(damaged(format!(
                "its turns are not those of {:?}, instance {:?}",
                self.name, self.instance_id
            )));
        }
        Ok(())
    }

    /// The number of turns.
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether no turn is recorded, because the execution has not begun.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The turns, in order.
    pub(crate) fn turns(&self) -> impl Iterator<Item = Result<Turn, String>> {
        self.turns.iter().map(RecordedTurn::turn)
    }

    fn of(row: &InstanceRow, turns: &[Turn]) -> Result<Self, StoreError> {
        Ok(Self {
            perennial_history: VERSION,
            instance_id: row.id.clone(),
            name: row.name.clone(),
            version: row.version.clone(),
            runtime_status: row.status,
            module: row.module,
            execution: row.execution,
            generation: row.generation,
            turns: turns
                .iter()
                .map(RecordedTurn::of)
                .collect::<Result<_, _>>()?,
            continuation_token: None,
        })
    }

    /// A page as a piece of the text of the whole, and where the next one begins.
    fn piece(mut self, is_first: bool) -> Result<(String, Place)> {
        let next = match self.continuation_token.take() {
            Some(token) => Place::After(token),
            None => Place::End,
        };
        let failed = |error: serde_json::Error| Error::json("the recorded history", &error);
        let mut text = String::new();
        if is_first {
            text = serde_json::to_string(&self).map_err(failed)?;
            // The turns are the last field, so that more can follow.
            text.truncate(text.len() - "]}".len());
        } else {
            for turn in &self.turns {
                text.push(',');
                text.push_str(&serde_json::to_string(turn).map_err(failed)?);
            }
        }
        if matches!(next, Place::End) {
            text.push_str("]}");
        }
        Ok((text, next))
    }

    /// Bytes of its JSON, roughly.
    fn size(&self) -> u64 {
        let size = |turn: &RecordedTurn| turn.received.len() + turn.produced.len() + 200;
        self.turns.iter().map(|turn| size(turn) as u64).sum()
    }
}

impl Client {
    /// Reads the recorded history of an instance's current execution, for a replay elsewhere: see [`Replayer`](crate::Replayer). `None` if the
    /// instance does not exist.
    ///
    /// # Errors
    /// [`Error::is_wrong_state`] if the instance was rewound or began another execution meanwhile; [`Error::is_invalid`] if the history is
    /// larger than [`RECORDED_BYTES_MAX`].
    pub async fn export(&self, id: &str) -> Result<Option<RecordedHistory>> {
        let mut whole = match self.export_page(id, None).await {
            Ok(page) => page,
            Err(error) if error.is_not_found_instance() => return Ok(None),
            Err(error) => return Err(error),
        };
        while let Some(token) = whole.continuation_token.take() {
            let page = self.export_page(id, Some(&token)).await?;
            whole.runtime_status = page.runtime_status;
            whole.turns.extend(page.turns);
            whole.continuation_token = page.continuation_token;
            if whole.size() > RECORDED_BYTES_MAX {
                return Err(Error::invalid(format!(
                    "the history of instance {id:?} is larger than a file of a recorded history may be, which is {RECORDED_BYTES_MAX} \
                     bytes; `perennial deploy --check` replays live instances in the hub itself"
                )));
            }
        }
        Ok(Some(whole))
    }

    /// The JSON of a recorded history in pieces of some MiB, however long it is: together they are what [`export`](Self::export) serializes to,
    /// except that the status is the one at the beginning. Nothing is read unless a piece is asked for, and memory holds one at a time.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use futures::TryStreamExt;
    ///
    /// let mut pieces = client.export_text("order-17");
    /// while let Some(piece) = pieces.try_next().await? {
    ///     print!("{piece}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`], with the first piece; [`Error::is_wrong_state`] if the instance was rewound or began another execution
    /// meanwhile. What was read until then is no file. The stream ends after an error.
    pub fn export_text(
        &self,
        id: &str,
    ) -> impl Stream<Item = Result<String>> + Send + Unpin + use<> {
        let state = (self.clone(), id.to_owned(), Place::Begin);
        Box::pin(futures::stream::try_unfold(state, |state| async move {
            let (client, id, place) = state;
            let (page, is_first) = match place {
                Place::Begin => (client.export_page(&id, None).await?, true),
                Place::After(token) => (client.export_page(&id, Some(&token)).await?, false),
                Place::End => return Ok(None),
            };
            let (text, next) = page.piece(is_first)?;
            Ok(Some((text, (client, id, next))))
        }))
    }

    /// Reads a page of a recorded history: the first, or the one that a token of the previous page denotes.
    pub(crate) async fn export_page(
        &self,
        id: &str,
        after: Option<&str>,
    ) -> Result<RecordedHistory> {
        if let Some(remote) = self.remote() {
            let page = remote.recorded(id, after).await?;
            return page.ok_or_else(|| Error::rejected(id, Rejection::NotFound));
        }
        let after = match after {
            Some(token) => Some(PageCursor::of_token(token).ok_or_else(Error::token)?),
            None => None,
        };
        let asked = id.to_owned();
        let read = self.read(move |reader| {
            let Some(row) = reader.instance(&asked)? else {
                return Ok(None);
            };
            let of = (row.key, row.execution, row.generation);
            if after.is_some_and(|place| place.of != of) {
                return Ok(Some(Err(row.status)));
            }
            let from = after.map_or(0, |place| place.next_turn);
            let turns = reader.turns_within(row.key, row.execution, from, TURNS, PAGE_BYTES_MAX)?;
            let mut page = RecordedHistory::of(&row, &turns)?;
            let next = turns.last().map(|turn| turn.number + 1);
            let next = next.map(|next_turn| PageCursor { of, next_turn }.token());
            page.continuation_token = next;
            Ok(Some(Ok(page)))
        });
        match read.await? {
            None => Err(Error::rejected(id, Rejection::NotFound)),
            Some(Err(status)) => Err(Error::moved_on(id, status)),
            Some(Ok(page)) => Ok(page),
        }
    }
}
