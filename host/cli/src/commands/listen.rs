//! The addresses of `perennial serve`, of the HTTP API and of gRPC: opened before the host starts, served while it runs, drained before it ends.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use anyhow::Context;
use perennial::http::{Api, Tls, serve};
use perennial::{Client, HostBuilder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::args::Http;
use crate::error::{CliError, Exit};
use crate::session::Session;

/// Open sockets, with their TLS settings.
pub(super) struct Opened {
    http: Option<Socket>,
    /// An address only for gRPC.
    grpc: Option<Socket>,
    tls: Option<Tls>,
}

/// An open socket.
struct Socket {
    listener: TcpListener,
    address: SocketAddr,
}

/// A running server of the API.
pub(super) struct Served {
    running: Vec<(oneshot::Sender<()>, JoinHandle<usize>)>,
    /// What the URLs of the HTTP API begin with.
    pub(super) url: Option<String>,
    /// The URL for gRPC, if it has an address of its own.
    pub(super) grpc: Option<String>,
}

/// Opens the sockets and reads the certificates, so that errors show before any host starts.
pub(super) async fn open(args: &Http, session: &Session) -> anyhow::Result<Option<Opened>> {
    let grpc = args.grpc.as_ref().and_then(|grpc| grpc.0.as_deref());
    if args.listen.0.is_none() && grpc.is_none() {
        return Ok(None);
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => Some(Tls::from_files(certificates, key)?),
        _ => None,
    };
    let http = match &args.listen.0 {
        Some(address) => Some(bind(address, ("the HTTP API", "--listen"), args, session).await?),
        None => None,
    };
    let grpc = match grpc {
        Some(address) => Some(bind(address, ("gRPC", "--grpc"), args, session).await?),
        None => None,
    };
    Ok(Some(Opened { http, grpc, tls }))
}

/// Opens a socket, if there is a key where one is needed. `what` names what it is for, and the option that sets its address.
async fn bind(
    address: &str,
    what: (&str, &str),
    args: &Http,
    session: &Session,
) -> anyhow::Result<Socket> {
    let (what, option) = what;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| cannot_listen(address, what, option, &error))?;
    let address = listener.local_addr().context("the socket has no address")?;
    let client = session.client()?;
    let must_have_key = api(args, client.clone())?.is_exposed_on(address) || args.require_key;
    if must_have_key && keys(&client).await? == 0 {
        let message = format!(
            "{what} on {address} needs a key, and task hub {:?} has none",
            session.task_hub()
        );
        let said = CliError::new(Exit::Usage, message);
        return Err(said
            .hint("`perennial keys create NAME` makes one; without one, only programs of this machine are let in, as with --listen 127.0.0.1:7071")
            .into());
    }
    Ok(Socket { listener, address })
}

fn cannot_listen(address: &str, what: &str, option: &str, error: &std::io::Error) -> anyhow::Error {
    let said = CliError::new(
        Exit::Error,
        format!("{what} cannot listen on {address}: {error}"),
    );
    let none = if option == "--listen" {
        ", and `none` turns HTTP off"
    } else {
        ""
    };
    said.hint(format!(
        "{option} names another address; port 0 takes a free port{none}"
    ))
    .into()
}

/// How many keys there are; none where there is no hub yet.
async fn keys(client: &Client) -> anyhow::Result<usize> {
    match client.keys().await {
        Ok(keys) => Ok(keys.len()),
        Err(error) if error.is_not_found() => Ok(0),
        // They are looked at with each request, once the hub can be read.
        Err(error) if error.is_unavailable() => Ok(1),
        Err(error) => Err(error.into()),
    }
}

