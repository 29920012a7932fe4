//! The fields of a form for an input, and the JSON that they make.
//!
//! Invariant: what [`fields`] writes, [`read`] reads: a field is named by the JSON pointer of its value, after a prefix that no other field
//! of the page begins with. A value is never guessed: a text that does not fit its field is refused with the name of the field.

use maud::{Markup, html};
use serde_json::{Map, Number, Value};

use super::schema::{Member, Scalar, Shape};
use crate::fields::Fields;
use crate::link;
use crate::show::cut;

/// What the names of these fields begin with.
const PREFIX: &str = "in:";

/// The fields of a form, filled with what was sent before.
pub(crate) fn fields(member: &Member, sent: Option<&Fields>) -> Markup {
    part(member, "", sent, true)
}

/// `surely` says that the object which has this part cannot be left out.
fn part(member: &Member, path: &str, sent: Option<&Fields>, surely: bool) -> Markup {
    let Shape::Object(members) = &member.shape else {
        return field(member, path, sent, surely);
    };
    let surely = surely && may_not_lack(member);
    let inner = html! {
        @for member in members { (part(member, &below(path, &member.name), sent, surely)) }
    };
    if path.is_empty() {
        return html! { (described(member, None)) (inner) };
    }
    html! {
        fieldset {
            legend { (member.title) (optional(member)) }
            (described(member, None))
            @if !may_not_lack(member) { p.hint { "Leave all of it empty to leave it out." } }
            (inner)
        }
    }
}

fn field(member: &Member, path: &str, sent: Option<&Fields>, surely: bool) -> Markup {
    let name = format!("{PREFIX}{path}");
    // Without the spaces that a name may have.
    let id = format!("{PREFIX}{}", link::part(path));
    let hint = format!("{id}:hint");
    // A default within an object that may be left out would keep it in.
    let default = member.default.as_ref().filter(|_| surely);
    let before = match sent {
        Some(sent) => raw(sent, &name).unwrap_or_default().to_owned(),
        None => default.map_or(String::new(), |default| as_typed(default, &member.shape)),
    };
    let must = may_not_lack(member);
    let ask = Ask {
        id: &id,
        name: &name,
        hint: member.description.as_ref().map(|_| hint.as_str()),
        before: &before,
        must: must && surely,
    };
    let title = if member.title.is_empty() {
        "Input"
    } else {
        &member.title
    };
    html! {
        div.field {
            @if let (Shape::One(Scalar::Bool), true) = (&member.shape, must) {
                label.inline {
                    input type="checkbox" name=(name) value="true" checked[before == "true"] aria-describedby=[ask.hint];
                    (title)
                }
            } @else {
                label for=(id) { (title) (optional(member)) (kind(&member.shape)) }
                (ask.control(&member.shape))
            }
            (described(member, Some(&hint)))
        }
    }
}

/// What a control of a form has.
struct Ask<'a> {
    id: &'a str,
    name: &'a str,
    hint: Option<&'a str>,
    before: &'a str,
    must: bool,
}

impl Ask<'_> {
    fn control(&self, shape: &Shape) -> Markup {
        let Self {
            id,
            name,
            hint,
            before,
            must,
        } = *self;
        match shape {
            Shape::One(Scalar::Text { .. }) => html! {
                textarea.line id=(id) name=(name) rows="1" aria-describedby=[hint] { "\n" (before) }
            },
            Shape::One(Scalar::Whole) => html! {
                input id=(id) name=(name) value=(before) required[must] aria-describedby=[hint] inputmode="numeric"
                    pattern="\\s*-?[0-9]+\\s*" title="A whole number" autocomplete="off";
            },
            Shape::One(Scalar::Number) => html! {
                input id=(id) name=(name) value=(before) required[must] aria-describedby=[hint] inputmode="decimal"
                    title="A number, such as -1.5" autocomplete="off";
            },
            Shape::One(Scalar::Bool) => {
                let choices = [("true", "true"), ("false", "false")];
                self.choice(
                    choices
                        .iter()
                        .map(|(value, text)| ((*value).to_owned(), (*text).to_owned())),
                )
            }
            Shape::One(Scalar::Choice(values)) => {
                self.choice(values.iter().map(|(value, said)| {
                    let shown = shown(value);
                    let text = match said {
                        Some(said) => format!("{shown}: {said}"),
                        None => shown,
                    };
                    (value.to_string(), text)
                }))
            }
            Shape::List(_) => html! {
                textarea id=(id) name=(name) rows="4" aria-describedby=[hint] spellcheck="false" { "\n" (before) }
            },
            Shape::Json | Shape::Object(_) => html! {
                textarea id=(id) name=(name) rows="4" data-json aria-describedby=[hint] spellcheck="false" { "\n" (before) }
            },
        }
    }

    fn choice(&self, values: impl Iterator<Item = (String, String)>) -> Markup {
        html! {
            select id=(self.id) name=(self.name) required[self.must] aria-describedby=[self.hint] {
                option value="" { @if self.must { "Choose" } @else { "Leave it out" } }
                @for (value, text) in values { option value=(value) selected[value == self.before] { (text) } }
            }
        }
    }
}

