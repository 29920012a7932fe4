//! Failures as the protocol has them.
//!
//! A failure of the hub has a list of causes and JSON details; one of the protocol is a chain of failures, each with properties. The details
//! of a failure that a worker reported are its properties; the key `innerFailures` in them has, in the order of the causes, what inner
//! failures have beyond a cause.

use perennial_core::{Cause, Failure};
use prost_types::value::Kind;
use serde_json::{Map, Value};

use crate::grpc::generated::TaskFailureDetails;

/// The key of the details with properties of inner failures.
pub(crate) const INNER: &str = "innerFailures";

/// The key of the properties with details that are not an object.
const DETAILS: &str = "details";

/// A failure, with the chain of its causes.
pub(crate) fn to_wire(failure: &Failure) -> TaskFailureDetails {
    let details = failure.details.as_ref();
    let mut properties = match details.map(|json| serde_json::from_str(json.as_str())) {
        None | Some(Err(_)) => Map::new(),
        Some(Ok(Value::Object(properties))) => properties,
        Some(Ok(other)) => Map::from_iter([(DETAILS.to_owned(), other)]),
    };
    let beyond = match properties.remove(INNER) {
        Some(Value::Array(beyond)) => beyond,
        Some(other) => {
            properties.insert(INNER.to_owned(), other);
            Vec::new()
        }
        None => Vec::new(),
    };
    let mut inner = None;
    for (i, cause) in failure.causes.iter().enumerate().rev() {
        let beyond = beyond.get(i).and_then(Value::as_object);
        inner = Some(Box::new(inner_to_wire(cause, beyond, inner)));
    }
    TaskFailureDetails {
        error_type: failure.kind.clone(),
        error_message: failure.message.clone(),
        stack_trace: failure.trace.clone(),
        inner_failure: inner,
        is_non_retriable: !failure.retryable,
        properties: struct_of(properties),
    }
}

fn inner_to_wire(
    cause: &Cause,
    beyond: Option<&Map<String, Value>>,
    inner: Option<Box<TaskFailureDetails>>,
) -> TaskFailureDetails {
    let get = |key| beyond.and_then(|beyond| beyond.get(key));
    let properties = get("properties").and_then(Value::as_object).cloned();
    TaskFailureDetails {
        error_type: cause.kind.clone(),
        error_message: cause.message.clone(),
        stack_trace: cause.trace.clone(),
        inner_failure: inner,
        is_non_retriable: get("isNonRetriable")
            .and_then(Value::as_bool)
            .unwrap_or_default(),
        properties: struct_of(properties.unwrap_or_default()),
    }
}

fn struct_of<M: FromIterator<(String, prost_types::Value)>>(object: Map<String, Value>) -> M {
    let fields = object.into_iter();
    fields.map(|(key, value)| (key, value_of(value))).collect()
}

fn value_of(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(bool) => Kind::BoolValue(bool),
        Value::Number(number) => match number.as_f64() {
            Some(number) => Kind::NumberValue(number),
            None => Kind::StringValue(number.to_string()),
        },
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(value_of).collect(),
        }),
        Value::Object(object) => Kind::StructValue(prost_types::Struct {
            fields: struct_of(object),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use perennial_core::Json;

    use super::*;

    fn text(text: &str) -> prost_types::Value {
        value_of(Value::from(text))
    }

    #[test]
    fn the_whole_chain_goes_out_with_its_properties() {
        let cause = |kind: &str| Cause {
            kind: kind.to_owned(),
            message: format!("the message of {kind}"),
            trace: Some(format!("the trace of {kind}")),
        };
        let failure = Failure {
            details: Some(Json::from_text(
                r#"{"code":"E1","innerFailures":[{},{"isNonRetriable":true,"properties":{"at":"x"}}]}"#,
            )),
            trace: Some("a trace".to_owned()),
            causes: vec![cause("Near"), cause("Far")],
            ..Failure::retryable("Declined", "no money")
        };
        let told = to_wire(&failure);
        assert_eq!(told.error_type, "Declined");
        assert_eq!(told.error_message, "no money");
        assert_eq!(told.stack_trace.as_deref(), Some("a trace"));
        assert!(!told.is_non_retriable);
        assert_eq!(told.properties.len(), 1);
        assert_eq!(told.properties["code"], text("E1"));
        let near = told.inner_failure.unwrap();
        assert_eq!(near.error_type, "Near");
        assert!(!near.is_non_retriable && near.properties.is_empty());
        let far = near.inner_failure.unwrap();
        assert_eq!(far.error_message, "the message of Far");
        assert!(far.is_non_retriable && far.inner_failure.is_none());
        assert_eq!(far.properties["at"], text("x"));
    }

    #[test]
    fn details_that_are_no_object_are_one_property() {
        let failure = Failure {
            details: Some(Json::from_text("[1,null]")),
            ..Failure::permanent("a", "b")
        };
        let told = to_wire(&failure);
        assert!(told.is_non_retriable);
        assert!(matches!(
            told.properties["details"].kind,
            Some(Kind::ListValue(_))
        ));
    }
}
