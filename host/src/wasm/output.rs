//! Forwards the standard output and error of an activity to the log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::guest_log::{GuestLog, Output};

/// One output stream of an activity.
#[derive(Clone)]
pub(super) struct Lines {
    log: Arc<Mutex<GuestLog>>,
    output: Output,
}

impl Lines {
    /// A stream that writes to `log`.
    pub(super) fn new(log: &Arc<Mutex<GuestLog>>, output: Output) -> Self {
        Self {
            log: Arc::clone(log),
            output,
        }
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(self.output, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}
