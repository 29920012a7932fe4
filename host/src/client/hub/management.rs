//! The management URLs of an instance.

use std::fmt::Write;

use perennial_core::check_instance_id;
use serde::{Deserialize, Serialize};

use crate::client::{Client, Error, Result};

/// The management URLs of an instance: the body of `CreateHttpManagementPayload` in Durable Functions.
///
/// They contain `{eventName}` and `{text}` literally: the caller replaces them by the name of the event or the reason. In JSON the fields
/// are in camel case: `id`, `statusQueryGetUri`, `sendEventPostUri` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpManagementPayload {
    /// The instance's id, not escaped.
    pub id: String,
    /// `GET` returns the status.
    pub status_query_get_uri: String,
    /// `POST` raises an event. Replace `{eventName}` by its name.
    pub send_event_post_uri: String,
    /// `POST` terminates the instance. Replace `{text}` by the reason.
    pub terminate_post_uri: String,
    /// `POST` rewinds the failed instance.
    pub rewind_post_uri: String,
    /// `DELETE` deletes the ended instance and its history.
    pub purge_history_delete_uri: String,
    /// `POST` restarts the instance.
    pub restart_post_uri: String,
    /// `POST` suspends the instance.
    pub suspend_post_uri: String,
    /// `POST` resumes the instance.
    pub resume_post_uri: String,
}

impl HttpManagementPayload {
    /// Builds the URLs below `base_url`, the parent of `/instances`, such as `http://localhost:7071/runtime/webhooks/durabletask`.
    ///
    /// The query of `base_url`, such as `?code=KEY`, is appended to each URL, after the name of the task hub.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the base is not an absolute `http` or `https` URL, or the id is invalid.
    pub fn new(base_url: &str, task_hub: &str, id: &str) -> Result<Self> {
        check_instance_id(id).map_err(|problem| Error::invalid(problem.to_string()))?;
        let (base, query) = split_base(base_url)?;
        let escaped = escape(id);
        let hub = escape(task_hub);
        let uri = |path: &str, first: &str| {
            let mut uri = format!("{base}/instances/{escaped}{path}?{first}taskHub={hub}");
            if !query.is_empty() {
                uri.push('&');
                uri.push_str(query);
            }
            uri
        };
        const REASON: &str = "reason={text}&";
        Ok(Self {
            id: id.to_owned(),
            status_query_get_uri: uri("", ""),
            send_event_post_uri: uri("/raiseEvent/{eventName}", ""),
            terminate_post_uri: uri("/terminate", REASON),
            rewind_post_uri: uri("/rewind", REASON),
            purge_history_delete_uri: uri("", ""),
            restart_post_uri: uri("/restart", ""),
            suspend_post_uri: uri("/suspend", REASON),
            resume_post_uri: uri("/resume", REASON),
        })
    }
}

impl Client {
    /// The management URLs of an instance of this task hub, below the URL of a server that serves it.
    ///
    /// The instance need not exist yet.
    ///
    /// ```
    /// # fn example() -> perennial::Result<()> {
    /// let client = perennial::Client::open(".perennial", "default")?;
    /// let base = "https://flows.example.com/runtime/webhooks/durabletask?code=secret";
    /// let payload = client.http_management_payload("order-17", base)?;
    /// assert_eq!(
    ///     payload.terminate_post_uri,
    ///     "https://flows.example.com/runtime/webhooks/durabletask/instances/order-17/terminate?reason={text}&taskHub=default&code=secret"
    /// );
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the base is not an absolute `http` or `https` URL, or the id is invalid.
    pub fn http_management_payload(
        &self,
        id: &str,
        base_url: &str,
    ) -> Result<HttpManagementPayload> {
        HttpManagementPayload::new(base_url, self.task_hub(), id)
    }
}

/// The base without a trailing slash, and its query without the question mark.
fn split_base(base_url: &str) -> Result<(&str, &str)> {
    let (base, query) = base_url.split_once('?').unwrap_or((base_url, ""));
    let host = ["http://", "https://"].iter().find_map(|scheme| {
        base.get(..scheme.len())
            .filter(|start| start.eq_ignore_ascii_case(scheme))
            .map(|_| &base[scheme.len()..])
    });
    let names_host = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'));
    let is_clean = base_url
        .chars()
        .all(|c| !c.is_control() && !c.is_whitespace() && c != '#');
    if !names_host || !is_clean {
        return Err(Error::invalid(format!(
            "the base URL {base_url:?} must be like http://localhost:7071/runtime/webhooks/durabletask"
        )));
    }
    Ok((base.trim_end_matches('/'), query.trim_matches('&')))
}

/// Percent-encodes a text for a URL's path or query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_payload_is_the_documented_one() {
        let base =
            "http://localhost:7071/runtime/webhooks/durabletask/?connection=Storage&code=XXX";
        let payload = HttpManagementPayload::new(base, "HUB", "abc123").unwrap();
        expect![[r#"
            {
              "id": "abc123",
              "statusQueryGetUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123?taskHub=HUB&connection=Storage&code=XXX",
              "sendEventPostUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123/raiseEvent/{eventName}?taskHub=HUB&connection=Storage&code=XXX",
              "terminatePostUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123/terminate?reason={text}&taskHub=HUB&connection=Storage&code=XXX",
              "rewindPostUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123/rewind?reason={text}&taskHub=HUB&connection=Storage&code=XXX",
              "purgeHistoryDeleteUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123?taskHub=HUB&connection=Storage&code=XXX",
              "restartPostUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123/restart?taskHub=HUB&connection=Storage&code=XXX",
              "suspendPostUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123/suspend?reason={text}&taskHub=HUB&connection=Storage&code=XXX",
              "resumePostUri": "http://localhost:7071/runtime/webhooks/durabletask/instances/abc123/resume?reason={text}&taskHub=HUB&connection=Storage&code=XXX"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&payload).unwrap());
        let json = serde_json::to_string(&payload).unwrap();
        assert_eq!(
            serde_json::from_str::<HttpManagementPayload>(&json).unwrap(),
            payload
        );
    }

    #[test]
    fn an_id_is_escaped_and_shown_as_it_is() {
        let payload =
            HttpManagementPayload::new("HTTPS://h", "default", "a b%41&\u{fc}:x").unwrap();
        assert_eq!(payload.id, "a b%41&\u{fc}:x");
        assert_eq!(
            payload.status_query_get_uri,
            "HTTPS://h/instances/a%20b%2541%26%C3%BC%3Ax?taskHub=default"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for base in [
            "",
            "localhost:7071",
            "/x",
            "ftp://h",
            "http://",
            "http:///x",
            "http://h/ x",
            "http://h#x",
            "http://h\n",
        ] {
            assert!(
                HttpManagementPayload::new(base, "default", "a")
                    .unwrap_err()
                    .is_invalid(),
                "{base:?}"
            );
        }
        for id in ["", "a/b", "@a", "a?b"] {
            assert!(
                HttpManagementPayload::new("http://h", "default", id)
                    .unwrap_err()
                    .is_invalid(),
                "{id:?}"
            );
        }
    }
}
