//! Prints errors on stderr: what happened, its causes, and a hint.

use std::process::ExitCode;

use clap::CommandFactory;
use serde::Serialize;

use crate::args::Cli;
use crate::error::{CliError, Exit};
use crate::hints;
use crate::output::{say, say_json};
use crate::session::Session;
use crate::suggest;

/// Prints an error on stderr, with a suggestion for a misspelt name, and returns the exit code.
pub(crate) fn report(error: &anyhow::Error, meant: Option<&str>, session: &Session) -> Exit {
    let said = error.downcast_ref::<CliError>().map(|said| said.exit);
    let exit = said
        .or_else(|| library_error(error).map(Exit::of))
        .unwrap_or(Exit::Error);
    tell_all(error, meant, session, exit)
}

fn library_error(error: &anyhow::Error) -> Option<&perennial::Error> {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<perennial::Error>())
}

/// Prints an error as [`report`] does, with a given exit code.
pub(crate) fn report_as(error: &anyhow::Error, session: &Session, exit: Exit) -> Exit {
    tell_all(error, None, session, exit)
}

fn tell_all(error: &anyhow::Error, meant: Option<&str>, session: &Session, exit: Exit) -> Exit {
    let said = error.downcast_ref::<CliError>();
    let library = library_error(error);
    let hint = said
        .and_then(|said| said.hint.clone())
        .or_else(|| hint(library?, session));
    let hint = match meant {
        Some(meant) => Some(match hint {
            Some(hint) => format!("did you mean {meant:?}? {hint}"),
            None => format!("did you mean {meant:?}?"),
        }),
        None => hint,
    };
    let (message, causes) = sentences(error, said.map_or(&[], |said| &said.causes));
    let trace = said.and_then(|said| said.trace.as_deref());
    let hint = hint.map(|hint| hints::typed(&hint).into_owned());
    let code = match (said, library) {
        (None, Some(library)) => library.code(),
        _ => exit.name(),
    };
    tell(
        code,
        exit,
        &message,
        &causes,
        trace,
        hint.as_deref(),
        session.output().is_json(),
    );
    exit
}

/// Prints the error of an invalid command line, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os()
        .take_while(|arg| arg != "--")
        .any(|arg| arg == "--json");
    let exit = if !error.use_stderr() {
        Exit::Ok
    } else if is_durable() {
        Exit::Error
    } else {
        Exit::Usage
    };
    if wants_json && error.use_stderr() {
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or(&text);
        let message = message
            .strip_prefix("error: ")
            .unwrap_or(message)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        tell(
            exit.name(),
            exit,
            &message,
            &[],
            None,
            Some(&format!(
                "`perennial {}--help` shows the arguments",
                commands_typed()
            )),
            true,
        );
    } else {
        // A reader that went away, as in `--help | head`, has what it wanted.
        let _ = error.print();
        if let Some(verb) = foreign_verb(error) {
            say(&format!(
                "  hint: `perennial durable {verb}` has the flags and the texts of `func durable {verb}`"
            ));
        }
    }
    exit.into()
}

/// The known commands among the arguments, each followed by a space.
fn commands_typed() -> String {
    let mut command = Cli::command();
    let mut typed = String::new();
    let arguments = std::env::args_os().skip(1);
    for argument in arguments.filter_map(|argument| argument.into_string().ok()) {
        if let Some(below) = command.find_subcommand(&argument) {
            typed.push_str(&argument);
            typed.push(' ');
            command = below.clone();
        }
    }
    typed
}

/// The verb of `func durable` that was typed as a command, without `durable` before it.
fn foreign_verb(error: &clap::Error) -> Option<String> {
    if error.kind() != clap::error::ErrorKind::InvalidSubcommand {
        return None;
    }
    let typed = error.get(clap::error::ContextKind::InvalidSubcommand)?;
    let typed = typed.to_string();
    let command = Cli::command();
    let durable = command.find_subcommand("durable")?;
    durable.find_subcommand(&typed).map(|_| typed)
}

/// Whether `perennial durable` was meant, whose exit codes are those of `func durable`.
fn is_durable() -> bool {
    let command = Cli::command().ignore_errors(true);
    let typed = command.try_get_matches();
    typed.is_ok_and(|typed| typed.subcommand_name() == Some("durable"))
}

/// The error and its causes, without those whose text the message before them contains. `more` are causes that the error itself names.
fn sentences(error: &anyhow::Error, more: &[String]) -> (String, Vec<String>) {
    let chain = error.chain().map(ToString::to_string);
    let mut all = chain.chain(more.iter().cloned()).map(|text| plain(&text));
    let message = all.next().unwrap_or_default();
    let mut last = message.clone();
    let mut causes = Vec::new();
    for cause in all {
        // The causes of a failure begin with its kind.
        let text = cause.strip_prefix("Error: ").unwrap_or(&cause);
        if !last.contains(text) {
            causes.push(cause.clone());
            last = cause;
        }
    }
    (message, causes)
}

/// A text without the numbers of operating system errors, such as "(os error 2)": the words before them say the same, and the numbers of a
/// guest are those of WASI.
fn plain(text: &str) -> String {
    const BEGINS: &str = " (os error ";
    let mut parts = text.split(BEGINS);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|digit| digit.is_ascii_digit()) => {
                plain += rest;
            }
            _ => {
                plain += BEGINS;
                plain += part;
            }
        }
    }
    plain
}

