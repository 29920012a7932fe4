//! What a form for the input of an orchestration asks, from the JSON Schema of that input.
//!
//! A schema is written by the author of a module and may be hostile: wide, deep, or referring to itself. Invariant: a shape has at most
//! [`MEMBERS`] fields and [`DEPTH`] levels. What a form cannot ask, such as a union of objects, is a [`Shape::Json`],
//! which is typed as JSON.

use std::collections::HashSet;

use perennial::{Client, DefinitionKind};
use serde_json::{Map, Value};

use crate::show::cut;

/// Fields of one form.
const MEMBERS: usize = 200;

/// Objects within objects, and references that lead to references.
const DEPTH: usize = 8;

/// Values of one choice.
const CHOICES: usize = 200;

/// Characters of a description that are shown.
const DESCRIPTION: usize = 500;

/// A field, or a group of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    /// Its name in the object that it belongs to; empty for the whole input.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    /// Whether the object must have it.
    pub(crate) required: bool,
    /// Whether `null` may stand for it.
    pub(crate) nullable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) shape: Shape,
}

/// What kind of value a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Object(Vec<Member>),
    One(Scalar),
    /// A list of values, one in each line.
    List(Scalar),
    /// Anything, typed as JSON.
    Json,
}

/// A value without parts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Text {
        /// The least number of characters.
        least: u64,
    },
    Whole,
    Number,
    Bool,
    /// One of these values, each with what is said of it.
    Choice(Vec<(Value, Option<String>)>),
}

/// The JSON Schema of the input of a deployed orchestration, if its module has one.
pub(crate) async fn schema_of(client: &Client, name: &str) -> perennial::Result<Option<Value>> {
    let modules = client.modules().await?;
    let mut definitions = modules.iter().flat_map(|module| &module.definitions);
    let found = definitions.find(|definition| {
        definition.kind == DefinitionKind::Orchestration && definition.name == name
    });
    let text = found.and_then(|definition| definition.input_schema.as_deref());
    // The host takes only schemas that are JSON.
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}

/// The form for a schema; `None` if all of it would be one field for JSON.
pub(crate) fn form_of(schema: &Value) -> Option<Member> {
    let mut reading = Reading {
        root: schema,
        left: MEMBERS,
    };
    let whole = reading.member("", schema, true, 0);
    match &whole.shape {
        Shape::Json => None,
        Shape::Object(members) if members.is_empty() => None,
        _ => Some(whole),
    }
}

struct Reading<'a> {
    root: &'a Value,
    /// Fields that the form may still have.
    left: usize,
}

impl<'a> Reading<'a> {
    fn member(&mut self, name: &str, schema: &'a Value, required: bool, depth: usize) -> Member {
        let (found, nullable) = self.found(schema);
        let text = |key: &str| {
            // What stands beside a reference is about this field; what it refers to is about all of its kind.
            let value = schema.get(key).or_else(|| found.get(key));
            value.and_then(Value::as_str)
        };
        let description = text("description").map(|text| cut(text, DESCRIPTION));
        let title = match text("title") {
            // The title of a whole type is its name in the program, which says nothing about a field.
            Some(title) if found.get("properties").is_none() => cut(title, 100),
            _ => name.to_owned(),
        };
        let default = schema.get("default").or_else(|| found.get("default"));
        Member {
            name: name.to_owned(),
            title,
            description,
            required,
            nullable,
            default: default.cloned(),
            shape: self.shape(found, depth),
        }
    }

