//! Downloads of everything that matches: as CSV, as a JSON array, and as JSON lines.
//!
//! Invariants: memory holds one page of what is read; nothing is read for a reader who has gone; a read that fails breaks the download off,
//! so that half a file does not look whole; no cell of a CSV file is a formula.

use std::fmt::Write as _;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use maud::{Markup, html};
use perennial::Error;
use serde::Serialize;

/// Items per piece of an answer, at most.
const PIECE: usize = 100;

/// Something that can be written as a row and as JSON.
pub(crate) trait Exported: Serialize {
    /// The heads of its columns.
    const COLUMNS: &'static [&'static str];

    /// Its cells, one for each column.
    fn cells(&self) -> Vec<String>;
}

/// The form of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Json,
    Lines,
}

impl Format {
    pub(crate) const ALL: [Self; 3] = [Self::Csv, Self::Json, Self::Lines];

    /// The end of the name of a file.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Lines => "jsonl",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
        }
    }

    fn head(self, columns: &[&str]) -> String {
        match self {
            Self::Csv => columns.join(",") + "\r\n",
            Self::Json => "[".to_owned(),
            Self::Lines => String::new(),
        }
    }

    fn tail(self) -> &'static str {
        match self {
            Self::Csv | Self::Lines => "",
            Self::Json => "\n]\n",
        }
    }

    fn write<T: Exported>(
        self,
        text: &mut String,
        item: &T,
        is_first: bool,
    ) -> Result<(), BoxError> {
        if self == Self::Csv {
            for (at, value) in item.cells().iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                cell(text, value);
            }
            text.push_str("\r\n");
            return Ok(());
        }
        let json = serde_json::to_string(item)?;
        if self == Self::Json {
            text.push_str(if is_first { "\n" } else { ",\n" });
            text.push_str(&json);
        } else {
            text.push_str(&json);
            text.push('\n');
        }
        Ok(())
    }
}

/// A download of all items of a stream. `name` may be any text; a file gets its plain characters.
pub(crate) fn download<T: Exported + Send>(
    name: &str,
    format: Format,
    items: impl Stream<Item = Result<T, Error>> + Send + Unpin + 'static,
) -> Response {
    let mut is_first = true;
    let rows = items.ready_chunks(PIECE).map(move |items| {
        let mut text = String::new();
        for item in items {
            format.write(&mut text, &item?, is_first)?;
            is_first = false;
        }
        Ok(Bytes::from(text))
    });
    let head = Ok::<_, BoxError>(Bytes::from(format.head(T::COLUMNS)));
    let tail = Ok(Bytes::from_static(format.tail().as_bytes()));
    let whole = stream::once(async { head }).chain(rows);
    let whole = whole.chain(stream::once(async { tail }));
    file(
        name,
        format.end(),
        format.media_type(),
        Body::from_stream(whole),
    )
}

/// A download of a text that is written elsewhere.
pub(crate) fn text(
    name: &str,
    end: &str,
    media_type: &'static str,
    pieces: impl Stream<Item = Result<String, Error>> + Send + 'static,
) -> Response {
    file(name, end, media_type, Body::from_stream(pieces))
}

fn file(name: &str, end: &str, media_type: &'static str, body: Body) -> Response {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = name.chars().filter(plain).take(100).collect();
    let headers = [
        (header::CONTENT_TYPE, media_type.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.{end}\""),
        ),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, body).into_response()
}

/// Links to each form of a download. `to` is the path of one.
pub(crate) fn links(to: impl Fn(Format) -> String) -> Markup {
    html! {
        @for format in Format::ALL {
            " " a href=(to(format)) download {
                @match format { Format::Csv => "CSV", Format::Json => "JSON", Format::Lines => "JSON lines" }
            }
        }
    }
}

/// Writes a cell. A spreadsheet takes what begins with one of these signs for a formula, which may read other cells or call programs; an
/// apostrophe before it makes it a text.
fn cell(text: &mut String, value: &str) {
    let is_formula = value.trim_start().starts_with(['=', '+', '-', '@'])
        || value.starts_with(['\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    let is_plain = !value.contains(['"', ',', '\r', '\n', ';']) && value.trim() == value;
    // Writing to a string cannot fail.
    let _ = if is_plain {
        write!(text, "{guard}{value}")
    } else {
        write!(text, "\"{guard}{}\"", value.replace('"', "\"\""))
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;

    use super::*;

    #[derive(Serialize)]
    struct Number(usize);

    impl Exported for Number {
        const COLUMNS: &'static [&'static str] = &["number"];

        fn cells(&self) -> Vec<String> {
            vec![self.0.to_string()]
        }
    }

    async fn text_of(format: Format, count: usize) -> String {
        let items = stream::iter((0..count).map(|number| Ok(Number(number))));
        let body = download("x", format, items).into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn each_form_is_whole_with_none_one_and_many_items() {
        for count in [0, 1, 2, 3 * PIECE + 1] {
            let json: Vec<usize> =
                serde_json::from_str(&text_of(Format::Json, count).await).unwrap();
            assert_eq!(json, (0..count).collect::<Vec<_>>());
            assert_eq!(text_of(Format::Lines, count).await.lines().count(), count);
            assert_eq!(text_of(Format::Csv, count).await.lines().count(), count + 1);
        }
    }

    #[tokio::test]
    async fn nothing_is_read_for_a_reader_who_has_gone() {
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let items = stream::repeat_with(move || Ok(Number(count.fetch_add(1, Ordering::Relaxed))));
        let mut body = download("x", Format::Lines, items).into_body();
        for _ in 0..3 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        drop(body);
        assert!(read.load(Ordering::Relaxed) <= 3 * PIECE);
        assert_eq!(Arc::strong_count(&read), 1);
    }

    #[tokio::test]
    async fn a_read_that_fails_breaks_the_download_off() {
        let failed = perennial::parse_json("{").unwrap_err();
        let items = stream::iter([Ok(Number(1)), Err(failed)]);
        let body = download("x", Format::Json, items).into_body();
        assert!(body.collect().await.is_err());
    }

    fn written(value: &str) -> String {
        let mut text = String::new();
        cell(&mut text, value);
        text
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(written("order-1"), "order-1");
        assert_eq!(written(""), "");
        assert_eq!(written("a,b"), "\"a,b\"");
        assert_eq!(written("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(written("two\r\nlines"), "\"two\r\nlines\"");
        assert_eq!(written(" a"), "\" a\"");
    }

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(written("=1+1"), "'=1+1");
        assert_eq!(written("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(written("-2"), "'-2");
        assert_eq!(written("+2,\""), "\"'+2,\"\"\"");
        assert_eq!(written(" =x"), "\"' =x\"");
        assert_eq!(written("\t=x"), "\"'\t=x\"");
    }
}
