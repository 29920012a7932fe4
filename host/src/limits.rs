//! The limits of the host, in one place. A test compares SECURITY.md with them.
//!
//! Limits that belong to an execution, and the lengths of texts, are in [`perennial_core::bounds`].

/// Bytes of a deployed component.
pub(crate) const COMPONENT_BYTES: usize = 64 << 20;
/// Bytes of compiled code in the cache directory; the least recently used is evicted first.
pub(crate) const CODE_CACHE_BYTES: u64 = 4 << 30;
/// Bytes of compiled code kept in memory if it cannot be written to the cache directory.
pub(crate) const CODE_KEPT_BYTES: usize = 192 << 20;

/// Files that an attempt has open, and files together with other resources.
pub(crate) const ATTEMPT_FILES: usize = 256;
pub(crate) const ATTEMPT_RESOURCES: usize = 512;

/// Changes in one transaction, and their bytes.
pub(crate) const TRANSACTION_CHANGES: usize = 1_024;
pub(crate) const TRANSACTION_BYTES: usize = 32 << 20;
/// Changes queued for the writer, and their bytes; beyond that the engine waits. Small in the tests of this crate.
pub(crate) const WRITER_CHANGES: usize = 8_192;
pub(crate) const WRITER_BYTES: usize = if cfg!(test) { 16 << 20 } else { 128 << 20 };

/// Keys of a hub. Each request is compared with all of them.
pub(crate) const KEYS: u32 = 1_000;

/// Limits of the HTTP server; some can be changed by the options named.
#[cfg(feature = "http")]
pub(crate) mod http {
    use std::time::Duration;

    /// Simultaneous connections (`--max-connections`). HTTP/1.1 has one request at a time on each, so this bounds requests too.
    pub(crate) const CONNECTIONS: usize = 1_024;
    /// Connections from one remote address (`--max-connections-per-peer`).
    pub(crate) const STRANGER_CONNECTIONS: usize = 256;
    /// Connections beyond the limit, which can only ask for the health of the host: a new one closes the oldest.
    pub(crate) const DOOR_CONNECTIONS: usize = 64;
    /// How long such a connection may last.
    pub(crate) const DOOR_TIMEOUT: Duration = Duration::from_secs(5);

    /// Bytes of all request bodies and answers in flight (`--max-http-memory`).
    pub(crate) const MEMORY_BYTES: u64 = 128 << 20;
    /// Bytes of a body and of an answer that each connection has outside that budget, so that small requests never depend on large ones.
    pub(crate) const FREE_BYTES: usize = 16 << 10;

    /// Bytes of a request body (`--max-body`): four times the largest payload of the default limits.
    pub(crate) const BODY_BYTES: usize = 4 << 20;
    /// How long a caller may take to send a body, and to send its next bytes.
    pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
    pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Bytes of an unwanted body that the server still reads. Otherwise a client that reads the answer only after sending would get a
    /// broken pipe.
    pub(crate) const DISCARDED_BYTES: usize = 128 << 20;
    pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

    /// Bytes and headers in the head of a request.
    pub(crate) const HEAD_BYTES: usize = 64 << 10;

