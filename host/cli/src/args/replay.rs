//! Arguments of `export` and `replay`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Id of the instance, which may run or have ended
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The component to replay on
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
    /// Files that `perennial export` wrote, or directories of them (`*.json`, at any depth)
    #[arg(value_name = "HISTORY.json|DIR", required = true)]
    pub(crate) histories: Vec<PathBuf>,
}

pub(super) const EXPORT: &str = "\
Prints the recorded history of the instance's current execution with all that a replay needs, which the output of \
`history --json` lacks. It contains every payload: inputs, outputs, events. A host may run the task hub meanwhile.

Examples:
  perennial export order-17 > histories/order-17.json
  perennial export order-17 --url https://flows.example.com > histories/order-17.json

JSON, also without --json: {perennialHistory: 1, instanceId, name, version, runtimeStatus, module, execution, \
generation, turns: [{number, firstEvent, at, answer, received, produced, events: [NAME]}]}. `received` and `produced` are \
the stored events in Base64; every later version reads them.";

pub(super) const REPLAY: &str = "\
Says whether code fits recorded histories, live and ended ones, without a task hub: each is replayed on the module as a \
host does that takes an execution over. Keep exported histories beside the code, and replay them in CI before a new version \
is deployed: live instances stay on their module, but `resume --module` and a rewind bring them to the new one. Log lines may \
change; what the code asks for may not, nor its order.

Examples:
  perennial replay target/orders.wasm histories
  perennial replay orders.wasm order-17.json order-18.json --json | jq .differs

The exit code is 0 if all fit, 6 if one does not, and 1 if one could not be read.
JSON: {module, digest, fits, differs, unreadable, histories: [{file, instanceId, name, runtimeStatus, turns, outcome: \
compatible|differs|notDefined|unreadable, reason, turn, event, recorded, asked}]}";
