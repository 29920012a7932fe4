//! Arguments of `request`, `requests`, `pending-events` and `logs`.

use clap::Args;

use super::value;
use crate::payload::Source;
use crate::value::Limit;

/// How an instance is started where there is none.
#[derive(Debug, Args)]
pub(crate) struct OrStart {
    /// Start this orchestration under the id if there is no live instance, in the same transaction
    #[arg(long, value_name = "ORCHESTRATION")]
    pub(crate) or_start: Option<String>,
    /// Input of the start: JSON, `@file`, or `-` for stdin
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        requires = "or_start",
        allow_hyphen_values = true
    )]
    pub(crate) start_input: Option<Source>,
}

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Id of the instance
    pub(crate) id: String,
    /// Name of the request, in any case of letters
    pub(crate) name: String,
    /// Its input: JSON, `@file`, or `-` for stdin
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(crate) input: Option<Source>,
    /// Id of the request; sent again under it, it is the same request [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    #[command(flatten)]
    pub(crate) start: OrStart,
    /// Give up waiting for the answer after this long, such as `30s` or `1h30m`; `none` never does
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = value::limit)]
    pub(crate) timeout: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Requests {
    /// Id of the instance
    pub(crate) id: String,
    /// Only the request with this id
    pub(crate) request_id: Option<String>,
    /// Wait for its answer
    #[arg(long, requires = "request_id")]
    pub(crate) wait: bool,
    /// Give up waiting after this long, such as `30s` or `1h30m`; `none` never does
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = value::limit, requires = "wait")]
    pub(crate) timeout: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Id of the instance
    pub(crate) id: String,
}

pub(super) const LOGS: &str = "\
Shows what an orchestration and its activities logged since the host started, the newest 200 lines. They are only in \
the memory of the host, so this command asks it: with --url.

Examples:
  perennial --url http://localhost:7071 logs order-17

Stdout: a line for each.
JSON: {sinceTime, lines: [{time, level: trace|debug|info|warn|error, message}], partial}; partial: the host has dropped older lines.";

#[derive(Debug, Args)]
pub(crate) struct PendingEvents {
    /// Id of the instance
    pub(crate) id: String,
}

pub(super) const PENDING_EVENTS: &str = "\
Shows the external events that an instance has received and that had no effect so far, the oldest first, at most a hundred: it \
is suspended, or waits for other events, for example because a name is misspelt. Each is kept until the instance awaits it.

Examples:
  perennial pending-events order-17

Stdout: a table.
JSON: [{name, receivedTime, eventNumber, data, dataBytes}]; eventNumber is that in the history, absent if no turn has \
taken the event; data is left out after 4 MiB.";

pub(super) const REQUEST: &str = "\
The instance is asked, and its answer is printed. The request is on disk before it is delivered. It waits until the \
orchestration serves requests of this name; a validator of the orchestration may decline it before it is recorded. Where \
there is no answer in time, the instance keeps the request: `perennial requests` gets the answer later. A request that is \
sent again under its id is the same request, whatever its input is. A failure exits with 1, no answer in time with 5.

Examples:
  perennial request cart-7 AddItem --input '{\"sku\": \"book\", \"count\": 2}'
  perennial request cart-7 Checkout --request-id checkout-7 --timeout 5m
  perennial request cart-alice AddItem --input '{\"sku\": \"book\", \"count\": 1}' --or-start Cart

Stdout: the answer, as the JSON that the orchestration gave.
JSON: {instanceId, requestId, name, state: pending | completed | failed, createdTime, answeredTime, output, failure}";

pub(super) const REQUESTS: &str = "\
Shows what an instance was asked, the newest first, at most a thousand requests; with REQUEST_ID, the answer to that one. \
Answers are kept until the instance is replaced, restarted or purged; one that continues as new again and again keeps each \
for a day. A request without an answer exits with 4, and with --wait with 5.

Examples:
  perennial requests cart-7
  perennial requests cart-7 checkout-7 --wait --timeout 5m

Stdout: a table; with REQUEST_ID, the answer.
JSON: [{instanceId, requestId, name, state, createdTime, answeredTime, output, failure}]; with REQUEST_ID, the one object.";
