//! How other processes tell the owner of a hub that commands wait: on a socket beside the file, or through the database.
//!
//! A connection to the socket carries no request: the owner answers all waiting commands in the hub, and closes the connection. If it cannot answer them,
//! it first writes the reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::engine::Engine;
#[cfg(feature = "postgres")]
use crate::engine::requests::commands::TAKE_AGAIN_AFTER;
use crate::foreign::guarded_async;
use crate::outage::warn_seldom;
#[cfg(feature = "postgres")]
use crate::store::{Address, Partitions, Told};
use crate::store::{FileId, Place, with_suffix};

/// The maximum length of a socket's path, without the NUL at its end.
const SOCKET_PATH_MAX: usize = 107;

/// How long a lost connection to a database is left alone before the next try.
#[cfg(feature = "postgres")]
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// How often commands are looked for that nothing has told of, and the connection is asked whether it is one still: something in between may
/// swallow what the database tells.
#[cfg(feature = "postgres")]
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts to listen for commands of other processes.
pub(crate) fn listen(engine: &Arc<Engine>) -> Option<(oneshot::Sender<()>, JoinHandle<()>)> {
    match engine.place() {
        Place::File(path) => listen_at(engine, path),
        #[cfg(test)]
        Place::Memory(..) => None,
        #[cfg(feature = "postgres")]
        Place::Postgres(address, ..) => {
            let (stop, stopped) = oneshot::channel();
            let (engine, address) = (Arc::clone(engine), (**address).clone());
            Some((stop, tokio::spawn(serve_database(engine, address, stopped))))
        }
    }
}

/// Starts to listen beside the file of a hub, and writes the socket's path into the hub's lock file. If the socket cannot be created, this
/// only logs a warning: commands of other processes then wait until the next host opens the hub.
fn listen_at(engine: &Arc<Engine>, hub: &Path) -> Option<(oneshot::Sender<()>, JoinHandle<()>)> {
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

/// Takes the commands in a database: those that are there, and then whenever the database tells of one. Connects again when the connection
/// is lost.
#[cfg(feature = "postgres")]
async fn serve_database(engine: Arc<Engine>, address: Address, mut stopped: oneshot::Receiver<()>) {
    let told = engine.new_commands();
    let mut connection: Option<Arc<Told>> = None;
    let mut asking: Option<JoinHandle<()>> = None;
    loop {
        if connection
            .as_ref()
            .is_none_or(|connection| connection.is_lost())
        {
            let (address, told) = (address.clone(), Arc::clone(&told));
            let of = Arc::downgrade(&engine);
            let own = move || {
                let engine = of.upgrade();
                engine.map_or(Partitions::some(1, []), |engine| engine.partitions())
            };
            let listen = move || Told::listen(&address, own, move || told.notify_one());
            connection = match tokio::task::spawn_blocking(listen).await {
                Ok(Ok(listening)) => Some(Arc::new(listening)),
                Ok(Err(error)) => {
                    warn_seldom!(%error, "the database tells nothing of commands of other processes");
                    None
                }
                Err(_) => None,
            };
        }
        // Also those that came before the database was listened to.
        let has_failed = connection.is_some() && take(&engine).await.is_some();
        let again_after = match connection {
            Some(_) if has_failed => TAKE_AGAIN_AFTER,
            Some(_) => LOOK_EVERY,
            None => RECONNECT_DELAY,
        };
        tokio::select! {
            _ = &mut stopped => return,
            () = told.notified() => {}
            () = tokio::time::sleep(again_after) => {
                if let Some(connection) = &connection
                    && asking.as_ref().is_none_or(JoinHandle::is_finished)
                {
                    // One that does not answer is lost after some seconds, in which commands are taken.
                    let connection = Arc::clone(connection);
                    asking = Some(tokio::task::spawn_blocking(move || connection.ask()));
                }
            }
        }
        if engine.is_stopping() {
            return;
        }
    }
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
                    tokio::time::sleep(Duration::from_millis(100)).await;
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
    let error = match guarded_async(engine.take_commands()).await {
        Ok(taken) => taken.err()?.to_string(),
        Err(why) => why,
    };
    warn_seldom!(%error, "could not take the commands of another process; they stay in the hub");
    Some(error)
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