    /// Parameters of a query.
    pub(crate) const QUERY_PARAMETERS: usize = 1_000;
    pub(crate) const HEADERS: usize = 100;
    /// How long a caller may take for the head of a request, or be idle between two requests.
    pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
    /// How long a TLS handshake may take.
    pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// Simultaneous requests on one connection of HTTP/2.
    pub(crate) const STREAMS: u32 = 512;
    /// Bytes of the head of each, and of all bodies on the connection that are not processed yet.
    pub(crate) const STREAM_HEAD_BYTES: u32 = 16 << 10;
    pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;
    /// Simultaneous calls of gRPC in all; waits count too.
    #[cfg(feature = "grpc")]
    pub(crate) const CALLS: usize = 16_384;
    /// Streams of work items, which workers hold, in all and with one key.
    #[cfg(feature = "grpc")]
    pub(crate) const WORK_STREAMS: usize = 1_024;
    #[cfg(feature = "grpc")]
    pub(crate) const WORK_STREAMS_OF_KEY: usize = 256;
    /// Bytes of a message of gRPC.
    #[cfg(feature = "grpc")]
    pub(crate) const MESSAGE_BYTES: usize = 64 << 20;
    /// How long a connection of HTTP/2 may be without a request. Its callers expect to keep it for long.
    pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
    /// How often an idle peer of HTTP/2 is asked whether it is there, and how long it may take to answer.
    pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
    pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);

    /// How long writes of an answer may stall in total, beyond the time earned by bytes taken.
    pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Bytes that earn a caller one more second; a slower reader is cut off.
    pub(crate) const BYTES_PER_SECOND: u64 = 16 << 10;

    /// The longest wait of a request for an instance.
    pub(crate) const WAIT: Duration = Duration::from_secs(230);

    /// Pieces that a follower may be behind, and bytes of recent pieces kept for followers that are behind.
    pub(crate) const FOLLOWER_PIECES: usize = 4;
    pub(crate) const RECENT_BYTES: u64 = 4 << 20;
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use std::time::Duration;

    use super::http::*;
    use super::*;

    fn bytes(bytes: u64) -> String {
        match bytes {
            _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
            _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
            _ => format!("{} KiB", bytes >> 10),
        }
    }

    fn size(size: usize) -> String {
        bytes(size as u64)
    }

    fn count(count: usize) -> String {
        match count {
            1_000.. => format!("{},{:03}", count / 1_000, count % 1_000),
            _ => count.to_string(),
        }
    }

    fn span(span: Duration) -> String {
        format!("{} s", span.as_secs())
    }

    fn says(document: &str, begins: &str, amounts: &[String]) {
        let mut lines = document.lines().filter(|line| line.starts_with(begins));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            panic!("not one line of SECURITY.md begins with {begins:?}")
        };
        let mut rest = line;
        for amount in amounts {
            match rest.split_once(amount.as_str()) {
                Some((_, after)) => rest = after,
                None => panic!("SECURITY.md should say {amount} here: {line}"),
            }
        }
    }

    fn security_md() -> std::io::Result<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md");
        std::fs::read_to_string(path)
    }

    #[test]
    fn security_md_says_what_the_limits_of_http2_and_grpc_are() {
        let document = security_md().unwrap();
        let says = |begins, amounts: &[String]| says(&document, begins, amounts);
        says(
            "| a connection of HTTP/2 |",
            &[
                count(STREAMS as usize),
                bytes(STREAM_HEAD_BYTES.into()),
                bytes(CONNECTION_WINDOW.into()),
            ],
        );
        says(
            "| a silent peer of HTTP/2 |",
            &[span(PING_EVERY), span(PING_TIMEOUT), span(IDLE_TIMEOUT)],
        );
        says("| calls of gRPC |", &[count(CALLS)]);
        says(
            "| streams of work items |",
            &[count(WORK_STREAMS), count(WORK_STREAMS_OF_KEY)],
        );
        says("| a message of gRPC |", &[size(MESSAGE_BYTES)]);
    }

    #[test]
    fn security_md_says_what_the_limits_are() {
        let document = security_md().unwrap();
        // Finds a table row or a sentence by its beginning, and compares the numbers in it, in order.
        let says = |begins, amounts: &[String]| says(&document, begins, amounts);
        says("| connections |", &[count(CONNECTIONS)]);
        says(
            "| connections from one address",
            &[count(STRANGER_CONNECTIONS)],
        );
        says(
            "| at the door |",
            &[count(DOOR_CONNECTIONS), span(DOOR_TIMEOUT)],
        );
        says(
            "| bytes of bodies and answers under way",
            &[bytes(MEMORY_BYTES), size(FREE_BYTES)],
        );
        says(
            "| a body |",
            &[
                size(BODY_BYTES),
                size(COMPONENT_BYTES),
                span(BODY_TIMEOUT),
                span(BODY_IDLE_TIMEOUT),
                size(DISCARDED_BYTES),
                span(DISCARD_TIMEOUT),
            ],
        );
        says(
            "| the head of a request",
            &[
                size(HEAD_BYTES),
                format!("{} headers", count(HEADERS)),
                span(HEAD_TIMEOUT),
                span(HANDSHAKE_TIMEOUT),
            ],
        );
        says(
            "| an answer that its caller does not take",
            &[span(WRITE_TIMEOUT), bytes(BYTES_PER_SECOND)],
        );
        says("| a wait |", &[span(WAIT)]);
        says(
            "| followers of an instance",
            &[
                format!("{} pieces", count(FOLLOWER_PIECES)),
                bytes(RECENT_BYTES),
            ],
        );
        says("| keys of a hub |", &[count(KEYS as usize)]);
        says(
            "| compiled code that no directory takes |",
            &[size(CODE_KEPT_BYTES)],
        );
        says(
            "| compiled code in the directory `cache` |",
            &[bytes(CODE_CACHE_BYTES)],
        );
        says(
            "| files that an attempt has open |",
            &[count(ATTEMPT_FILES), count(ATTEMPT_RESOURCES)],
        );
        says(
            "The writer takes at most",
            &[
                count(TRANSACTION_CHANGES),
                size(TRANSACTION_BYTES),
                count(WRITER_CHANGES),
                "128 MiB".to_owned(),
            ],
        );
    }
}
