//! What is printed: tables and blocks for people, JSON for programs, and colours only for a terminal.
//!
//! Law: this module prints no raw text. Names, messages, reasons and payloads come from modules and from callers of the HTTP API, and may
//! contain control sequences. So every text is escaped as [`paint`](crate::paint) does it, and only this module moves the cursor or adds
//! colours.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use comfy_table::{
    Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width,
    presets,
};
use perennial::{Json, Status, Timestamp};
use perennial_core::text::{visible, visible_json};
use serde::Serialize;

use crate::format::{ago, now, time};
use crate::hints;
use crate::paint::{painted, written_out};
use crate::screen;

/// Columns of a terminal whose size is unknown.
const WIDTH_UNKNOWN: u16 = 80;

/// Spaces between two columns.
const GAP: u16 = 2;

/// A table leaves its last column out rather than make it narrower.
const LAST_COLUMN_MIN: u16 = 12;

/// The other columns are cut to no less than this.
const COLUMN_MIN: u16 = 6;

/// How many columns a line may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// No limit: a file or another program gets whole lines.
    All,
    /// Longer lines are cut.
    At(u16),
}

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    terminal: bool,
    colors: bool,
    /// The value of `--width`, which overrides the terminal's.
    columns: Option<Columns>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool, columns: Option<Columns>) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json,
            quiet,
            terminal,
            colors: terminal && wants_colors(),
            columns,
        }
    }

    /// Whether data is printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only errors are printed on stderr.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Columns of a line, read at each call: the window may have been resized.
    pub(crate) fn columns(&self) -> Columns {
        let of_terminal = || match self.terminal {
            true => Columns::At(size().map_or(WIDTH_UNKNOWN, |(columns, _)| columns)),
            false => Columns::All,
        };
        self.columns.unwrap_or_else(of_terminal)
    }

    /// Lines of the terminal; `None` without one, or if it does not report its size.
    pub(crate) fn lines(&self) -> Option<u16> {
        size().map(|(_, lines)| lines).filter(|_| self.terminal)
    }

    /// A text for a table cell: one line, cut if lines are.
    pub(crate) fn cell(&self, text: &str) -> String {
        match self.columns() {
            Columns::All => whole(text),
            Columns::At(_) => plain(text),
        }
    }

    /// A time: relative on a terminal, elsewhere to the second in UTC.
    pub(crate) fn when(&self, at: Timestamp) -> String {
        if self.terminal {
            ago(at, now())
        } else {
            time(at)
        }
    }

    /// The head of a column of [`when`](Self::when).
    pub(crate) fn when_head(&self, what: &str) -> String {
        if self.terminal {
            what.to_owned()
        } else {
            format!("{what} (UTC)")
        }
    }

    /// Prints a line of data, or several.
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        raw(&[&written_out(text), "\n"])
    }

    /// Prints a payload: the same JSON value, with control characters escaped.
    pub(crate) fn payload(&self, json: &Json) -> anyhow::Result<()> {
        self.json_text(json.as_str())
    }

    /// Prints a text that is JSON.
    pub(crate) fn json_text(&self, json: &str) -> anyhow::Result<()> {
        raw(&[&visible_json(json), "\n"])
    }

    /// Moves a terminal's cursor home and clears what is below it.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        raw(&["\u{1b}[H\u{1b}[J"])
    }

    /// Prints data as JSON: indented on a terminal, otherwise in one line.
    pub(crate) fn json<T: Serialize + ?Sized>(&self, data: &T) -> anyhow::Result<()> {
        let text = if self.terminal {
            serde_json::to_string_pretty(data)
        } else {
            serde_json::to_string(data)
        };
        self.json_text(&text.context("could not write the answer as JSON")?)
    }

    /// Prints a list as [`json`](Self::json) would, one item at a time.
    pub(crate) fn json_list(&self) -> JsonList<'_> {
        JsonList {
            output: self,
            text: String::new(),
            is_empty: true,
        }
    }

    /// Prints a note on stderr, unless `--quiet` is given.
    pub(crate) fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        let text = hints::typed(text);
        match self.json {
            true => say_json(&serde_json::json!({ "note": text }).to_string()),
            false => say(&text),
        }
    }

    /// A table without lines, cut to the width of the terminal: the last column gives way first, and is left out where it has no room at
    /// all; then the widest of the others.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<Cell>>) -> anyhow::Result<()> {
        let columns = match self.columns() {
            Columns::All => return self.whole_table(header, &rows),
            Columns::At(columns) => columns,
        };
        let mut count = header.len();
        let mut table = table_of(header, &rows, count);
        let mut widths = table.column_max_content_widths();
        let with_gaps = |widths: &[u16]| -> u16 {
            let gaps = GAP.saturating_mul(u16::try_from(widths.len()).unwrap_or(u16::MAX));
            widths
                .iter()
                .fold(gaps, |all, width| all.saturating_add(*width))
        };
        let room = columns.saturating_sub(with_gaps(&widths[..count - 1]));
        if count > 1 && room < LAST_COLUMN_MIN.min(widths[count - 1]) {
            count -= 1;
            table = table_of(header, &rows, count);
            widths.truncate(count);
            shrink(&mut widths, columns);
        } else {
            widths[count - 1] = widths[count - 1].min(room);
        }
        for (i, column) in table.column_iter_mut().enumerate() {
            let gap = if i + 1 < count { GAP } else { 0 };
            column.set_padding((0, gap));
            // Long texts are cut where the line ends, and not before their last word.
            column.set_delimiter('\u{1}');
            let width = widths[i].saturating_add(gap);
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        }
        self.print(table, columns)
    }

    /// A table without a limit of its width: no cell is cut, and the last column is not padded.
    fn whole_table(&self, header: &[&str], rows: &[Vec<Cell>]) -> anyhow::Result<()> {
        let last = header.len() - 1;
        let mut table = table_of(header, rows, last);
        table.set_content_arrangement(ContentArrangement::Disabled);
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        if !self.colors {
            table.force_no_tty();
        }
        let ends = std::iter::once(header[last].to_owned()).chain(rows.iter().map(|row| {
            let cell = row.get(last);
            cell.map_or_else(String::new, |cell| cell.0.content())
        }));
        let begins: Vec<String> = match last {
            0 => vec![String::new(); rows.len() + 1],
            _ => table.lines().collect(),
        };
        let lines = begins.into_iter().zip(ends);
        let text: Vec<String> = lines
            .map(|(begin, end)| (begin + &end).trim_end().to_owned())
            .collect();
        raw(&[&text.join("\n"), "\n"])
    }

    fn print(&self, mut table: Table, columns: u16) -> anyhow::Result<()> {
        if self.colors {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_width(columns);
        // Its cells were written out when they were made, and the colours are the table's own.
        let text: Vec<String> = table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        raw(&[&text.join("\n"), "\n"])
    }

    /// Prints names and values, a line each; the further lines of a value are aligned with its first.
    pub(crate) fn block(&self, fields: &[(&str, String)]) -> anyhow::Result<()> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = Vec::new();
        for (name, value) in fields {
            for (i, line) in value.lines().enumerate() {
                let name = if i == 0 { *name } else { "" };
                text.push(format!("{}  {line}", self.dim(&format!("{name:width$}"))));
            }
        }
        self.line(&text.join("\n"))
    }

    /// A status, coloured.
    pub(crate) fn status(&self, status: Status) -> String {
        self.paint(ansi(status), status.name())
    }

    /// A less important text, in a dim colour.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// An important text, in bold.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colors {
            painted(code, text)
        } else {
            text.to_owned()
        }
    }
}

