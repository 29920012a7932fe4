//! A connection that is closed if its peer does not read.
//!
//! Invariant: a caller that does not read is disconnected. Its patience, a time limit for stalls, grows with the bytes that it takes.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::http::places::Caller;
use crate::limits::http as limits;

/// A stream whose writes may stall only for a limited time.
pub(crate) struct Line<S> {
    stream: S,
    caller: Arc<Caller>,
    patience_max: Duration,
    patience: Duration,
    /// Since when writes stall, and a timer for the end of the patience.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
    /// When the last stall ended.
    moved: Instant,
}

impl<S> Line<S> {
    pub(crate) fn new(stream: S, caller: Arc<Caller>, patience: Duration) -> Self {
        Self {
            stream,
            caller,
            patience_max: patience,
            patience,
            stalled: None,
            moved: Instant::now(),
        }
    }

    /// Processes the result of a write; a stalled write fails when the patience is used up.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(wrote) => {
                if let Some((since, _)) = self.stalled.take() {
                    self.moved = Instant::now();
                    let bytes = wrote.as_ref().map_or(0, |bytes| *bytes as u64);
                    let earned = Duration::from_millis(bytes * 1_000 / limits::BYTES_PER_SECOND);
                    let left = self.patience.saturating_sub(self.moved - since);
                    self.patience = (left + earned).min(self.patience_max);
                    self.caller.moves();
                }
                Poll::Ready(wrote)
            }
            Poll::Pending => {
                if self.stalled.is_none() {
                    let now = Instant::now();
                    let rested = self.patience + (now - self.moved);
                    self.patience = rested.min(self.patience_max);
                    let end = Box::pin(tokio::time::sleep_until(now + self.patience));
                    self.stalled = Some((now, end));
                    self.caller.stalls();
                }
                if let Some((_, end)) = &mut self.stalled {
                    ready!(end.as_mut().poll(cx));
                }
                let why = "the caller does not read what it is answered";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::places::{Places, PlacesMax};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn line(patience: Duration) -> (Line<DuplexStream>, DuplexStream) {
        let places = Places::new(PlacesMax {
            all: 1,
            peer: None,
            stranger: 1,
        });
        let place = places.enter([127, 0, 0, 1].into());
        let (ours, theirs) = duplex(1_024);
        let line = Line::new(ours, Arc::clone(&place.caller), patience);
        (line, theirs)
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off() {
        let patience = Duration::from_millis(50);
        let (mut line, _theirs) = line(patience);
        let begun = Instant::now();
        let error = line.write_all(&[0; 4_096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= patience);
    }

    #[tokio::test]
    async fn who_reads_a_byte_now_and_then_is_cut_off_too() {
        let (mut line, mut theirs) = line(Duration::from_millis(200));
        let reads = async {
            while theirs.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            wrote = line.write_all(&[0; 64 << 10]) => {
                assert_eq!(wrote.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            () = reads => panic!("the line was closed"),
        }
    }

    #[tokio::test]
    async fn who_reads_slowly_but_steadily_gets_everything() {
        const BYTES: usize = 64 << 10;
        let patience = Duration::from_secs(1);
        let (mut line, mut theirs) = line(patience);
        let reads = async {
            let (mut buffer, mut read) = ([0; 1_024], 0);
            while read < BYTES {
                tokio::time::sleep(Duration::from_millis(25)).await;
                read += theirs.read(&mut buffer).await.unwrap();
            }
        };
        let begun = Instant::now();
        let (wrote, ()) = tokio::join!(line.write_all(&[0; BYTES]), reads);
        wrote.unwrap();
        assert!(begun.elapsed() > patience);
    }
}
