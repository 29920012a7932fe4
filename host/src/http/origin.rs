//! Derives the URL under which the caller reaches this server, for links in answers.

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};

/// The scheme of a connection. [`serve`](crate::http::serve) adds it to each request; it is absent if another program mounts the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Plain,
    Tls,
}

/// The settings for URLs in answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct UrlSettings {
    /// The base of all URLs, set by the operator; it overrides the request.
    pub(crate) base_url: Option<String>,
    /// Whether to trust the headers of a proxy about the host that the caller used.
    pub(crate) trust_forwarded: bool,
}

/// Scheme, host and the router's mount path, without a trailing slash.
pub(crate) fn origin(settings: &UrlSettings, request: &Parts) -> String {
    if let Some(base) = &settings.base_url {
        return base.trim_end_matches('/').to_owned();
    }
    let headers = &request.headers;
    let forwarded = |name| {
        settings
            .trust_forwarded
            .then(|| first(headers, name))
            .flatten()
    };
    let scheme =
        forwarded("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https"));
    let scheme = scheme.unwrap_or(match request.extensions.get() {
        Some(Scheme::Tls) => "https",
        Some(Scheme::Plain) | None => "http",
    });
    let host = forwarded("x-forwarded-host").filter(|host| is_authority(host));
    let host = host
        .or_else(|| request.uri.authority().map(Authority::as_str))
        .or_else(|| first(headers, header::HOST.as_str()).filter(|host| is_authority(host)))
        .unwrap_or("localhost");
    let prefix = forwarded("x-forwarded-prefix").filter(|prefix| is_prefix(prefix));
    let prefix = prefix.unwrap_or_default().trim_end_matches('/');
    format!("{scheme}://{host}{prefix}{}", mount(request))
}

/// The port of the server, as the caller reaches it.
pub(crate) fn port(origin: &str) -> u16 {
    let (scheme, rest) = origin.split_once("://").unwrap_or(("http", origin));
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.parse::<Authority>().ok();
    let port = authority.and_then(|authority| authority.port_u16());
    port.unwrap_or(if scheme == "https" { 443 } else { 80 })
}

/// Whether a header `Origin` names the same scheme, host and port as an origin with a path.
pub(crate) fn is_same(given: &str, origin: &str) -> bool {
    let (scheme, rest) = origin.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    given.eq_ignore_ascii_case(&format!("{scheme}://{authority}"))
}

/// The path under which another program has mounted the router.
fn mount(request: &Parts) -> &str {
    let Some(original) = request.extensions.get::<OriginalUri>() else {
        return "";
    };
    let (original, inner) = (original.0.path(), request.uri.path());
    // Mounted at `/flows`, the router sees the path `/flows` as `/`.
    let is_mount = inner == "/" && !original.ends_with('/');
    let mount = original.strip_suffix(inner);
    mount.unwrap_or(if is_mount { original } else { "" })
}

/// The first value of a header to which proxies append: the one closest to the caller.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let first = value.split(',').next().unwrap_or_default().trim();
    Some(first).filter(|first| !first.is_empty())
}

fn is_authority(host: &str) -> bool {
    host.parse::<Authority>().is_ok() && !host.contains('@')
}

fn is_prefix(prefix: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~');
    prefix.starts_with('/') && !prefix.starts_with("//") && prefix.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/instances");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const PROXY: [(&str, &str); 4] = [
        ("host", "10.0.0.7:7071"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "flows.example.com, inner"),
        ("x-forwarded-prefix", "/flows/"),
    ];

    #[test]
    fn a_proxy_is_believed_only_where_that_is_said() {
        let mut settings = UrlSettings::default();
        assert_eq!(origin(&settings, &parts(&PROXY)), "http://10.0.0.7:7071");
        settings.trust_forwarded = true;
        let url = origin(&settings, &parts(&PROXY));
        assert_eq!(url, "https://flows.example.com/flows");
    }

    #[test]
    fn a_port_is_the_one_that_the_caller_uses() {
        assert_eq!(port("http://localhost:7071/flows"), 7071);
        assert_eq!(port("http://[::1]:7071"), 7071);
        assert_eq!(port("https://flows.example.com"), 443);
        assert_eq!(port("http://flows.example.com/a:1"), 80);
        assert!(is_same("https://A.example", "https://a.example/flows"));
        assert!(!is_same("http://a.example", "https://a.example/flows"));
        assert!(!is_same("null", "https://a.example"));
    }

    #[test]
    fn the_setting_comes_before_everything() {
        let settings = UrlSettings {
            base_url: Some("https://flows.example.com/a/".to_owned()),
            trust_forwarded: true,
        };
        let url = origin(&settings, &parts(&PROXY));
        assert_eq!(url, "https://flows.example.com/a");
    }

    #[test]
    fn a_header_that_is_no_host_gets_nowhere() {
        let settings = UrlSettings {
            trust_forwarded: true,
            ..UrlSettings::default()
        };
        for host in ["a b", "x/../y", "user:secret@host", "a\"b", ""] {
            let url = origin(
                &settings,
                &parts(&[("host", host), ("x-forwarded-host", host)]),
            );
            assert_eq!(url, "http://localhost", "{host:?}");
        }
        let hostile = [
            ("host", "h"),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-prefix", "//evil"),
        ];
        assert_eq!(origin(&settings, &parts(&hostile)), "http://h");
    }
}
