//! Checks that a write-ahead log beside a hub belongs to it.
//!
//! SQLite folds any log that lies beside a file into that file: if a copy replaced a hub whose host died, SQLite would mix it with the old
//! hub's log. A log does not name its file, but each transaction of an owner changes one row of the hub, so its page is in the log. The
//! first version of that row in the log must follow the one in the file, and the last must not be older than it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;
use crate::store::sqlite::file::paths::{refuse_special, with_suffix};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The hub's id and the counters in its row: each new owner increments one, and each of its transactions the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    created_at: i64,
    changes: i64,
    secret: Vec<u8>,
}

/// The first and the last version of the hub's row in a log.
struct Log {
    /// The header of the log. It differs between a log and the next one in the same file.
    header: [u8; HEADER_BYTES],
    first: Mark,
    last: Mark,
}

/// Refuses a hub if the log beside it belongs to another file, or to an earlier or later state of this one.
///
/// # Errors
/// [`StoreError::ForeignLog`]. A file or log that cannot be read passes: SQLite reports it.
pub(in crate::store) fn check(path: &Path) -> Result<(), StoreError> {
    refuse_special(path)?;
    let log = with_suffix(path, "-wal");
    let is_empty = std::fs::metadata(&log).map_or(true, |log| log.len() <= HEADER_BYTES as u64);
    if is_empty {
        return Ok(());
    }
    // An owner may write meanwhile, which only makes the file newer. So the log is read before the file, and its end again after it. If
    // another log has begun by then, an owner is at work, and the log is its own.
    let Some(before) = page_of_the_row(path).and_then(|page| read(&log, page, Frames::Any)) else {
        return Ok(());
    };
    let Some((page, file)) = mark_of(path) else {
        return Ok(());
    };
    let Some(after) = read(&log, page, Frames::Any) else {
        return Ok(());
    };
    if before.header != after.header {
        return Ok(());
    }
    if file.is_between(&before.first, &after.last) {
        return Ok(());
    }
    // A transaction that a power loss left incomplete is not part of the log. Finding that out takes a pass over every byte, so it comes
    // last.
    let Some(whole) = read(&log, page, Frames::Whole) else {
        return Ok(());
    };
    if whole.header != after.header || file.is_between(&whole.first, &whole.last) {
        return Ok(());
    }
    Err(StoreError::ForeignLog {
        path: path.to_owned(),
        log,
    })
}

impl Mark {
    /// Whether a log from `first` to `last` continues a file with this row.
    fn is_between(&self, first: &Self, last: &Self) -> bool {
        let is_same = first.secret == self.secret && first.created_at == self.created_at;
        is_same && first.changes <= self.changes + 1 && self.changes <= last.changes
    }
}

/// Which frames of a log are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frames {
    /// All with the log's salt.
    Any,
    /// Those that SQLite would fold: up to the last commit before the first wrong checksum.
    Whole,
}

/// Opens the file without its log. Uses SQLite, because closing the file by other means would release SQLite's locks on it.
fn without_log(path: &Path) -> Option<Connection> {
    let mut uri = String::from("file:");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => uri += &format!("%{other:02X}"),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri + "?immutable=1", flags).ok()
}

fn root_page(db: &Connection) -> Option<u32> {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'hub' AND type = 'table'";
    db.query_row(sql, [], |row| row.get(0)).ok()
}

fn page_of_the_row(path: &Path) -> Option<u32> {
    root_page(&without_log(path)?)
}

fn mark_of(path: &Path) -> Option<(u32, Mark)> {
    let db = without_log(path)?;
    let mark = |row: &rusqlite::Row<'_>| {
        Ok(Mark {
            created_at: row.get(0)?,
            changes: row.get(1)?,
            secret: row.get(2)?,
        })
    };
    let sql = "SELECT created_at, owner_epoch + commits, secret FROM hub";
    Some((root_page(&db)?, db.query_row(sql, [], mark).ok()?))
}