    /// The schema that another one amounts to, and whether `null` is allowed beside it.
    fn found(&self, schema: &'a Value) -> (&'a Value, bool) {
        let (mut schema, mut nullable) = (schema, false);
        for _ in 0..DEPTH {
            if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
                let Some(target) = to.strip_prefix('#').and_then(|to| self.root.pointer(to)) else {
                    return (&Value::Null, nullable);
                };
                schema = target;
                continue;
            }
            let parts = ["allOf", "anyOf", "oneOf"].iter();
            let parts = parts.filter_map(|key| schema.get(*key)?.as_array()).next();
            let Some(parts) = parts else {
                break;
            };
            let is_null = |part: &&Value| part.get("type").and_then(Value::as_str) == Some("null");
            let mut others = parts.iter().filter(|part| !is_null(part));
            match (others.next(), others.next()) {
                (Some(only), None) if schema.get("properties").is_none() => {
                    nullable |= parts.len() > 1;
                    schema = only;
                }
                _ => break,
            }
        }
        let types = schema.get("type").and_then(Value::as_array);
        let null_in_types = types.is_some_and(|types| types.iter().any(|kind| kind == "null"));
        let values = schema.get("enum").and_then(Value::as_array);
        let null_in_values = values.is_some_and(|values| values.contains(&Value::Null));
        (schema, nullable || null_in_types || null_in_values)
    }

    fn shape(&mut self, schema: &'a Value, depth: usize) -> Shape {
        match (type_of(schema), schema.get("properties")) {
            // Other parts of the schema could ask for more than a form of these fields.
            (Some("object"), Some(Value::Object(properties)))
                if depth < DEPTH && schema.get("oneOf").or(schema.get("anyOf")).is_none() =>
            {
                self.object(schema, properties, depth)
            }
            (Some("array"), _) => match schema.get("items").map(|items| self.found(items)) {
                Some((items, false)) => scalar(items).map_or(Shape::Json, Shape::List),
                _ => Shape::Json,
            },
            _ => scalar(schema).map_or(Shape::Json, Shape::One),
        }
    }

    fn object(&mut self, schema: &'a Value, all: &'a Map<String, Value>, depth: usize) -> Shape {
        if all.len() > self.left {
            return Shape::Json;
        }
        self.left -= all.len();
        let required = schema.get("required").and_then(Value::as_array);
        let required: HashSet<&str> = required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let members = all.iter().map(|(name, schema)| {
            self.member(name, schema, required.contains(name.as_str()), depth + 1)
        });
        let mut members: Vec<Member> = members.collect();
        // In a hub they are in the order of the alphabet; what is needed comes first.
        members.sort_by_key(|member| !member.required);
        Shape::Object(members)
    }
}

/// The type of a schema, without `null`. Without one, properties make it an object.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => Some(kind),
        Some(Value::Array(kinds)) => {
            let mut others = kinds
                .iter()
                .filter_map(Value::as_str)
                .filter(|kind| *kind != "null");
            let only = others.next();
            only.filter(|_| others.next().is_none())
        }
        _ => schema.get("properties").map(|_| "object"),
    }
}

fn scalar(schema: &Value) -> Option<Scalar> {
    if let Some(choice) = choice(schema) {
        return Some(choice);
    }
    // A value that must match several schemas, or must not match one, is more than its type.
    if ["oneOf", "anyOf", "allOf", "not"]
        .iter()
        .any(|key| schema.get(key).is_some())
    {
        return None;
    }
    Some(match type_of(schema)? {
        "string" => Scalar::Text {
            least: schema.get("minLength").and_then(Value::as_u64).unwrap_or(0),
        },
        "integer" => Scalar::Whole,
        "number" => Scalar::Number,
        "boolean" => Scalar::Bool,
        _ => return None,
    })
}

/// A choice among values: `enum`, `const`, or `oneOf` with a `const` each, by which a value has a description.
fn choice(schema: &Value) -> Option<Scalar> {
    let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
    let described = |part: &Value| {
        let said = part.get("description").and_then(Value::as_str);
        let said = said.map(|said| cut(said, 100));
        let values = match (part.get("const"), part.get("enum")) {
            (Some(value), _) => vec![value.clone()],
            (None, Some(Value::Array(values))) => values.clone(),
            _ => return None,
        };
        Some(values.into_iter().map(move |value| (value, said.clone())))
    };
    let values: Vec<(Value, Option<String>)> =
        match schema.get("oneOf").or_else(|| schema.get("anyOf")) {
            Some(Value::Array(parts)) => {
                let parts: Option<Vec<_>> = parts.iter().map(described).collect();
                parts?.into_iter().flatten().collect()
            }
            _ => {
                let values = described(schema)?;
                values.map(|(value, _)| (value, None)).collect()
            }
        };
    let values: Vec<_> = values
        .into_iter()
        .filter(|(value, _)| !value.is_null())
        .collect();
    let fits = !values.is_empty() && values.len() <= CHOICES;
    (fits && values.iter().all(|(value, _)| is_scalar(value))).then_some(Scalar::Choice(values))
}
