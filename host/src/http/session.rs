//! What a browser keeps for the pages: texts that only this task hub can have written, among them the session of a visitor.
//!
//! Invariants: a cookie never contains a key; a session ends with the revocation of its key, and [`SESSION`] after its last use; nothing of
//! it is kept by the host, so that it outlives a restart. Browsers send cookies to every port of a machine, so each name has the port.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use perennial_core::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::client::{AccessKey, KeyHash, KeyRing, Role};

/// How long a session lasts without being used, in seconds.
pub(super) const SESSION: u64 = 12 * 3_600;

/// A session that is older than this is renewed when it is used, in seconds.
const RENEWED: u64 = 600;

/// The HMAC-SHA256 of some parts.
fn mac(secret: &[u8], parts: &[&str]) -> [u8; 32] {
    // A key of any length is one of this function; there is no other error.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        unreachable!("HMAC takes keys of any length")
    };
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            // So that no two lists of parts are the same text; no part contains it.
            mac.update(&[0]);
        }
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A secret text for one purpose, such as the token of forms: 32 hexadecimal digits.
pub(super) fn token(secret: &[u8], purpose: &str, of: &str) -> String {
    hex(&mac(secret, &["token", purpose, of])[..16])
}

/// Seals a text for a purpose until a time. The result can be the value of a cookie.
pub(super) fn seal(secret: &[u8], purpose: &str, text: &str, until: Timestamp) -> String {
    let body = format!("{:x}.{}", until.0, BASE64_URL_SAFE_NO_PAD.encode(text));
    let mac = hex(&mac(secret, &["sealed", purpose, &body]));
    format!("{body}.{mac}")
}

/// The text that was sealed for this purpose, and until when it holds. `None` if it was not sealed with this secret, or is out of date.
pub(super) fn unseal(
    secret: &[u8],
    purpose: &str,
    sealed: &str,
    now: Timestamp,
) -> Option<(String, Timestamp)> {
    let (body, given) = sealed.rsplit_once('.')?;
    let right = hex(&mac(secret, &["sealed", purpose, body]));
    if !bool::from(given.as_bytes().ct_eq(right.as_bytes())) {
        return None;
    }
    let (until, text) = body.split_once('.')?;
    let until = Timestamp(u64::from_str_radix(until, 16).ok()?);
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    (until > now).then_some((text, until))
}

/// The name of a cookie of a hub, of the server at a port.
pub(super) fn cookie_name(kind: &str, port: u16, hub: &str) -> String {
    format!("perennial-{kind}-{port}-{hub}")
}

/// The values of the cookies with a name. Servers below different paths may have set several.
pub(super) fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(known, value)| *known == name && !value.is_empty())
        .map(|(_, value)| value)
}

/// A visitor who has signed in.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) hash: KeyHash,
    pub(super) role: Role,
    /// Whether its cookie is to be set again.
    pub(super) is_old: bool,
}

/// What the sessions of a key are sealed for: not those of a later key with the same id.
fn purpose(hash: &KeyHash) -> String {
    format!("session {}", hex(hash))
}

/// The value of the cookie of a new session, for a key that the hub knows.
pub(super) fn begin(ring: &KeyRing, hash: &KeyHash, now: Timestamp) -> Option<String> {
    let (key, _) = ring.keys.iter().find(|(_, known)| known == hash)?;
    let until = Timestamp(now.0.saturating_add(SESSION * 1_000));
    Some(seal(&ring.secret, &purpose(hash), &key.id, until))
}