/// Finds the versions of a page in the frames of a log.
fn read(log: &Path, page: u32, frames: Frames) -> Option<Log> {
    let file = File::open(log).ok()?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).ok()?;
    let page_bytes = match word(&header, 8) {
        1 => 65_536,
        bytes => bytes as usize,
    };
    if !matches!(word(&header, 0), 0x377f_0682 | 0x377f_0683) || page_bytes < 512 {
        return None;
    }
    let salt = &header[16..24];
    let mut sum = Checksum::new(&header);
    if frames == Frames::Whole && !sum.goes_on(&header[..24], &header[24..]) {
        return None;
    }
    let (mut first, mut last) = (None, None);
    // The row in a transaction that may not have been committed.
    let mut open: Option<Mark> = None;
    let mut place = HEADER_BYTES as u64;
    let mut frame = [0; FRAME_HEADER_BYTES];
    let mut content = vec![0; page_bytes];
    // Frames with another salt are remains of an earlier log.
    while file.read_exact_at(&mut frame, place).is_ok() && frame[8..16] == *salt {
        let at = place + FRAME_HEADER_BYTES as u64;
        let is_of_the_row = word(&frame, 0) == page;
        if (is_of_the_row || frames == Frames::Whole)
            && file.read_exact_at(&mut content, at).is_err()
        {
            break;
        }
        if frames == Frames::Whole {
            sum.add(&frame[..8]);
            if !sum.goes_on(&content, &frame[16..24]) {
                break;
            }
        }
        if is_of_the_row {
            open = mark_in(&content).or(open);
        }
        let commits = word(&frame, 4) != 0;
        if commits || frames == Frames::Any {
            first = first.or_else(|| open.clone());
            last = open.take().or(last);
        }
        place = at + page_bytes as u64;
    }
    Some(Log {
        header,
        first: first?,
        last: last?,
    })
}

/// SQLite's checksum of a log: cumulative over the frames, in the byte order that the log's first word names.
struct Checksum {
    sums: [u32; 2],
    is_big_endian: bool,
}

impl Checksum {
    fn new(header: &[u8]) -> Self {
        Self {
            sums: [0; 2],
            is_big_endian: word(header, 0) & 1 == 1,
        }
    }

    /// Adds bytes; their number must be a multiple of eight.
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            for (this, other, word) in [(0, 1, &pair[..4]), (1, 0, &pair[4..])] {
                let word: [u8; 4] = word.try_into().unwrap_or_default();
                let word = if self.is_big_endian {
                    u32::from_be_bytes(word)
                } else {
                    u32::from_le_bytes(word)
                };
                self.sums[this] = self.sums[this]
                    .wrapping_add(word)
                    .wrapping_add(self.sums[other]);
            }
        }
    }

    /// Adds bytes, and compares the sum with the written one.
    fn goes_on(&mut self, bytes: &[u8], written: &[u8]) -> bool {
        self.add(bytes);
        self.sums == [word(written, 0), word(written, 4)]
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    u32::from_be_bytes(word.unwrap_or_default())
}

/// Reads the row of the table `hub` from its page: a leaf with one cell.
fn mark_in(page: &[u8]) -> Option<Mark> {
    const LEAF_OF_A_TABLE: u8 = 13;
    if *page.first()? != LEAF_OF_A_TABLE || page.get(3..5)? != [0, 1] {
        return None;
    }
    let cell = usize::from(u16::from_be_bytes(page.get(8..10)?.try_into().ok()?));
    let mut bytes = page.get(cell..)?;
    let _payload = varint(&mut bytes)?;
    let _rowid = varint(&mut bytes)?;
    let record = bytes;
    let header_bytes = usize::try_from(varint(&mut bytes)?).ok()?;
    let mut types = record.get(record.len() - bytes.len()..header_bytes)?;
    let mut body = record.get(header_bytes..)?;
    let _id = value(&mut types, &mut body)?;
    let created_at = integer(&value(&mut types, &mut body)?);
    let owners = integer(&value(&mut types, &mut body)?);
    let commits = integer(&value(&mut types, &mut body)?);
    let secret = value(&mut types, &mut body)?;
    (secret.len() == 16).then_some(Mark {
        created_at,
        changes: owners.saturating_add(commits),
        secret,
    })
}

/// Reads SQLite's variable-length integer of one to nine bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(number << 8 | u64::from(*byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

/// The bytes of the next column. The numbers 0 and 1 have none: their type encodes them.
fn value(types: &mut &[u8], body: &mut &[u8]) -> Option<Vec<u8>> {
    let kind = varint(types)?;
    let length = match kind {
        0 => 0,
        1..=4 => kind,
        5 => 6,
        6 | 7 => 8,
        8 | 9 => return Some(vec![(kind - 8) as u8]),
        _ => kind.checked_sub(12)? / 2,
    };
    let (value, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
    *body = rest;
    Some(value.to_vec())
}

fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        -1
    } else {
        0
    };
    bytes
        .iter()
        .fold(sign, |number, byte| number << 8 | i64::from(*byte))
}
