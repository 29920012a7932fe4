//! Failures that workers report.
//!
//! A failure of the hub has a list of causes and JSON details; one of the protocol is a chain of failures, each with properties. What inner
//! failures have beyond a cause is kept in the details, under the key that `failure.rs` reads.

use perennial_core::{Cause, Failure, Json};
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

use crate::grpc::failure::INNER;
use crate::grpc::generated::TaskFailureDetails;

/// How deep values within properties are kept; the decoder of the protocol allows fewer.
const LEVELS_MAX: usize = 100;

/// A failure with the chain of its causes.
pub(crate) fn failure(details: TaskFailureDetails) -> Failure {
    let mut properties = object(details.properties, LEVELS_MAX);
    let (mut causes, mut beyond) = (Vec::new(), Vec::new());
    let mut next = details.inner_failure;
    while let Some(inner) = next {
        causes.push(Cause {
            kind: inner.error_type,
            message: inner.error_message,
            trace: inner.stack_trace,
        });
        let mut more = Map::new();
        if inner.is_non_retriable {
            more.insert("isNonRetriable".to_owned(), true.into());
        }
        if !inner.properties.is_empty() {
            let properties = object(inner.properties, LEVELS_MAX);
            more.insert("properties".to_owned(), properties.into());
        }
        beyond.push(more);
        next = inner.inner_failure;
    }
    if beyond.iter().any(|more| !more.is_empty()) {
        let beyond: Vec<Value> = beyond.into_iter().map(Value::Object).collect();
        properties.insert(INNER.to_owned(), beyond.into());
    }
    let has_details = !properties.is_empty();
    Failure {
        kind: details.error_type,
        message: details.error_message,
        details: has_details.then(|| Json::from_text(Value::Object(properties).to_string())),
        retryable: !details.is_non_retriable,
        trace: details.stack_trace,
        causes,
    }
}

fn object(
    fields: impl IntoIterator<Item = (String, prost_types::Value)>,
    levels: usize,
) -> Map<String, Value> {
    let fields = fields.into_iter();
    let mut object: Vec<_> = fields.map(|(key, of)| (key, value(of, levels))).collect();
    // Maps of the protocol have no order: the same failure has one text.
    object.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    object.into_iter().collect()
}

fn value(value: prost_types::Value, levels: usize) -> Value {
    let Some(levels) = levels.checked_sub(1) else {
        return Value::Null;
    };
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(bool)) => Value::Bool(bool),
        Some(Kind::NumberValue(number)) => self::number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => {
            let values = list.values.into_iter();
            values.map(|of| self::value(of, levels)).collect()
        }
        Some(Kind::StructValue(of)) => Value::Object(object(of.fields, levels)),
    }
}

/// The protocol has only doubles: a whole number is written without a fraction, as its author wrote it. What JSON cannot hold is a text.
fn number(number: f64) -> Value {
    /// The largest whole number up to which a double holds each.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    if number.fract() == 0.0
        && number.abs() <= WHOLE_MAX
        && !(number == 0.0 && number.is_sign_negative())
    {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::grpc::failure::to_wire;

    fn of(kind: Kind) -> prost_types::Value {
        prost_types::Value { kind: Some(kind) }
    }

    fn details(kind: &str, inner: Option<TaskFailureDetails>) -> TaskFailureDetails {
        TaskFailureDetails {
            error_type: kind.to_owned(),
            error_message: format!("the message of {kind}"),
            stack_trace: Some(format!("the trace of {kind}")),
            inner_failure: inner.map(Box::new),
            is_non_retriable: false,
            properties: HashMap::new(),
        }
    }

    #[test]
    fn a_chain_comes_back_as_it_was_reported() {
        let list = prost_types::ListValue {
            values: vec![
                of(Kind::NumberValue(1.5)),
                of(Kind::NumberValue(-2.0)),
                of(Kind::NullValue(0)),
                of(Kind::BoolValue(true)),
            ],
        };
        let mut far = details("Far", None);
        far.is_non_retriable = true;
        far.properties
            .insert("list".to_owned(), of(Kind::ListValue(list)));
        let mut near = details("Near", Some(far));
        near.stack_trace = None;
        let mut reported = details("Declined", Some(near));
        reported.is_non_retriable = true;
        reported
            .properties
            .insert("code".to_owned(), of(Kind::StringValue("E1".to_owned())));
        let kept = failure(reported.clone());
        assert!(!kept.retryable);
        assert_eq!(kept.causes.len(), 2);
        assert_eq!(
            kept.details.as_ref().map(Json::as_str),
            Some(
                r#"{"code":"E1","innerFailures":[{},{"isNonRetriable":true,"properties":{"list":[1.5,-2,null,true]}}]}"#
            )
        );
        assert_eq!(to_wire(&kept), reported);
        let plain = failure(details("Plain", None));
        assert_eq!((plain.retryable, plain.details), (true, None));
    }

    #[test]
    fn numbers_that_json_lacks_are_texts_and_absurd_depth_ends() {
        let mut reported = details("Odd", None);
        reported
            .properties
            .insert("nan".to_owned(), of(Kind::NumberValue(f64::NAN)));
        assert_eq!(
            failure(reported).details.as_ref().map(Json::as_str),
            Some(r#"{"nan":"NaN"}"#)
        );
        let mut deep = of(Kind::NullValue(0));
        for _ in 0..200 {
            deep = of(Kind::ListValue(prost_types::ListValue {
                values: vec![deep],
            }));
        }
        let mut reported = details("Deep", None);
        reported.properties.insert("deep".to_owned(), deep);
        let kept = failure(reported).details.unwrap();
        assert_eq!(kept.check_readable(), Ok(()));
    }
}
