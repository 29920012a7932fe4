//! The local socket beside a hub: how other processes tell the owner that a command waits.
//!
//! A connection is the whole message. The owner answers every command that waits in the hub, and closes it; where it cannot, it says why
//! first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::engine::Engine;
use crate::outage::warn_seldom;
use crate::store::{FileId, with_suffix};

/// What the operating system allows a socket's path to have, less the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// Starts to listen, and says so in the hub's lock. Without a socket other processes still append commands, which wait until the next
/// host opens the hub; that is worth a warning and nothing more.
pub(crate) fn listen(engine: &Arc<Engine>) -> Option<(oneshot::Sender<()>, JoinHandle<()>)> {
    let path = socket_path(engine.path());
    // What an owner that died left behind. Only the holder of the lock comes here.
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
    // Commands that came while nobody listened.
    take(&engine).await;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((mut stream, _)) => {
                    let engine = Arc::clone(&engine);
                    connections.spawn(async move {
                        if let Some(why) = take(&engine).await {
                            // Whoever has gone away does not want to know.
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
    // Where another owner took the hub over, its socket is there now.
    if FileId::of(&path).ok() == socket {
        let _ = std::fs::remove_file(path);
    }
}

/// Takes the commands that wait. Why that could not be done, if it could not.
async fn take(engine: &Arc<Engine>) -> Option<String> {
    let error = engine.take_commands().await.err()?;
    tracing::warn!(%error, "could not take the commands of another process; they stay in the hub");
    Some(error.to_string())
}

/// Beside the hub or, where that path is too long for a socket, in the directory for temporary files.
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
