//! The stored encoding of events, messages and failures: a format byte, then postcard.
//!
//! Postcard stores fields in order and variants by number, so the order in the core's types is the format. Every later version reads the
//! recorded bytes that the tests pin; a shape that must change gets a new format byte and keeps its old reader.

use std::collections::BTreeMap;
use std::fmt;

use perennial_core::{Tags, Waiting};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// The format byte that is written.
const FORMAT: u8 = 1;

/// Encodes a value for a BLOB column.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(FORMAT);
    postcard::to_extend(value, bytes)
        .map_err(|e| StoreError::Corrupt(format!("a value could not be encoded: {e}")))
}

/// Decodes the output of [`encode`].
///
/// # Errors
/// [`StoreError::Corrupt`] names the value, with the text of `what`.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: impl fmt::Display,
) -> Result<T, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt(format!("{what} cannot be read: {why}"));
    match bytes.split_first() {
        Some((&FORMAT, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok((_, left)) => Err(corrupt(format!("{} bytes too many", left.len()))),
            Err(error) => Err(corrupt(error.to_string())),
        },
        Some((format, _)) => Err(corrupt(format!("unknown format {format}"))),
        None => Err(corrupt("it is empty".to_owned())),
    }
}

/// Decodes only the kind of a failure, which is its first field: the rest may have many bytes.
pub(crate) fn decode_failure_kind(bytes: &[u8]) -> Result<String, StoreError> {
    let kind = match bytes.split_first() {
        Some((&FORMAT, rest)) => postcard::take_from_bytes(rest).ok(),
        _ => None,
    };
    kind.map(|(kind, _)| kind)
        .ok_or_else(|| StoreError::Corrupt("the kind of a failure cannot be read".to_owned()))
}

/// Decodes what an instance waits for. Hubs of older formats have it without the names of requests.
pub(crate) fn decode_waiting(bytes: &[u8]) -> Result<Waiting, StoreError> {
    const WHAT: &str = "what an instance waits for";
    // No encoding is the beginning of another one, so that only one of the two shapes fits.
    decode(bytes, WHAT).or_else(|error| {
        let (events, tasks, note) = decode(bytes, WHAT).map_err(|_| error)?;
        Ok(Waiting {
            events,
            tasks,
            note,
            requests: Vec::new(),
        })
    })
}

/// Reads the tags of an instance from their column.
pub(crate) fn decode_tags(text: Option<String>) -> Result<Tags, StoreError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let tags: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|e| StoreError::Corrupt(format!("the tags of an instance: {e}")))?;
    Ok(tags.into_iter().collect())
}

/// The column for the tags of an instance.
pub(crate) fn encode_tags(tags: &Tags) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let pairs = tags.iter().map(|(k, v)| (k.clone(), v.clone().into()));
    let object: serde_json::Map<_, _> = pairs.collect();
    Some(serde_json::Value::Object(object).to_string())
}

/// Integers of a database are signed; stored values stay far below the sign bit.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The inverse of [`int`].
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_core::{AttemptRun, Event, Json, TaskId, Timestamp};

    #[test]
    fn stored_bytes_never_change() {
        let event = Event::ActivityCompleted {
            task: TaskId(3),
            output: Some(Json::from_text("7")),
            run: AttemptRun {
                attempt: 1,
                started_at: Timestamp(5),
                ended_at: Timestamp(300),
            },
        };
        let bytes = encode(&vec![event.clone()]).unwrap();
        assert_eq!(bytes, [1, 1, 2, 3, 1, 1, b'7', 1, 5, 172, 2]);
        assert_eq!(decode::<Vec<Event>>(&bytes, "a turn").unwrap(), [event]);
    }

    #[test]
    fn what_an_older_version_stored_as_awaited_is_read() {
        let old = (
            vec!["go".to_owned()],
            vec![TaskId(3)],
            Some("a note".to_owned()),
        );
        let read = decode_waiting(&encode(&old).unwrap()).unwrap();
        let mut waiting = Waiting {
            events: old.0,
            tasks: old.1,
            note: old.2,
            requests: Vec::new(),
        };
        assert_eq!(read, waiting);
        waiting.requests.push("AddItem".to_owned());
        assert_eq!(decode_waiting(&encode(&waiting).unwrap()).unwrap(), waiting);
        assert!(decode_waiting(&[1, 7]).is_err());
    }

    #[test]
    fn the_kind_of_a_failure_is_read_without_the_rest() {
        let failure = perennial_core::Failure::permanent("CardDeclined", "no money");
        let bytes = encode(&failure).unwrap();
        assert_eq!(decode_failure_kind(&bytes).unwrap(), "CardDeclined");
        for bytes in [&[][..], &[9, 1, b'x'], &[1, 9, b'x']] {
            assert!(decode_failure_kind(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn damage_is_named() {
        for bytes in [&[][..], &[9, 0], &[1], &[1, 1, 99], &[1, 0, 0]] {
            let error = decode::<Vec<Event>>(bytes, "turn 4")
                .unwrap_err()
                .to_string();
            assert!(error.contains("turn 4 cannot be read"), "{error}");
        }
    }
}