fn described(member: &Member, id: Option<&str>) -> Markup {
    html! { @if let Some(text) = &member.description { p.hint id=[id] { (text) } } }
}

fn optional(member: &Member) -> Markup {
    html! { @if !may_not_lack(member) { span.none { " (optional)" } } }
}

fn kind(shape: &Shape) -> Markup {
    let text = match shape {
        Shape::List(Scalar::Whole) => " – whole numbers, one in each line",
        Shape::List(Scalar::Number) => " – numbers, one in each line",
        Shape::List(_) => " – one in each line",
        Shape::Json => " – as JSON",
        _ => return html! {},
    };
    html! { span.none { (text) } }
}

fn may_not_lack(member: &Member) -> bool {
    member.required && !member.nullable
}

fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn raw<'a>(sent: &'a Fields, name: &str) -> Option<&'a str> {
    let found = sent.pairs().find(|(known, _)| *known == name);
    found.map(|(_, value)| value)
}

/// A value as it would be typed in its field.
fn as_typed(value: &Value, shape: &Shape) -> String {
    match (value, shape) {
        (Value::Null, _) => String::new(),
        (value, Shape::One(Scalar::Choice(_))) => value.to_string(),
        (Value::String(text), Shape::One(_)) => text.clone(),
        (Value::Array(items), Shape::List(_)) => {
            items.iter().map(shown).collect::<Vec<_>>().join("\n")
        }
        (value, Shape::Json | Shape::Object(_)) => {
            serde_json::to_string_pretty(value).unwrap_or_default()
        }
        (value, _) => value.to_string(),
    }
}

/// A value for people: a text without its quotes.
fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The fields that make this input, given as JSON; `None` if no fields of the form make it.
pub(crate) fn filled(member: &Member, input: &str) -> Option<Vec<(String, String)>> {
    let input: Value = serde_json::from_str(input).ok()?;
    let mut pairs = Vec::new();
    fill(member, "", &input, &mut pairs);
    let made = read(member, &pairs.iter().cloned().collect());
    (made == Ok(Some(input))).then_some(pairs)
}

fn fill(member: &Member, path: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match (&member.shape, value) {
        (_, Value::Null) => {}
        (Shape::Object(members), Value::Object(object)) => {
            for member in members {
                if let Some(value) = object.get(&member.name) {
                    fill(member, &below(path, &member.name), value, pairs);
                }
            }
        }
        (shape, value) => pairs.push((format!("{PREFIX}{path}"), as_typed(value, shape))),
    }
}

/// The input that the fields of a form make; `None` if there is none.
///
/// # Errors
/// The first field that is missing or does not fit, and why.
pub(crate) fn read(member: &Member, sent: &Fields) -> Result<Option<Value>, String> {
    value(member, "", sent)
}

fn value(member: &Member, path: &str, sent: &Fields) -> Result<Option<Value>, String> {
    let found = match &member.shape {
        Shape::Object(members) => object(member, members, path, sent)?,
        shape => {
            let name = format!("{PREFIX}{path}");
            let text = raw(sent, &name).unwrap_or_default();
            let found = match shape {
                Shape::One(scalar) => one(scalar, text, may_not_lack(member)),
                Shape::List(scalar) => list(scalar, text),
                _ => json(text),
            };
            found.map_err(|problem| format!("{}: {problem}", place(path)))?
        }
    };
    match found {
        Some(value) => Ok(Some(value)),
        None if !member.required => Ok(None),
        // As a whole, an input that may be `null` may also be missing.
        None if member.nullable => Ok((!path.is_empty()).then_some(Value::Null)),
        None => match &member.shape {
            Shape::List(_) => Ok(Some(Value::Array(Vec::new()))),
            _ => Err(format!("{}: it is needed", place(path))),
        },
    }
}