fn api(args: &Http, client: Client) -> anyhow::Result<Api> {
    let mut api = Api::new(client);
    if !args.no_dashboard {
        api = api.pages(perennial_dashboard::pages());
    }
    if let Some(url) = &args.base_url {
        api = api.base_url(url);
    }
    if args.trust_forwarded {
        api = api.trust_forwarded();
    }
    if let Some(bytes) = args.max_body {
        api = api.body_bytes_max(bytes);
    }
    if let Some(bytes) = args.max_http_memory {
        api = api.memory_max(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
    if let Some(count) = args.max_connections {
        api = api.connections_max(count);
    }
    if let Some(count) = args.max_connections_per_peer {
        api = api.connections_per_peer_max(count);
    }
    for origin in &args.origins {
        api = api
            .allow_origin(origin)
            .context("cannot use --allow-origin")?;
    }
    Ok(api)
}

impl Socket {
    /// What the URLs of this address begin with.
    fn url(&self, is_tls: bool) -> String {
        let scheme = if is_tls { "https" } else { "http" };
        if self.address.ip().is_unspecified() {
            return format!("{scheme}://localhost:{}", self.address.port());
        }
        format!("{scheme}://{}", self.address)
    }

    /// Serves an API here until it is told to stop.
    fn serve(
        &self,
        api: Api,
        tls: Option<Tls>,
        requires_key: bool,
    ) -> anyhow::Result<(oneshot::Sender<()>, JoinHandle<usize>)> {
        let api = if api.is_exposed_on(self.address) || requires_key {
            api.require_keys()
        } else {
            api.this_machine_only()
        };
        let (stop, stopped) = oneshot::channel();
        let listener = self.listener.as_fd().try_clone_to_owned();
        let listener = listener.and_then(|own| TcpListener::from_std(own.into()));
        let listener = listener.context("the socket cannot be used")?;
        let task = tokio::spawn(serve(listener, api, tls, async {
            // Told to stop, or nobody is left who could tell.
            let _ = stopped.await;
        }));
        Ok((stop, task))
    }
}

impl Opened {
    /// Tells a host where its HTTP API listens, and the base of the management URLs that activities are given, if there is one.
    pub(super) fn told_to(&self, builder: HostBuilder, args: &Http) -> HostBuilder {
        let Some(http) = &self.http else {
            return builder;
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        builder
            .listens_at(format!("{scheme}://{}", http.address))
            .management_url(self.management_url(http, args))
    }

    fn management_url(&self, http: &Socket, args: &Http) -> String {
        let base = args.base_url.clone();
        let base = base.unwrap_or_else(|| http.url(self.tls.is_some()));
        let base = base.trim_end_matches('/');
        format!("{base}/runtime/webhooks/durabletask?connection=Storage")
    }

    /// Starts to serve these hubs; the first is for requests that name none. It can be called again after a stop: the sockets stay open.
    pub(super) fn serve(&self, args: &Http, hubs: Vec<Client>) -> anyhow::Result<Served> {
        let mut hubs = hubs.into_iter();
        let first = hubs.next().context("there is no task hub to serve")?;
        let api = hubs.fold(api(args, first)?, Api::hub);
        let (mut running, is_tls) = (Vec::new(), self.tls.is_some());
        if let Some(http) = &self.http {
            running.push(http.serve(api.clone(), self.tls.clone(), args.require_key)?);
        }
        if let Some(grpc) = &self.grpc {
            let api = api.only_grpc();
            running.push(grpc.serve(api, self.tls.clone(), args.require_key)?);
        }
        let url = |socket: &Option<Socket>| socket.as_ref().map(|socket| socket.url(is_tls));
        Ok(Served {
            running,
            url: url(&self.http),
            grpc: url(&self.grpc),
        })
    }
}

impl Served {
    /// Accepts no more requests, and answers the pending ones.
    pub(super) async fn stop(self) {
        let (stops, tasks): (Vec<_>, Vec<_>) = self.running.into_iter().unzip();
        for stop in stops {
            // One that has ended already does not need to be told.
            let _ = stop.send(());
        }
        for task in tasks {
            match task.await {
                Ok(0) => {}
                Ok(left) => {
                    tracing::warn!(left, "requests were cut off: they took too long to end");
                }
                Err(error) => tracing::error!(%error, "the server ended badly"),
            }
        }
    }
}