/// The session that one of the cookies proves.
pub(super) fn find<'a>(
    ring: &KeyRing,
    cookies: impl Iterator<Item = &'a str>,
    now: Timestamp,
) -> Option<Session> {
    // A browser does not have many; nobody makes the host try thousands.
    cookies.take(8).find_map(|cookie| {
        let of = |(key, hash): &(AccessKey, KeyHash)| {
            let (id, until) = unseal(&ring.secret, &purpose(hash), cookie, now)?;
            let left = until.0.saturating_sub(now.0);
            (id == key.id).then_some(Session {
                hash: *hash,
                role: key.role,
                is_old: left < (SESSION - RENEWED) * 1_000,
            })
        };
        let id = named(cookie)?;
        ring.keys
            .iter()
            .filter(|(key, _)| key.id == id)
            .find_map(of)
    })
}

/// The id of the key that a cookie names, which is not proved yet.
fn named(cookie: &str) -> Option<String> {
    let text = cookie.split('.').nth(1)?;
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::key_hash;

    #[test]
    fn a_mac_is_that_of_the_standard() {
        // RFC 4231, test cases 2 and 6.
        let short = mac(b"Jefe", &["what do ya want for nothing?"]);
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&short), expected);
        let text = "Test Using Larger Than Block-Size Key - Hash Key First";
        let long = mac(&[0xaa; 131], &[text]);
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(hex(&long), expected);
    }

    #[test]
    fn only_what_was_sealed_for_the_purpose_is_unsealed_and_only_in_time() {
        let sealed = seal(b"s", "a", "tëxt.", Timestamp(10));
        let read = |secret: &[u8], purpose, sealed: &str, now| {
            unseal(secret, purpose, sealed, Timestamp(now)).map(|(text, _)| text)
        };
        assert_eq!(read(b"s", "a", &sealed, 9).as_deref(), Some("tëxt."));
        assert_eq!(read(b"s", "a", &sealed, 10), None);
        assert_eq!(read(b"t", "a", &sealed, 9), None);
        assert_eq!(read(b"s", "b", &sealed, 9), None);
        for at in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'1' { b'2' } else { b'1' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(read(b"s", "a", &other, 9), None, "{other}");
        }
        for bad in ["", ".", "..", "f.YQ", "f.YQ."] {
            assert_eq!(read(b"s", "a", bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn a_session_ends_with_its_key_and_after_a_time() {
        let key = |id: &str, secret: &str, role| {
            let value = serde_json::json!({
                "id": id, "name": "a", "role": role, "createdTime": "2026-01-01T00:00:00Z",
            });
            (serde_json::from_value(value).unwrap(), key_hash(secret))
        };
        let ring = |keys| KeyRing {
            secret: b"hub".to_vec(),
            keys,
        };
        let one = ring(vec![key("a", "prn_1", Role::Admin)]);
        let now = Timestamp(1_000_000);
        let cookie = begin(&one, &key_hash("prn_1"), now).unwrap();
        assert!(!cookie.contains("prn_1"));
        assert!(begin(&one, &key_hash("prn_2"), now).is_none());
        let found = |ring: &KeyRing, seconds: u64| {
            let at = Timestamp(now.0 + seconds * 1_000);
            find(ring, [cookie.as_str()].into_iter(), at)
        };
        let session = found(&one, 0).unwrap();
        assert!(session.role == Role::Admin && !session.is_old);
        assert!(found(&one, RENEWED + 1).unwrap().is_old);
        assert!(found(&one, SESSION).is_none());
        // Revoked, and another key that got the same id.
        assert!(found(&ring(Vec::new()), 0).is_none());
        assert!(found(&ring(vec![key("a", "prn_2", Role::Admin)]), 0).is_none());
    }

    #[test]
    fn a_cookie_is_of_its_server_and_its_hub() {
        let name = cookie_name("session", 7071, "a");
        let mut headers = HeaderMap::new();
        let line = format!("other=1; {name}=x;{name}=; {name}b=y; {name}=z");
        headers.insert(header::COOKIE, line.parse().unwrap());
        let found: Vec<_> = cookies(&headers, &name).collect();
        assert_eq!(found, ["x", "z"]);
        assert_ne!(name, cookie_name("session", 7072, "a"));
    }
}