/// How a field is named to people.
fn place(path: &str) -> String {
    match path.strip_prefix('/') {
        Some(path) => path
            .replace('/', " › ")
            .replace("~1", "/")
            .replace("~0", "~"),
        None => "the input".to_owned(),
    }
}

fn object(
    member: &Member,
    members: &[Member],
    path: &str,
    sent: &Fields,
) -> Result<Option<Value>, String> {
    if !may_not_lack(member) && !is_filled(members, path, sent) {
        return Ok(None);
    }
    let mut object = Map::new();
    for member in members {
        if let Some(value) = value(member, &below(path, &member.name), sent)? {
            object.insert(member.name.clone(), value);
        }
    }
    Ok(Some(Value::Object(object)))
}

/// Whether a field of these objects has a text.
fn is_filled(members: &[Member], path: &str, sent: &Fields) -> bool {
    members.iter().any(|member| {
        let path = below(path, &member.name);
        match &member.shape {
            Shape::Object(members) => is_filled(members, &path, sent),
            _ => raw(sent, &format!("{PREFIX}{path}")).is_some_and(|text| !text.is_empty()),
        }
    })
}

fn one(scalar: &Scalar, text: &str, must: bool) -> Result<Option<Value>, String> {
    let trimmed = text.trim();
    match scalar {
        // Browsers send line breaks as two characters.
        Scalar::Text { least } => {
            let text = text.replace("\r\n", "\n");
            let chars = text.chars().count() as u64;
            match (text.is_empty(), must) {
                (true, false) => Ok(None),
                _ if chars < *least => Err(format!(
                    "it needs at least {least} characters, and has {chars}"
                )),
                _ => Ok(Some(Value::String(text))),
            }
        }
        // A box that is not ticked sends nothing.
        Scalar::Bool if must && trimmed.is_empty() => Ok(Some(Value::Bool(false))),
        _ if trimmed.is_empty() => Ok(None),
        scalar => of_text(scalar, trimmed).map(Some),
    }
}

/// A value from a text that is not empty.
fn of_text(scalar: &Scalar, text: &str) -> Result<Value, String> {
    let short = cut(text, 100);
    match scalar {
        Scalar::Text { .. } => Ok(Value::String(text.to_owned())),
        Scalar::Whole => {
            let number = text.parse::<i64>().map(Number::from);
            let number = number.or_else(|_| text.parse::<u64>().map(Number::from));
            let number =
                number.map_err(|_| format!("{short:?} is no whole number of at most 64 bits"))?;
            Ok(Value::Number(number))
        }
        Scalar::Number => serde_json::from_str::<Number>(text)
            .map(Value::Number)
            .map_err(|_| format!("{short:?} is no number; write it like -1.5")),
        Scalar::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(format!("{short:?} is neither true nor false")),
        },
        Scalar::Choice(values) => {
            let mut known = values.iter().map(|(value, _)| value);
            // Where it is one of several lines, a text has no quotes.
            let found = known.find(|value| {
                [value.to_string(), shown(value)]
                    .iter()
                    .any(|one| one == text)
            });
            found
                .cloned()
                .ok_or_else(|| format!("{short:?} is none of the choices"))
        }
    }
}

fn list(scalar: &Scalar, text: &str) -> Result<Option<Value>, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let items = lines.enumerate().map(|(at, line)| {
        let line = if matches!(scalar, Scalar::Text { .. }) {
            line
        } else {
            line.trim()
        };
        of_text(scalar, line).map_err(|problem| format!("line {}: {problem}", at + 1))
    });
    let items = items.collect::<Result<Vec<_>, _>>()?;
    Ok((!items.is_empty()).then_some(Value::Array(items)))
}

fn json(text: &str) -> Result<Option<Value>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_str(text);
    value
        .map(Some)
        .map_err(|error| format!("this is not JSON: {error}"))
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
