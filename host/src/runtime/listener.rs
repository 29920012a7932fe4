//! The local socket beside a hub, on which other processes tell the owner that commands wait.
//!
//! A connection carries no request: the owner answers all waiting commands in the hub, and closes the connection. If it cannot answer them,
//! it first writes the reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::engine::Engine;
use crate::outage::warn_seldom;
use crate::store::{FileId, with_suffix};

/// The maximum length of a socket's path, without the NUL at its end.
const SOCKET_PATH_MAX: usize = 107;

/// Starts to listen, and writes the socket's path into the hub's lock file. If the socket cannot be created, this only logs a warning:
/// commands of other processes then wait until the next host opens the hub.
pub(crate) fn listen(
    engine: &Arc<Engine>,
    hub: &Path,
) -> Option<(oneshot::Sender<()>, JoinHandle<()>)> {
    let path = socket_path(hub);
    // A previous owner that crashed may have left a socket. Only the holder of the lock gets here.
    let _ = std::fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no other process can reach this host");
            engine.announce(None);
            return None;
        }
    };
    engine.announce(Some(path.clone()));
    let (stop, stopped) = oneshot::channel();
    let engine = Arc::clone(engine);
    Some((stop, tokio::spawn(serve(engine, listener, path, stopped))))
}

async fn serve(
    engine: Arc<Engine>,
    listener: UnixListener,
    path: PathBuf,
    mut stopped: oneshot::Receiver<()>,
) {
    let socket = FileId::of(&path).ok();
    let mut connections = JoinSet::new();
    // Commands that were appended before the socket existed.
    take(&engine).await;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((mut stream, _)) => {
                    let engine = Arc::clone(&engine);
                    connections.spawn(async move {
                        if let Some(why) = take(&engine).await {
                            // Writing fails if the peer has disconnected.
                            let _ = stream.write_all(why.as_bytes()).await;
                        }
                    });
                }
                Err(error) => {
                    warn_seldom!(%error, "could not accept a connection from another process");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    while connections.join_next().await.is_some() {}
    // If another owner has taken over the hub, the path leads to its socket.
    if FileId::of(&path).ok() == socket {
        let _ = std::fs::remove_file(path);
    }
}

/// Takes the waiting commands, and returns the reason if that failed.
async fn take(engine: &Arc<Engine>) -> Option<String> {
    let error = engine.take_commands().await.err()?;
    tracing::warn!(%error, "could not take the commands of another process; they stay in the hub");
    Some(error.to_string())
}

/// The path beside the hub or, if it is too long for a socket, in the directory for temporary files.
fn socket_path(hub: &Path) -> PathBuf {
    let beside = with_suffix(
        &std::path::absolute(hub).unwrap_or_else(|_| hub.to_owned()),
        ".sock",
    );
    if beside.as_os_str().len() <= SOCKET_PATH_MAX {
        return beside;
    }
    std::env::temp_dir().join(format!("perennial-{}.sock", uuid::Uuid::new_v4().simple()))
}