/// Writes texts to stdout that are already escaped.
fn raw(parts: &[&str]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut write = || {
        parts
            .iter()
            .try_for_each(|part| stdout.write_all(part.as_bytes()))?;
        stdout.flush()
    };
    written(write())
}

fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        // The reader, such as `head`, has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("could not write to stdout"),
    }
}

/// A JSON array that is printed while its items are read.
pub(crate) struct JsonList<'a> {
    output: &'a Output,
    text: String,
    is_empty: bool,
}

impl JsonList<'_> {
    /// Bytes that are collected before a write.
    const CHUNK: usize = 1 << 16;

    /// Prints the next item.
    pub(crate) fn item<T: Serialize>(&mut self, item: &T) -> anyhow::Result<()> {
        self.text.push(if self.is_empty { '[' } else { ',' });
        self.is_empty = false;
        let item = if self.output.terminal {
            let pretty = serde_json::to_string_pretty(item);
            pretty.map(|text| format!("\n  {}", text.replace('\n', "\n  ")))
        } else {
            serde_json::to_string(item)
        };
        self.text += &item.context("could not write the answer as JSON")?;
        if self.text.len() < Self::CHUNK {
            return Ok(());
        }
        raw(&[&visible_json(&std::mem::take(&mut self.text))])
    }

    /// Ends the list.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.text += match (self.is_empty, self.output.terminal) {
            (true, _) => "[]",
            (false, true) => "\n]",
            (false, false) => "]",
        };
        self.output.json_text(&self.text)
    }
}

