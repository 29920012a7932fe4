//! `println!` and its like for the target `wasm32-unknown-unknown`, whose standard library writes nowhere.
//!
//! `#[orchestration]` and `#[activity]` import these macros into the bodies of their functions. `#[macro_use] extern crate perennial_sdk;`
//! replaces those of the standard library in a whole crate. On other targets there are none: there the standard library writes to the host.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use std::fmt;

/// A line that is longer is logged in parts, so that a guest that ends no line does not hoard it.
#[cfg(any(test, all(target_arch = "wasm32", target_os = "unknown")))]
const LINE_BYTES_MAX: usize = 4 << 10;

/// Text of which whole lines were taken.
#[cfg(any(test, all(target_arch = "wasm32", target_os = "unknown")))]
struct Unfinished(String);

#[cfg(any(test, all(target_arch = "wasm32", target_os = "unknown")))]
impl Unfinished {
    const fn new() -> Self {
        Self(String::new())
    }

    /// Adds text, and hands on each line that is complete.
    fn write(&mut self, text: &str, mut line: impl FnMut(&str)) {
        self.0.push_str(text);
        let mut rest = &*self.0;
        loop {
            match rest.find('\n') {
                Some(end) if end <= LINE_BYTES_MAX => {
                    line(rest[..end].trim_end_matches('\r'));
                    rest = &rest[end + 1..];
                }
                None if rest.len() <= LINE_BYTES_MAX => break,
                _ => {
                    let (part, further) = rest.split_at(rest.floor_char_boundary(LINE_BYTES_MAX));
                    line(part);
                    rest = further;
                }
            }
        }
        let done = self.0.len() - rest.len();
        self.0.drain(..done);
    }
}

/// Where text is written to.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// Lines at the level `info`.
    Out,
    /// Lines at the level `warn`.
    Err,
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
thread_local! {
    static UNFINISHED: [std::cell::RefCell<Unfinished>; 2] =
        const { [std::cell::RefCell::new(Unfinished::new()), std::cell::RefCell::new(Unfinished::new())] };
}

/// Writes text; a line is logged once it ends.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub fn write(stream: Stream, text: fmt::Arguments<'_>) {
    use crate::log::{self, Level};

    let level = match stream {
        Stream::Out => Level::Info,
        Stream::Err => Level::Warn,
    };
    // Formatted first: the values may print too.
    let text = text.to_string();
    UNFINISHED.with(|streams| {
        streams[stream as usize]
            .borrow_mut()
            .write(&text, |line| log::write(level, line));
    });
}

/// Ends a turn or an attempt: an unfinished line of the standard error is logged, and one of the standard output kept, as the standard
/// library of the other targets has it.
pub(crate) fn end() {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    UNFINISHED.with(|streams| {
        let rest = std::mem::take(&mut streams[Stream::Err as usize].borrow_mut().0);
        if !rest.is_empty() {
            crate::log::write(crate::log::Level::Warn, &rest);
        }
    });
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod macros {
    /// As that of the standard library, for a target where that writes nowhere.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! print {
        ($($text:tt)*) => { $crate::print::write($crate::print::Stream::Out, ::core::format_args!($($text)*)) };
    }

    /// As that of the standard library, for a target where that writes nowhere.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! println {
        () => { $crate::print!("\n") };
        ($($text:tt)*) => {
            $crate::print::write($crate::print::Stream::Out, ::core::format_args!("{}\n", ::core::format_args!($($text)*)))
        };
    }

    /// As that of the standard library, for a target where that writes nowhere.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! eprint {
        ($($text:tt)*) => { $crate::print::write($crate::print::Stream::Err, ::core::format_args!($($text)*)) };
    }

    /// As that of the standard library, for a target where that writes nowhere.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! eprintln {
        () => { $crate::eprint!("\n") };
        ($($text:tt)*) => {
            $crate::print::write($crate::print::Stream::Err, ::core::format_args!("{}\n", ::core::format_args!($($text)*)))
        };
    }

    /// As that of the standard library, for a target where that writes nowhere.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! dbg {
        () => { $crate::eprintln!("[{}:{}:{}]", ::core::file!(), ::core::line!(), ::core::column!()) };
        ($value:expr $(,)?) => {
            match $value {
                value => {
                    $crate::eprintln!(
                        "[{}:{}:{}] {} = {:#?}",
                        ::core::file!(), ::core::line!(), ::core::column!(), ::core::stringify!($value), &value
                    );
                    value
                }
            }
        };
        ($($value:expr),+ $(,)?) => { ($($crate::dbg!($value)),+,) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> (Vec<String>, String) {
        let mut unfinished = Unfinished::new();
        let mut lines = Vec::new();
        for text in texts {
            unfinished.write(text, |line| lines.push(line.to_owned()));
        }
        (lines, unfinished.0)
    }

    #[test]
    fn a_line_is_handed_on_when_it_ends() {
        let (whole, rest) = lines(&["a", "b\nc\r\n\nd", "e"]);
        assert_eq!(whole, ["ab", "c", ""]);
        assert_eq!(rest, "de");
    }

    #[test]
    fn a_line_without_an_end_is_broken_between_characters() {
        let (parts, rest) = lines(&[&"ä".repeat(LINE_BYTES_MAX), "ö\n"]);
        assert!(
            parts.iter().all(|part| part.len() <= LINE_BYTES_MAX),
            "{parts:?}"
        );
        assert_eq!(parts.concat(), "ä".repeat(LINE_BYTES_MAX) + "ö");
        assert_eq!(rest, "");
    }
}
