//! Arguments of `values` and `tag`.

use clap::Args;

use super::value;
use crate::payload::Source;
use crate::value::Limit;

#[derive(Debug, Args)]
pub(crate) struct Values {
    /// Id of the instance
    pub(crate) id: String,
    /// Only the value of this name
    pub(crate) name: Option<String>,
    /// Wait until it is set
    #[arg(long, requires = "name")]
    pub(crate) wait: bool,
    /// Wait until it is this JSON
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        requires = "wait",
        conflicts_with = "since"
    )]
    #[arg(allow_hyphen_values = true)]
    pub(crate) is: Option<Source>,
    /// Wait until it is another one than that of this version, as `--json` shows it; 0 for none
    #[arg(long, value_name = "VERSION", requires = "wait")]
    pub(crate) since: Option<u64>,
    /// Give up waiting after this long, such as `30s` or `1h30m`; `none` never does
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = value::limit, requires = "wait")]
    pub(crate) timeout: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Id of the instance
    pub(crate) id: String,
    /// Labels to set
    #[arg(value_name = "KEY=VALUE", value_parser = value::tag)]
    pub(crate) set: Vec<(String, String)>,
    /// A label to remove; may be given several times
    #[arg(long = "remove", value_name = "KEY")]
    pub(crate) remove: Vec<String>,
}

pub(super) const VALUES: &str = "\
An orchestration sets named values to say how far it is; they can be read at any time, also after its end, and none of \
its code runs for that. The version of a value differs after each change. Waiting ends too when the instance has ended.

Examples:
  perennial values order-17
  perennial values order-17 stage
  perennial values order-17 stage --wait --is '\"shipped\"' --timeout 5m
  perennial values order-17 progress --wait --since 4711 --json

Stdout: a table; with NAME, the value, as the JSON that the orchestration set.
JSON: [{name, value, version, setTime, runtimeStatus}]; with NAME, the one object.";

pub(super) const TAG: &str = "\
Labels can be changed at any time, also after the end of the instance; those that are not named stay. `perennial list \
--tag` finds the instance by them at once. The orchestration is not told: it sees them when it continues as new or is \
restarted. Without any change the labels are printed.

Examples:
  perennial tag order-17 owner=alice priority=high
  perennial tag order-17 --remove triage
  perennial tag order-17

Stdout: the labels, a line for each.
JSON: {instanceId, tags: {KEY: VALUE}}";