/// Columns and lines of the terminal.
fn size() -> Option<(u16, u16)> {
    let (columns, lines) = terminal_size::terminal_size()?;
    // Some that are none say 0.
    (columns.0 > 0).then_some((columns.0, lines.0))
}

/// Cuts the widest columns until all of them fit.
fn shrink(widths: &mut [u16], room: u16) {
    let gaps = usize::from(GAP) * widths.len().saturating_sub(1);
    let all = |widths: &[u16]| {
        widths
            .iter()
            .map(|width| usize::from(*width))
            .sum::<usize>()
            + gaps
    };
    while all(widths) > usize::from(room)
        && let Some(widest) = widths.iter_mut().max()
        && *widest > COLUMN_MIN
    {
        *widest -= 1;
    }
}

/// The first `columns` columns as a table.
fn table_of(header: &[&str], rows: &[Vec<Cell>], columns: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_truncation_indicator("...");
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let bold = |text: &&str| Cell::new(text).0.add_attribute(Attribute::Bold);
    table.set_header(header.iter().take(columns).map(bold).collect::<Vec<_>>());
    for cells in rows {
        let cells = cells.iter().take(columns).map(|cell| cell.0.clone());
        let mut row = Row::from(cells.collect::<Vec<_>>());
        row.max_height(1);
        table.add_row(row);
    }
    table
}

/// A cell of a table: one line, escaped.
#[derive(Clone, Debug)]
pub(crate) struct Cell(comfy_table::Cell);

impl Cell {
    pub(crate) fn new(text: impl ToString) -> Self {
        Self(comfy_table::Cell::new(visible(&text.to_string())))
    }

    /// In a colour.
    pub(crate) fn fg(self, color: Color) -> Self {
        Self(self.0.fg(color))
    }

    /// To one side of its column.
    pub(crate) fn set_alignment(self, alignment: CellAlignment) -> Self {
        Self(self.0.set_alignment(alignment))
    }
}

/// A status in a table.
pub(crate) fn status_cell(status: Status) -> Cell {
    Cell::new(status.name()).fg(match status {
        Status::Pending => Color::DarkGrey,
        Status::Running => Color::Cyan,
        Status::Suspended => Color::Yellow,
        Status::Completed => Color::Green,
        Status::Failed => Color::Red,
        Status::Terminated => Color::Magenta,
    })
}

fn ansi(status: Status) -> &'static str {
    match status {
        Status::Pending => "90",
        Status::Running => "36",
        Status::Suspended => "33",
        Status::Completed => "32",
        Status::Failed => "31",
        Status::Terminated => "35",
    }
}

/// A text in one line, escaped and cut to a few widths of a terminal: comfy-table needs minutes to arrange a cell of a megabyte.
pub(crate) fn plain(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    let end = text.char_indices().nth(CHARS_MAX).map(|(end, _)| end);
    visible(&text[..end.unwrap_or(text.len())]).into_owned()
}

/// A text in one line, escaped and not cut.
fn whole(text: &str) -> String {
    visible(text).into_owned()
}

/// Prints lines on stderr, escaped. Errors of the write are ignored: there is nowhere to report them.
pub(crate) fn say(text: &str) {
    screen::to_stderr(format!("{}\n", written_out(text)).as_bytes());
}

/// Prints a JSON text on stderr, escaped.
pub(crate) fn say_json(json: &str) {
    screen::to_stderr(format!("{}\n", visible_json(json)).as_bytes());
}

/// The label that begins an error message, in red if stderr has colours.
pub(crate) fn paint_error(text: &str) -> String {
    if stderr_has_colors() {
        painted("1;31", text)
    } else {
        text.to_owned()
    }
}

/// Whether texts on stderr get colours.
pub(crate) fn stderr_has_colors() -> bool {
    io::stderr().is_terminal() && wants_colors()
}

fn wants_colors() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !dumb && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_are_cut_and_none_to_nothing() {
        let cut = |widths: [u16; 3], room| {
            let mut widths = widths.to_vec();
            shrink(&mut widths, room);
            widths
        };
        assert_eq!(cut([10, 10, 10], 40), [10, 10, 10]);
        assert_eq!(cut([32, 20, 10], 54), [20, 20, 10]);
        assert_eq!(cut([300, 10, 10], 3), [6, 6, 6]);
    }
}
