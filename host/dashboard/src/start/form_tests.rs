use serde_json::json;

use super::*;
use crate::start::schema::form_of;

fn sent(pairs: &[(&str, &str)]) -> Fields {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(pairs);
    Fields::parse(text.finish().as_bytes())
}

/// As `schemars` makes it of structs and enums.
fn order() -> Member {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Order",
        "type": "object",
        "properties": {
            "customer": { "type": "string", "minLength": 1, "description": "Who pays" },
            "note": { "type": ["string", "null"] },
            "cents": { "type": "integer", "format": "uint64", "minimum": 0 },
            "weight": { "type": "number", "default": 1.5 },
            "gift": { "type": "boolean" },
            "fast": { "type": ["boolean", "null"] },
            "size": { "$ref": "#/$defs/Size" },
            "tags": { "type": "array", "items": { "type": "string" } },
            "counts": { "type": ["array", "null"], "items": { "type": "integer" } },
            "address": { "anyOf": [{ "$ref": "#/$defs/Address" }, { "type": "null" }] },
            "rest": { "type": "array", "items": { "type": "object" } },
        },
        "required": ["customer", "cents", "gift", "size", "tags"],
        "$defs": {
            "Size": { "oneOf": [{ "type": "string", "const": "small", "description": "up to 1 kg" }, { "enum": ["large"] }] },
            "Address": {
                "type": "object",
                "properties": { "street/no": { "type": "string" }, "zip": { "type": "string", "minLength": 2 } },
                "required": ["street/no", "zip"],
            },
        },
    });
    form_of(&schema).unwrap()
}

