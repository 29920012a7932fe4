//! The text of doc comments.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// The first paragraph of a doc comment, on one line.
pub(crate) fn first_paragraph(attributes: &[Attribute]) -> Option<String> {
    let mut words = Vec::new();
    let texts: Vec<String> = attributes.iter().filter_map(doc_text).collect();
    // A `/** */` comment is one text of several lines.
    for line in texts.iter().flat_map(|text| text.lines()) {
        let line = line.trim();
        let line = line.strip_prefix('*').unwrap_or(line).trim_start();
        match (line.is_empty(), words.is_empty()) {
            (true, true) => {}
            (true, false) => break,
            (false, _) => words.push(line.to_owned()),
        }
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// The text of `#[doc = "..."]`, which is what `/// ...` stands for.
fn doc_text(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    let Expr::Lit(ExprLit {
        lit: Lit::Str(text),
        ..
    }) = &pair.value
    else {
        return None;
    };
    // An empty line has no lines of its own.
    let text = text.value();
    pair.path.is_ident("doc").then(|| {
        if text.is_empty() {
            "\n".to_owned()
        } else {
            text
        }
    })
}
