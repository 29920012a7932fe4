//! The limits of a host, in one place. A test compares SECURITY.md with them.
//!
//! What goes with an execution, and how long texts may be, is in [`perennial_core::bounds`].

/// Bytes of a component that is deployed.
pub(crate) const COMPONENT_BYTES: usize = 64 << 20;
/// Bytes of compiled code in the cache's directory: what was not used for longest goes first.
pub(crate) const CODE_CACHE_BYTES: u64 = 4 << 30;
/// Bytes of compiled code in memory that no directory takes.
pub(crate) const CODE_KEPT_BYTES: usize = 192 << 20;

/// Files, and files with other resources, that an attempt has open.
pub(crate) const ATTEMPT_FILES: usize = 256;
pub(crate) const ATTEMPT_RESOURCES: usize = 512;

/// Changes, and bytes of them, in one transaction.
pub(crate) const TRANSACTION_CHANGES: usize = 1_024;
pub(crate) const TRANSACTION_BYTES: usize = 32 << 20;
/// Changes, and bytes of them, that wait for the writer: beyond that the engine waits. Few in the tests of this crate.
pub(crate) const WRITER_CHANGES: usize = 8_192;
pub(crate) const WRITER_BYTES: usize = if cfg!(test) { 16 << 20 } else { 128 << 20 };

/// Keys of a hub: each of them is compared with each request's.
pub(crate) const KEYS: u32 = 1_000;

/// The HTTP server. Options change those that have one.
#[cfg(feature = "http")]
pub(crate) mod http {
    use std::time::Duration;

    /// Connections at once (`--max-connections`). HTTP/1.1 has one request at a time on each, so this bounds requests too.
    pub(crate) const CONNECTIONS: usize = 1_024;
    /// Connections from one address of elsewhere (`--max-connections-per-peer`).
    pub(crate) const STRANGER_CONNECTIONS: usize = 256;
    /// Connections at the door, where a caller is told how the host is and nothing else: one more sends the oldest of them away.
    pub(crate) const DOOR_CONNECTIONS: usize = 64;
    /// How long a caller may stay there.
    pub(crate) const DOOR_TIMEOUT: Duration = Duration::from_secs(5);

    /// Bytes that all bodies and answers under way take up (`--max-http-memory`).
    pub(crate) const MEMORY_BYTES: u64 = 128 << 20;
    /// What a connection has for a body, and for an answer, without asking: small requests never depend on large ones.
    pub(crate) const FREE_BYTES: usize = 16 << 10;

    /// Bytes of a body (`--max-body`): four times the largest payload of the default limits.
    pub(crate) const BODY_BYTES: usize = 4 << 20;
    /// How long a caller may take for a body, and for the next bytes of it.
    pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
    pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
    /// What is still read of a body that nobody wants, so that its sender, who reads the answer afterwards, does not find a broken pipe.
    pub(crate) const DISCARDED_BYTES: usize = 128 << 20;
    pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

    /// Bytes and headers of the head of a request.
    pub(crate) const HEAD_BYTES: usize = 64 << 10;
    pub(crate) const HEADERS: usize = 100;
    /// How long a caller may take for the head of a request, or say nothing between two of them.
    pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
    /// How long a caller may take for the handshake of TLS.
    pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// How long an answer waits for its caller in all, beyond what the caller takes meanwhile.
    pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Bytes for which a caller has a second more: slower than that is not reading.
    pub(crate) const BYTES_PER_SECOND: u64 = 16 << 10;

    /// The longest that a request waits for an instance.
    pub(crate) const WAIT: Duration = Duration::from_secs(230);

    /// Pieces that a follower is behind, and bytes of what was read lately that are kept for those who are.
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

    #[test]
    fn security_md_says_what_the_limits_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md");
        let document = std::fs::read_to_string(path).unwrap();
        // A row of a table, or a sentence, by how it begins; and the numbers in it, in their order.
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