fn hint(error: &perennial::Error, session: &Session) -> Option<String> {
    if let Some(hint) = http_hint(error, session) {
        return Some(hint);
    }
    // In a database, the error alone says whether there is a hub.
    let has_no_hub = match session.has_database() {
        true => error.is_unknown_hub(),
        false => error.is_not_found() && !session.may_have_hub(),
    };
    if has_no_hub && session.url().is_none() {
        let place = match session.has_database() {
            true => "--store",
            false => "--data-dir",
        };
        let made = format!(
            "`perennial deploy FILE.wasm` or `perennial serve` makes it; {place} and --task-hub say where it is"
        );
        return Some(suggest::hubs(session).unwrap_or(made));
    }
    if error.is_unknown_orchestration() {
        return Some("`perennial deploy FILE.wasm` deploys what a file defines, `perennial modules` lists what is deployed".to_owned());
    }
    if error.is_not_stored() {
        return Some("`perennial modules --stored` lists what is stored".to_owned());
    }
    if error.is_unknown_module() {
        return Some("`perennial modules` lists what is deployed".to_owned());
    }
    if error.is_unknown_hub() {
        return Some("--task-hub names another one".to_owned());
    }
    if error.is_not_found() {
        return Some(format!(
            "`perennial list` shows the instances of this task hub, {}",
            session.place()
        ));
    }
    if error.is_already_exists() {
        return Some(
            "`--reuse any` ends and replaces a live instance; without --id a new id is made"
                .to_owned(),
        );
    }
    if error.is_name_taken() {
        let owner = error.name_owner().unwrap_or("MODULE");
        return Some(format!(
            "`perennial deploy --name {owner}` deploys the file as a new version of that module; `--replace` takes the name over"
        ));
    }
    if error.is_owned() {
        return Some("stop its hosts first; every other command works beside them".to_owned());
    }
    None
}

/// A hint for an error of a host that `--url` names.
fn http_hint(error: &perennial::Error, session: &Session) -> Option<String> {
    let url = session.url()?;
    let message = error.to_string().to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if error.is_unauthorized() {
        return Some(if message.contains("keys create") {
            "give it with --key or PERENNIAL_KEY".to_owned()
        } else if message.contains("only read") {
            "`perennial keys create NAME` on the host's machine makes one that may change things"
                .to_owned()
        } else {
            "give a key with --key or PERENNIAL_KEY; `perennial keys create NAME` on the host's machine makes one".to_owned()
        });
    }
    if !error.is_unreachable() {
        return None;
    }
    Some(if says(&["(ca:true)"]) {
        "the environment variable SSL_CERT_FILE names a file with the certificates that this machine is to trust beside the usual ones".to_owned()
    } else if says(&[
        "unknownissuer",
        "unknown issuer",
        "self-signed",
        "certificate",
    ]) {
        "the certificate must be made for this name by an authority that this machine trusts; the environment variable SSL_CERT_FILE names a file with more of them".to_owned()
    } else if url.starts_with("https")
        && says(&["corrupt message", "invalidcontenttype", "handshake"])
    {
        "does the host serve TLS? If not, write http:// instead of https://".to_owned()
    } else if says(&["dns", "lookup"]) {
        "is the name of the machine right?".to_owned()
    } else if says(&["timed out"]) {
        "is the host busy, or a firewall between here and there?".to_owned()
    } else {
        "does `perennial serve` run there? It prints its address when it begins; a host that serves TLS wants https://".to_owned()
    })
}

#[derive(Serialize)]
struct ErrorOnly<'a> {
    error: ErrorJson<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorJson<'a> {
    code: &'a str,
    exit_code: u8,
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    causes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

fn tell(
    code: &str,
    exit: Exit,
    message: &str,
    causes: &[String],
    trace: Option<&str>,
    hint: Option<&str>,
    json: bool,
) {
    if json {
        let error = ErrorJson {
            code,
            exit_code: exit.code(),
            message,
            causes,
            hint,
        };
        say_json(&serde_json::to_string(&ErrorOnly { error }).unwrap_or_default());
        return;
    }
    say(&format!(
        "{} {}",
        crate::output::paint_error("error:"),
        set_in(message)
    ));
    for cause in causes {
        say(&format!("  because: {}", set_in(cause)));
    }
    for (i, line) in trace.into_iter().flat_map(str::lines).enumerate() {
        let name = if i == 0 { "trace:" } else { "" };
        say(&format!("  {name:<6} {line}"));
    }
    if let Some(hint) = hint {
        say(&format!("  hint: {}", set_in(hint)));
    }
}

/// Indents all lines but the first, so that an untrusted text cannot imitate an error or a hint of this program.
fn set_in(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| match line.starts_with("  ") {
        true => text + "\n" + line,
        false => text + "\n  " + line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_is_not_told_twice() {
        let error = anyhow::anyhow!("disk full")
            .context("could not write x: disk full")
            .context("could not deploy");
        assert_eq!(
            sentences(&error, &[]),
            (
                "could not deploy".to_owned(),
                vec!["could not write x: disk full".to_owned()]
            )
        );
    }

    #[test]
    fn an_error_of_the_system_is_told_once_and_in_words() {
        let error = anyhow::anyhow!("cannot list \"/x\": No such file or directory (os error 44)");
        let cause = "Error: No such file or directory (os error 44)".to_owned();
        let (message, causes) = sentences(&error, &[cause]);
        assert_eq!(message, "cannot list \"/x\": No such file or directory");
        assert_eq!(causes, Vec::<String>::new());
        for same in ["", "a (os error x)", "a (os error 1"] {
            assert_eq!(plain(same), same);
        }
    }

    #[test]
    fn an_error_keeps_its_exit_code_under_more_context() {
        let failed: Result<(), CliError> = Err(CliError::new(Exit::TimedOut, "late"));
        let error = failed.context("waiting").expect_err("it failed");
        assert_eq!(
            error.downcast_ref::<CliError>().map(|said| said.exit),
            Some(Exit::TimedOut)
        );
    }
}
