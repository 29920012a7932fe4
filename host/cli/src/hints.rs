//! Inserts the hub options that were typed into the commands that messages suggest.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

/// How a command in a message begins.
const COMMAND: &str = "`perennial ";

/// Commands that use no hub, or select it with other options.
const NO_HUB: [&str; 6] = ["new", "build", "inspect", "dev", "durable", "help"];

/// Commands that run on the machine of the host, and do not take `--url`.
const ON_THE_MACHINE: [&str; 3] = ["serve", "doctor", "keys create"];

static TYPED: OnceLock<Options> = OnceLock::new();

/// The typed options that select the hub, quoted for a shell.
#[derive(Debug, Default)]
struct Options {
    data_dir: Option<String>,
    store: Option<String>,
    task_hub: Option<String>,
    url: Option<String>,
}

/// Remembers the typed options. Environment variables need no mention: they hold for the next command too.
pub(crate) fn remember(data_dir: &Path, store: Option<&str>, task_hub: &str, url: Option<&str>) {
    let other = |typed: &str, variable: &str, default: &str| {
        let before = std::env::var(variable)
            .ok()
            .filter(|value| !value.is_empty());
        (before.as_deref().unwrap_or(default) != typed).then(|| quoted(typed))
    };
    let data_dir = data_dir.to_str().filter(|dir| !dir.is_empty());
    let options = Options {
        data_dir: data_dir.and_then(|dir| other(dir, "PERENNIAL_DATA_DIR", ".perennial")),
        store: store.map(|address| quoted(&without_password(address))),
        task_hub: other(task_hub, "PERENNIAL_TASK_HUB", perennial::DEFAULT_TASK_HUB),
        url: url.map(quoted),
    };
    let _ = TYPED.set(options);
}

/// A message with the typed options inserted into each command.
pub(crate) fn typed(message: &str) -> Cow<'_, str> {
    match TYPED.get() {
        Some(options) => options.put_into(message),
        None => Cow::Borrowed(message),
    }
}

impl Options {
    fn put_into<'a>(&self, message: &'a str) -> Cow<'a, str> {
        if !message.contains(COMMAND) {
            return Cow::Borrowed(message);
        }
        let mut parts = message.split(COMMAND);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for rest in parts {
            text += COMMAND;
            let is = |commands: &[&str]| {
                let begins = |command: &&str| {
                    let after = rest.strip_prefix(*command);
                    after.is_some_and(|after| after.starts_with([' ', '`']))
                };
                commands.iter().any(begins)
            };
            if !rest.starts_with('-') && !is(&NO_HUB) {
                let is_elsewhere = self.url.is_some() && !is(&ON_THE_MACHINE);
                let here = [("--data-dir", &self.data_dir), ("--store", &self.store)];
                let there = [("--url", &self.url), ("--url", &None)];
                let place = if is_elsewhere { there } else { here };
                for (option, value) in place.into_iter().chain([("--task-hub", &self.task_hub)]) {
                    if let Some(value) = value {
                        text += &format!("{option} {value} ");
                    }
                }
            }
            text += rest;
        }
        Cow::Owned(text)
    }
}

/// The address of a database for a message: whoever follows it has the password elsewhere, or types it again.
fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, host) = place.rsplit_once('@').unwrap_or(("", place));
    let user = login.split(':').next().unwrap_or_default();
    let at = if user.is_empty() { "" } else { "@" };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("password="))
        .collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    format!("{scheme}://{user}{at}{host}{mark}{}", kept.join("&"))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data_dir: Option<&str>, task_hub: Option<&str>, url: Option<&str>) -> Options {
        let owned = |text: Option<&str>| text.map(quoted);
        Options {
            data_dir: owned(data_dir),
            store: None,
            task_hub: owned(task_hub),
            url: owned(url),
        }
    }

    #[test]
    fn an_address_is_repeated_without_its_password() {
        for (typed, repeated) in [
            (
                "postgres://me:s3cret@db:5433/app",
                "postgres://me@db:5433/app",
            ),
            (
                "postgres:///app?host=/run/pg&password=s3cret&sslmode=disable",
                "postgres:///app?host=/run/pg&sslmode=disable",
            ),
            ("postgres://me:a@b:s3cret@db/app", "postgres://me@db/app"),
        ] {
            assert_eq!(without_password(typed), repeated);
        }
    }

    #[test]
    fn a_command_in_a_message_is_about_the_same_hub() {
        let message = "`perennial wait i` waits, `perennial new` and `perennial --help` do not";
        assert_eq!(options(None, None, None).put_into(message), message);
        assert_eq!(
            options(Some("/a b"), Some("other"), None).put_into(message),
            "`perennial --data-dir '/a b' --task-hub other wait i` waits, `perennial new` and `perennial --help` do not"
        );
        let remote = options(Some("x"), Some("other"), Some("http://h:1"));
        assert_eq!(
            remote.put_into("`perennial list`, `perennial keys create NAME`"),
            "`perennial --url http://h:1 --task-hub other list`, `perennial --data-dir x --task-hub other keys create NAME`"
        );
        assert_eq!(remote.put_into("no command"), "no command");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
