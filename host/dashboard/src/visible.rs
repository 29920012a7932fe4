//! Characters that nobody sees, or that turn around the order of what is read, written out in what a page shows: `\u{202e}`.
//!
//! Invariant: it is done once, to the whole document, so that no text of a hub can be forgotten. What a browser sends back or copies stays as
//! it is: values of fields, the text of text areas, and paths.

use perennial::core::text::{is_unseen, visible_lines};

/// Attributes that people read.
const READ: [&str; 3] = ["title", "aria-label", "placeholder"];

/// A document in which no text has a character that is not seen.
pub(crate) fn document(html: String) -> String {
    if !html.chars().any(|c| c != '\n' && c != '\t' && is_unseen(c)) {
        return html;
    }
    let mut out = String::with_capacity(html.len() + 256);
    let (mut rest, mut in_field) = (html.as_str(), false);
    // Maud writes `<`, `>` and `"` of texts and values as entities, so that these signs are always markup.
    while let Some(at) = rest.find('<') {
        push(&mut out, &rest[..at], !in_field);
        let end = rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
        let tag = &rest[at..end];
        if tag.starts_with("<textarea") {
            in_field = true;
        } else if tag.starts_with("</textarea") {
            in_field = false;
        }
        push_tag(&mut out, tag);
        rest = &rest[end..];
    }
    push(&mut out, rest, true);
    out
}

fn push(out: &mut String, text: &str, is_read: bool) {
    match is_read {
        true => out.push_str(&visible_lines(text)),
        false => out.push_str(text),
    }
}

/// A tag, of whose attributes those are changed that people read. Parts with an odd place are values.
fn push_tag(out: &mut String, tag: &str) {
    let mut is_read = false;
    for (at, part) in tag.split('"').enumerate() {
        if at > 0 {
            out.push('"');
        }
        if at.is_multiple_of(2) {
            let name = part.trim_end_matches('=').rsplit(' ').next();
            is_read = name.is_some_and(|name| READ.contains(&name));
            out.push_str(part);
        } else {
            push(out, part, is_read);
        }
    }
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::*;

    /// Texts that would be read as something else, or not at all.
    const HOSTILE: [&str; 6] = [
        "\u{202e}gnp.exe",
        "a\u{200b}b",
        "\u{2066}x\u{2069}",
        "\u{1b}[2J",
        "\u{feff}",
        "a>\u{202e}\"b<",
    ];

    #[test]
    fn what_is_read_is_written_out_and_what_is_sent_back_is_not() {
        for text in HOSTILE {
            let page = html! {
                p title=(text) aria-label=(text) class="a>b" { (text) " \n" }
                input name="id" value=(text);
                button data-copy=(text) { (text) }
                textarea { (text) }
                svg { text { (text) } }
            };
            let shown = document(page.into_string());
            let hidden = |html: &str| {
                let unseen = html.chars().filter(|c| *c != '\n' && is_unseen(*c));
                unseen.count()
            };
            // Only the three that are sent back or copied.
            assert_eq!(hidden(&shown), 3 * hidden(text), "{shown:?}");
            assert_eq!(shown.matches("\\u{").count(), 5 * hidden(text), "{shown:?}");
            let field = shown.split("<textarea>").nth(1).unwrap();
            assert!(hidden(field.split("</textarea>").next().unwrap()) == hidden(text));
        }
    }

    #[test]
    fn a_page_without_such_characters_stays_as_it_is() {
        let page = "<p title=\"é\">1\u{202f}000 日本 👍\n\t</p>".to_owned();
        assert_eq!(document(page.clone()), page);
    }
}
