//! Access keys of the HTTP server. The hub stores only their hashes.

use perennial_core::bounds::MODULE_NAME_CHARS;
use perennial_core::{Timestamp, check_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::serde_as;
use sha2::{Digest, Sha256};

use crate::client::json::TimeText;
use crate::client::{Client, Error, Result};
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::{Request, brief};
use crate::store::{KeyRow, Reader, Reply};

/// The prefix of each key, by which a leaked one is recognised.
const PREFIX: &str = "prn_";

/// What a key permits.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// Only reading.
    ReadOnly,
    /// All operations.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::ReadOnly => "read-only",
            Self::Admin => "admin",
        })
    }
}

/// An access key of a task hub, without its secret.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Key")]
#[non_exhaustive]
pub struct AccessKey {
    /// Identifies the key, for revoking it.
    pub id: String,
    /// The purpose of the key, given when it was created.
    pub name: String,
    /// What the key permits.
    pub role: Role,
    /// When it was created.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "createdTime")]
    pub created_at: Timestamp,
}

/// A newly created key. Its secret cannot be read again later.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CreatedKey")]
#[non_exhaustive]
pub struct NewAccessKey {
    /// The key without its secret.
    #[serde(flatten)]
    pub key: AccessKey,
    /// The secret that callers send.
    #[serde(rename = "key")]
    pub secret: String,
}

impl std::fmt::Debug for NewAccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewAccessKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl From<KeyRow> for AccessKey {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            role: if row.admin {
                Role::Admin
            } else {
                Role::ReadOnly
            },
            created_at: row.created_at,
        }
    }
}

impl Client {
    /// Creates a key for the HTTP server of this task hub. `name` describes its purpose.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name is invalid or the hub has too many keys already.
    pub async fn create_key(&self, name: &str, role: Role) -> Result<NewAccessKey> {
        check_name(name, MODULE_NAME_CHARS).map_err(|problem| {
            Error::invalid(format!("the name of a key {:?} {problem}", brief(name)))
        })?;
        if let Some(remote) = self.remote() {
            return remote.create_key(name, role).await;
        }
        // Two random UUIDs have 244 random bits. That cannot be guessed, so the hash needs neither salt nor stretching.
        let (a, b) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let secret = format!("{PREFIX}{a}{b}");
        let row = KeyRow {
            id: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
            name: name.to_owned(),
            admin: role == Role::Admin,
            hash: hash(&secret),
            created_at: SystemClock.now(),
        };
        match self.submit(name, Request::CreateKey(row.clone())).await? {
            Reply::Nothing => Err(Error::invalid(
                "the task hub has too many keys; revoke some that are no longer used",
            )),
            _ => Ok(NewAccessKey {
                key: row.into(),
                secret,
            }),
        }
    }

    /// The keys of this task hub, oldest first.
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn keys(&self) -> Result<Vec<AccessKey>> {
        if let Some(remote) = self.remote() {
            return remote.keys().await;
        }
        let rows = self.read(Reader::keys).await?;
        Ok(rows.into_iter().map(AccessKey::from).collect())
    }

    /// Revokes a key, from the next request on. `false` if no key has this id.
    ///
    /// # Errors
    /// If the hub cannot be written.
    pub async fn revoke_key(&self, id: &str) -> Result<bool> {
        let request = Request::RevokeKey { id: id.to_owned() };
        Ok(self.submit(id, request).await? != Reply::Nothing)
    }

    /// The role of a key that a caller sent; `None` if it is not a key of this hub. The comparison takes constant time.
    #[cfg(feature = "http")]
    pub(crate) async fn role_of(&self, given: KeyHash) -> Result<Option<Role>> {
        Ok(self.key_ring().await?.role_of(&given))
    }

    /// The keys of this task hub with their hashes, and the secret of the hub with which it seals what browsers keep.
    #[cfg(feature = "http")]
    pub(crate) async fn key_ring(&self) -> Result<KeyRing> {
        let read = self.read(|reader| Ok((reader.keys()?, reader.secret()?)));
        let (rows, secret) = read.await?;
        let keys = rows.into_iter().map(|row| (row.hash, row));
        let keys = keys
            .map(|(hash, row)| (AccessKey::from(row), hash))
            .collect();
        Ok(KeyRing { secret, keys })
    }

    /// Tells of each change of the keys, if the host of the hub is in this process.
    #[cfg(feature = "http")]
    pub(crate) fn key_changes(&self) -> Option<tokio::sync::watch::Receiver<()>> {
        self.engine().map(|engine| engine.keys.subscribe())
    }

    #[cfg(feature = "http")]
    pub(crate) async fn key_hashes(&self) -> Result<Vec<KeyHash>> {
        let rows = self.read(Reader::keys).await?;
        Ok(rows.into_iter().map(|row| row.hash).collect())
    }
}

/// See [`Client::key_ring`].
#[cfg(feature = "http")]
pub(crate) struct KeyRing {
    pub(crate) secret: Vec<u8>,
    pub(crate) keys: Vec<(AccessKey, KeyHash)>,
}

#[cfg(feature = "http")]
impl KeyRing {
    /// The role of a key; `None` if it is not one of this hub. The comparison takes constant time.
    pub(crate) fn role_of(&self, given: &KeyHash) -> Option<Role> {
        use subtle::ConstantTimeEq;
        let is_it = |(_, hash): &&(AccessKey, KeyHash)| bool::from(hash.ct_eq(given));
        self.keys.iter().rfind(is_it).map(|(key, _)| key.role)
    }
}

/// The SHA-256 of a key's text.
pub(crate) type KeyHash = [u8; 32];

pub(crate) fn hash(secret: &str) -> KeyHash {
    Sha256::digest(secret.as_bytes()).into()
}
