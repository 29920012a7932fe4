//! The HTTP API of `perennial serve`: opened before the host starts, served while it runs, drained before it ends.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use anyhow::Context;
use perennial::Client;
use perennial::http::{Api, Tls, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::args::Http;
use crate::error::{CliError, Exit};
use crate::session::Session;

/// An open socket, with its TLS settings.
pub(super) struct Opened {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// A running server of the API.
pub(super) struct Served {
    stop: oneshot::Sender<()>,
    task: JoinHandle<usize>,
    /// What its URLs begin with.
    pub(super) url: String,
}

/// Opens the socket and reads the certificates, so that errors show before any host starts.
pub(super) async fn open(args: &Http, session: &Session) -> anyhow::Result<Option<Opened>> {
    let Some(address) = &args.listen.0 else {
        return Ok(None);
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => Some(Tls::from_files(certificates, key)?),
        _ => None,
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| cannot_listen(address, &error))?;
    let address = listener.local_addr().context("the socket has no address")?;
    let client = session.client()?;
    let must_have_key = api(args, client.clone())?.is_exposed_on(address) || args.require_key;
    if must_have_key && keys(&client).await? == 0 {
        let message = format!(
            "the HTTP API on {address} needs a key, and task hub {:?} has none",
            session.task_hub()
        );
        let said = CliError::new(Exit::Usage, message);
        return Err(said
            .hint("`perennial keys create NAME` makes one; without one, only programs of this machine are let in, as with --listen 127.0.0.1:7071")
            .into());
    }
    Ok(Some(Opened {
        listener,
        address,
        tls,
    }))
}

fn cannot_listen(address: &str, error: &std::io::Error) -> anyhow::Error {
    let said = CliError::new(
        Exit::Error,
        format!("the HTTP API cannot listen on {address}: {error}"),
    );
    said.hint("--listen names another address; port 0 takes a free port, and `none` turns HTTP off")
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

impl Opened {
    /// What the URLs of instances begin with.
    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.address.ip().is_unspecified() {
            return format!("{scheme}://localhost:{}", self.address.port());
        }
        format!("{scheme}://{}", self.address)
    }

    /// The base of the management URLs that activities are given.
    pub(super) fn management_url(&self, args: &Http) -> String {
        let base = args.base_url.clone().unwrap_or_else(|| self.url());
        let base = base.trim_end_matches('/');
        format!("{base}/runtime/webhooks/durabletask?connection=Storage")
    }

    /// Starts to serve these hubs; the first is for requests that name none. It can be called again after a stop: the socket stays open.
    pub(super) fn serve(&self, args: &Http, hubs: Vec<Client>) -> anyhow::Result<Served> {
        let mut hubs = hubs.into_iter();
        let first = hubs.next().context("there is no task hub to serve")?;
        let api = hubs.fold(api(args, first)?, Api::hub);
        let api = if api.is_exposed_on(self.address) || args.require_key {
            api.require_keys()
        } else {
            api.this_machine_only()
        };
        let url = self.url();
        let (stop, stopped) = oneshot::channel();
        let listener = self.listener.as_fd().try_clone_to_owned();
        let listener = listener.and_then(|own| TcpListener::from_std(own.into()));
        let listener = listener.context("the socket cannot be used")?;
        let task = tokio::spawn(serve(listener, api, self.tls.clone(), async {
            // Told to stop, or nobody is left who could tell.
            let _ = stopped.await;
        }));
        Ok(Served { stop, task, url })
    }
}

impl Served {
    /// Accepts no more requests, and answers the pending ones.
    pub(super) async fn stop(self) {
        // One that has ended already does not need to be told.
        let _ = self.stop.send(());
        match self.task.await {
            Ok(0) => {}
            Ok(left) => tracing::warn!(left, "requests were cut off: they took too long to end"),
            Err(error) => tracing::error!(%error, "the HTTP server ended badly"),
        }
    }
}
