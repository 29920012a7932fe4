//! Arguments of `serve` and `keys`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::value::{self, Listen};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// What to log, as `info` or `perennial=debug,warn`
    #[arg(
        long,
        value_name = "FILTER",
        env = "PERENNIAL_LOG",
        default_value = "info",
        hide_env_values = true
    )]
    pub(crate) log: String,
    /// Log as JSON, a line for each event
    #[arg(long)]
    pub(crate) log_json: bool,
    /// Another task hub to run, which HTTP requests name with `taskHub`; may be given several times
    #[arg(long = "and-hub", value_name = "HUB")]
    pub(crate) and_hubs: Vec<String>,
    /// Activities of a hub that run at once [default: 64]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) max_activities: Option<usize>,
    /// Threads that run orchestrations [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) workers: Option<usize>,
    /// Instances kept in memory between their turns [default: 4096]
    #[arg(long, value_name = "N")]
    pub(crate) resident: Option<usize>,
    /// Export traces to the OpenTelemetry collector at this address, such as `http://127.0.0.1:4318`
    ///
    /// The other variables of OpenTelemetry hold too, such as OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_HEADERS.
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true
    )]
    pub(crate) otlp: Option<String>,
    /// When it is told to stop, start no activity any more and let the running ones end, for at most this long, such as `30s`
    ///
    /// They are told (`heartbeat` of the SDK, `draining` of closures). Meanwhile everything else goes on. A second signal stops at once.
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub(crate) drain: Option<Duration>,
    /// When it is told to stop, go on serving for at least this long, such as `5s`, while `/readyz` says 503
    ///
    /// So a load balancer stops sending requests before the port closes. Give a little more than it takes to notice. Implies `--drain` for as long.
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub(crate) lame_duck: Option<Duration>,
    #[command(flatten)]
    pub(crate) quotas: QuotaArgs,
    #[command(flatten)]
    pub(crate) http: Http,
}

/// Quotas of the hub, its modules and its executions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quotas")]
pub(crate) struct QuotaArgs {
    /// Live instances; one more is refused [default: no limit]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) max_instances: Option<usize>,
    /// Live instances of one module [default: no limit]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) max_instances_per_module: Option<usize>,
    /// Bytes in use in the hub's file, beyond which nothing is started [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = value::some_bytes)]
    pub(crate) max_hub_bytes: Option<usize>,
    /// Events in the history of one execution, which fails beyond [default: no limit]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) max_history_events: Option<usize>,
    /// Bytes in the history of one execution, which fails beyond [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = value::some_bytes)]
    pub(crate) max_history_bytes: Option<usize>,
    /// Activities that run at once for the instances of one module; others wait [default: no limit]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) max_activities_per_module: Option<usize>,
    /// Requests that wait for the disk; one more is refused [default: 10000]
    #[arg(long, value_name = "N", value_parser = value::at_least_one)]
    pub(crate) max_requests: Option<usize>,
}

/// How the HTTP API is served.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP options")]
pub(crate) struct Http {
    /// Address of the HTTP API, or `none` for no HTTP at all; port 0 is a free one
    ///
    /// An address that others can reach needs a key: see `perennial keys create`.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PERENNIAL_LISTEN",
        default_value = "127.0.0.1:7071",
        hide_env_values = true,
        value_parser = value::listen
    )]
    pub(crate) listen: Listen,
    /// Address of its own for gRPC, which the Durable Task SDKs use; they expect `127.0.0.1:4001`
    ///
    /// The address of the HTTP API serves gRPC too.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PERENNIAL_GRPC",
        hide_env_values = true,
        value_parser = value::listen
    )]
    pub(crate) grpc: Option<Listen>,
    /// Serve the API alone, without the dashboard
    #[arg(long)]
    pub(crate) no_dashboard: bool,
    /// Require a key on a loopback address too
    #[arg(long)]
    pub(crate) require_key: bool,
    /// What URLs in answers begin with, such as `https://flows.example.com`; keys are needed then
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Trust the headers X-Forwarded-Host, -Proto and -Prefix of a reverse proxy; keys are needed then
    #[arg(long)]
    pub(crate) trust_forwarded: bool,
    /// Let web pages of this origin use the API; may be given several times
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub(crate) origins: Vec<String>,
    /// Serve TLS with the certificates of this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Bytes that the body of a request may have [default: 4194304]
    #[arg(long, value_name = "BYTES", value_parser = value::some_bytes)]
    pub(crate) max_body: Option<usize>,
    /// Bytes that bodies and answers under way may take up together [default: 134217728]
    #[arg(long, value_name = "BYTES", value_parser = value::some_bytes)]
    pub(crate) max_http_memory: Option<usize>,
    /// Connections at once [default: 1024]
    #[arg(long, value_name = "COUNT", value_parser = value::at_least_one)]
    pub(crate) max_connections: Option<usize>,
    /// Connections at once from one address, this machine's too [default: 256, but for this machine and for a proxy in front]
    #[arg(long, value_name = "COUNT", value_parser = value::at_least_one)]
    pub(crate) max_connections_per_peer: Option<usize>,
}

/// The subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key and print it: it is not shown again
    Create {
        /// Its name, such as the program that will use it
        name: String,
        /// Allow it to read, but not to change anything
        #[arg(long)]
        read_only: bool,
    },
    /// List the keys, without the keys themselves
    List,
    /// Revoke a key
    Revoke {
        /// Its id, as `perennial keys list` shows it
        id: String,
    },
}
