//! The one table of limits: what may come in from outside, how much of it, and what becomes of more.
//!
//! Each is a constant for the code that keeps it and a row of [`TABLE`], from which SECURITY.md's is made: a test compares the two. What
//! goes with an execution is in [`Limits`](crate::Limits), whose defaults stand here.

/// One row of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bound {
    /// The constant; a word of it is the unit, where it counts no things.
    pub name: &'static str,
    /// How much is allowed.
    pub max: u64,
    /// Of what.
    pub what: &'static str,
    /// What becomes of more.
    pub beyond: &'static str,
}

impl Bound {
    /// The number with its unit, for people.
    pub fn amount(&self) -> String {
        let max = self.max;
        let words = || self.name.split('_');
        let unit = words().find(|word| ["BYTES", "CHARS", "LEVELS"].contains(word));
        let (unit, number) = match unit {
            Some("BYTES") if max >= 1 << 20 && max.is_multiple_of(1 << 20) => ("MiB", max >> 20),
            Some("BYTES") if max >= 1 << 10 && max.is_multiple_of(1 << 10) => ("KiB", max >> 10),
            Some("BYTES") => ("bytes", max),
            Some("CHARS") => ("characters", max),
            Some("LEVELS") => ("levels", max),
            _ => ("", max),
        };
        format!("{} {unit}", grouped(number)).trim_end().to_owned()
    }
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// [`TABLE`] as Markdown, as SECURITY.md has it.
pub fn table() -> String {
    let mut text =
        "| what | limit | beyond it | constant |\n| --- | --- | --- | --- |\n".to_owned();
    for bound in TABLE {
        text += &format!(
            "| {} | {} | {} | `{}` |\n",
            bound.what,
            bound.amount(),
            bound.beyond,
            bound.name
        );
    }
    text
}

macro_rules! bounds {
    ($($name:ident = $max:expr, $what:literal, $beyond:literal;)*) => {
        $(
            #[doc = concat!("Of ", $what, ". Beyond it: ", $beyond, ".")]
            pub const $name: usize = $max;
        )*

        /// All of them.
        pub const TABLE: &[Bound] = &[$(
            Bound { name: stringify!($name), max: $name as u64, what: $what, beyond: $beyond },
        )*];
    };
}

bounds! {
    // Payloads.
    PAYLOAD_BYTES = 1 << 20, "a payload: an input, an output, the data of an event, the details of a failure",
        "refused; a guest, or the task that it is of, fails with `LimitExceeded`; details of a failure give way to a text with their size";
    CUSTOM_STATUS_BYTES = 16 << 10, "a custom status", "the execution fails with `LimitExceeded`";
    VALUES = 100, "named values of an instance", "the execution fails with `LimitExceeded`";
    VALUE_BYTES = 256 << 10, "the named values of an instance together, with their names", "the execution fails with `LimitExceeded`";
    HEARTBEAT_BYTES = 16 << 10, "the details of a heartbeat of an attempt", "refused, and the attempt is told; those that were sent before stay";
    JSON_LEVELS = 128, "arrays and objects within each other, in every payload",
        "the same";

    // Ids and names.
    INSTANCE_ID_CHARS = 256, "an instance id; no control or bidirectional characters, none of `/ \\ # ?`, not `.` or `..`, no `@` at its beginning",
        "refused; a child fails, an instance that a guest starts is not started";
    NAME_CHARS = 256, "a name or a version of an orchestration or activity, the name of an event, the key of a tag; no control or bidirectional characters",
        "refused; a guest that asks for it fails with `LimitExceeded`";
    VALUE_NAME_CHARS = 128, "the name of a named value; no control or bidirectional characters", "the execution fails with `LimitExceeded`";
    MODULE_NAME_CHARS = 128, "the name of a module or of a key; no control or bidirectional characters", "refused";
    TAGS = 64, "tags of an instance; what an orchestration sets is counted without what clients have set since its execution began",
        "refused; a guest that asks for it fails with `LimitExceeded`";
    TAG_VALUE_CHARS = 1_024, "the value of a tag; no NUL", "refused; a guest that asks for it fails with `LimitExceeded`";
    TRACE_PARENT_CHARS = 256, "a trace parent", "refused";
    REASON_BYTES = 64 << 10, "a reason; no NUL", "refused";

    // What a module defines.
    DEFINITIONS = 10_000, "orchestrations of a module, and activities", "the module is refused";
    DESCRIPTION_BYTES = 16 << 10, "a description of an orchestration or activity", "the module is refused";
    INPUT_SCHEMA_BYTES = 256 << 10, "a JSON Schema of an input", "the module is refused";
    IMPORTS = 1_000, "interfaces that a module imports, each with a name of up to `NAME_CHARS`", "the module is refused";
    DEFINITIONS_BYTES = 8 << 20, "all that a module says of what it defines", "the module is refused";

    // Failures, of guests, closures and what embeds the host. What older hosts recorded stays as it is.
    FAILURE_KIND_BYTES = 256, "the kind of a failure, and of each of its causes", "cut, with its length";
    FAILURE_MESSAGE_BYTES = 16 << 10, "the message of a failure; that of a panic", "cut, with its length";
    FAILURE_TRACE_BYTES = 32 << 10, "the trace of a failure", "cut, with its length";
    FAILURE_CAUSES = 16, "causes of a failure", "the others are left out, and the last one says how many";
    CAUSE_MESSAGE_BYTES = 4 << 10, "the message of a cause", "cut, with its length";
    CAUSE_TRACE_BYTES = 8 << 10, "the trace of a cause", "cut, with its length";

    // What a guest says of itself.
    NOTE_BYTES = 4 << 10, "the note that says what an instance waits for", "cut, with its length";
    WAITING_EVENTS = 1_000, "names of events that a status says an instance waits for", "the others are left out of the status";

    // Log lines of guests. They go to the log of the host, whose disk has an end.
    LOG_LINE_BYTES = 8 << 10, "a log line of a guest", "cut, with its length; an unfinished line of an output is broken";
    LOG_ATTEMPT_BYTES = 1 << 20, "log lines of a turn, or of an attempt: what it prints, and what it logs", "left out, and their number is logged";
    LOG_INSTANCE_BYTES = 4 << 20, "log lines of an instance at once", "the same";
    LOG_INSTANCE_BYTES_PER_SECOND = 128 << 10, "log lines of an instance in each second after that", "the same";
    LOG_HOST_BYTES = 16 << 20, "log lines of all guests of a process at once", "the same";
    LOG_HOST_BYTES_PER_SECOND = 1 << 20, "log lines of all guests of a process in each second after that", "the same";

    // An orchestration.
    MEMORY_BYTES = 64 << 20, "memory of an orchestration", "`OutOfMemory`";
    UNREAD_EVENT_BYTES = 8 << 20, "external events that an instance was sent and has not read: in its inbox, and in the memory of its guest",
        "refused until it reads some, but for an event that it waits for; what an orchestration sends is discarded, and logged";
    ACTIONS_PER_TURN = 10_000, "actions in a turn", "`LimitExceeded`";
    ACTION_BYTES_PER_TURN = 16 << 20, "what a turn asks to be stored", "`LimitExceeded`";
    OPEN_TASKS = 100_000, "tasks that are scheduled and not ended", "`LimitExceeded`";

    // An orchestration that a remote worker runs.
    REMOTE_PAYLOAD_BYTES = 64 << 20, "a payload of an orchestration that a remote worker runs", "as for `PAYLOAD_BYTES`";
    REMOTE_ACTION_BYTES_PER_TURN = 128 << 20, "what its turn asks to be stored", "`LimitExceeded`";
    REMOTE_CUSTOM_STATUS_BYTES = 48 << 10, "its custom status", "as for `CUSTOM_STATUS_BYTES`";
    REMOTE_INBOX_EVENT_BYTES = 128 << 20, "external events in its inbox", "refused until its worker has read some";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_unit_of_their_names() {
        let amount = |name, max| {
            let bound = Bound {
                name,
                max,
                what: "",
                beyond: "",
            };
            bound.amount()
        };
        assert_eq!(amount("A_BYTES", 64 << 20), "64 MiB");
        assert_eq!(amount("A_BYTES", 1_536), "1,536 bytes");
        assert_eq!(amount("A_BYTES", 4 << 10), "4 KiB");
        assert_eq!(amount("A_CHARS", 256), "256 characters");
        assert_eq!(amount("TAGS", 100_000), "100,000");
    }

    #[test]
    fn the_defaults_of_an_execution_are_those_of_the_table() {
        let limits = crate::Limits::default();
        let defaults = [
            (limits.payload_bytes, PAYLOAD_BYTES),
            (limits.custom_status_bytes, CUSTOM_STATUS_BYTES),
            (limits.memory_bytes, MEMORY_BYTES),
            (limits.action_bytes_per_turn, ACTION_BYTES_PER_TURN),
            (u64::from(limits.actions_per_turn), ACTIONS_PER_TURN),
            (u64::from(limits.open_tasks), OPEN_TASKS),
        ];
        for (is, bound) in defaults {
            assert_eq!(is, bound as u64);
        }
    }
}