#[test]
fn fields_become_the_json_of_their_schema() {
    let all = sent(&[
        ("in:/customer", "Ann"),
        ("in:/note", "two\r\nlines"),
        ("in:/cents", " 18446744073709551615 "),
        ("in:/weight", "-2.5e3"),
        ("in:/gift", "true"),
        ("in:/fast", "false"),
        ("in:/size", "\"large\""),
        ("in:/tags", "a\r\n\r\nb c"),
        ("in:/counts", "1\n-2"),
        ("in:/address/street~1no", "Road 1"),
        ("in:/address/zip", "10"),
        ("in:/rest", r#"[{"a":1}]"#),
    ]);
    let expected = json!({
        "customer": "Ann", "note": "two\nlines", "cents": u64::MAX, "weight": -2500.0, "gift": true, "fast": false, "size": "large",
        "tags": ["a", "b c"], "counts": [1, -2], "address": { "street/no": "Road 1", "zip": "10" }, "rest": [{ "a": 1 }],
    });
    assert_eq!(read(&order(), &all).unwrap(), Some(expected));
}

#[test]
fn what_may_lack_is_left_out() {
    let least = sent(&[
        ("in:/customer", "Ann"),
        ("in:/cents", "0"),
        ("in:/size", "\"small\""),
        ("in:/note", ""),
        ("in:/address/zip", ""),
    ]);
    let expected =
        json!({ "customer": "Ann", "cents": 0, "gift": false, "size": "small", "tags": [] });
    assert_eq!(read(&order(), &least).unwrap(), Some(expected));
}

#[test]
fn what_does_not_fit_is_said_with_its_place() {
    let with = |name: &str, value: &str| {
        let fine = [
            ("in:/customer", "Ann"),
            ("in:/cents", "0"),
            ("in:/size", "\"small\""),
        ];
        let mut pairs: Vec<_> = fine
            .into_iter()
            .filter(|(known, _)| *known != name)
            .collect();
        pairs.push((name, value));
        read(&order(), &sent(&pairs)).unwrap_err()
    };
    for (name, value, said) in [
        (
            "in:/customer",
            "",
            "customer: it needs at least 1 characters, and has 0",
        ),
        ("in:/cents", "", "cents: it is needed"),
        (
            "in:/cents",
            "1.5",
            "cents: \"1.5\" is no whole number of at most 64 bits",
        ),
        (
            "in:/cents",
            "18446744073709551616",
            "cents: \"18446744073709551616\" is no whole",
        ),
        (
            "in:/weight",
            "NaN",
            "weight: \"NaN\" is no number; write it like -1.5",
        ),
        (
            "in:/fast",
            "maybe",
            "fast: \"maybe\" is neither true nor false",
        ),
        (
            "in:/size",
            "\"huge\"",
            "size: \"\\\"huge\\\"\" is none of the choices",
        ),
        (
            "in:/counts",
            "1\nx",
            "counts: line 2: \"x\" is no whole number",
        ),
        (
            "in:/address/street~1no",
            "Road",
            "address › zip: it needs at least 2 characters",
        ),
        (
            "in:/rest",
            "[1,",
            "rest: this is not JSON: EOF while parsing",
        ),
    ] {
        let problem = with(name, value);
        assert!(problem.starts_with(said), "{problem}");
    }
}

#[test]
fn an_input_may_be_a_single_value_or_none() {
    let one = form_of(&json!({ "type": "integer" })).unwrap();
    assert_eq!(read(&one, &sent(&[("in:", "7")])).unwrap(), Some(json!(7)));
    assert_eq!(
        read(&one, &sent(&[])).unwrap_err(),
        "the input: it is needed"
    );
    let maybe = form_of(
        &json!({ "anyOf": [{ "$ref": "#/$defs/A" }, { "type": "null" }],
        "$defs": { "A": { "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] } } }),
    );
    let maybe = maybe.unwrap();
    assert_eq!(read(&maybe, &sent(&[])).unwrap(), None);
    assert_eq!(
        read(&maybe, &sent(&[("in:/n", "1")])).unwrap(),
        Some(json!({ "n": 1 }))
    );
    assert!(!fields(&maybe, None).into_string().contains("required"));
}

#[test]
fn what_a_form_cannot_ask_is_typed_as_json() {
    for schema in [
        json!(true),
        json!({}),
        json!({ "type": "object" }),
        json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        json!({ "oneOf": [{ "type": "object", "properties": { "a": {} } }, { "type": "string" }] }),
        json!({ "$ref": "#" }),
        json!({ "$ref": "#/nowhere" }),
        json!({ "$ref": "https://example.com/schema" }),
        json!({ "type": "array", "items": { "type": ["string", "null"] } }),
        json!({ "enum": [{ "a": 1 }] }),
    ] {
        assert_eq!(form_of(&schema), None, "{schema}");
    }
}

#[test]
fn a_schema_that_is_endless_or_huge_makes_a_small_form() {
    let endless = json!({ "type": "object", "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } } });
    let shown = fields(&form_of(&endless).unwrap(), None).into_string();
    assert!(shown.len() < 300_000, "{}", shown.len());
    let all = (0..50_000)
        .map(|at| (format!("p{at}"), json!({ "type": "string" })))
        .collect::<Map<_, _>>();
    let wide =
        json!({ "type": "object", "properties": { "a": { "type": "object", "properties": all } } });
    let shown = fields(&form_of(&wide).unwrap(), None).into_string();
    assert!(
        shown.contains("data-json") && shown.len() < 2_000,
        "{}",
        shown.len()
    );
}

#[test]
fn nothing_in_a_schema_is_markup() {
    let evil = "\"><script>alert(1)</script>";
    let schema = json!({ "type": "object", "properties": {
        evil: { "type": "string", "title": evil, "description": evil, "default": evil },
        "c": { "oneOf": [{ "const": evil, "description": evil }] },
    } });
    let shown = fields(&form_of(&schema).unwrap(), None).into_string();
    assert!(!shown.contains("<script"), "{shown}");
}

#[test]
fn what_was_sent_is_shown_again() {
    let text = sent(&[
        ("in:/customer", "\nAnn <b>"),
        ("in:/size", "\"large\""),
        ("in:/gift", "true"),
    ]);
    let shown = fields(&order(), Some(&text)).into_string();
    for part in [
        "\nAnn &lt;b&gt;</textarea>",
        "value=\"&quot;large&quot;\" selected",
        "value=\"true\" checked",
    ] {
        assert!(shown.contains(part), "{part} {shown}");
    }
    assert!(
        fields(&order(), None)
            .into_string()
            .contains("value=\"1.5\"")
    );
}

#[test]
fn an_input_fills_the_fields_that_make_it() {
    let input = json!({
        "customer": "Ann", "note": "two\nlines", "cents": 3, "gift": true, "size": "large", "tags": ["a", "b c"],
        "address": { "street/no": "Road 1", "zip": "10" }, "rest": [{ "a": 1 }],
    });
    let filled = filled(&order(), &input.to_string()).unwrap();
    let fields = filled.into_iter().collect();
    assert_eq!(read(&order(), &fields), Ok(Some(input)));
    // What the form has no field for, it must not lose.
    let more = json!({ "customer": "Ann", "cents": 3, "gift": false, "size": "large", "tags": [], "more": 1 });
    assert_eq!(super::filled(&order(), &more.to_string()), None);
    assert_eq!(super::filled(&order(), "no json"), None);
}
