//! Stored modules: what a hub has of each version that was deployed, reading its component, and deploying it again.

use perennial_core::{Digest, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::serde_as;

use crate::client::hub::modules::Module;
use crate::client::json::{HexDigest, TimeText};
use crate::client::{Client, Deploy, Error, Result};
use crate::store::{Definition, Reader, StoreError, StoredRow};

/// A stored module, whether a name refers to it or not. [`Client::collect_modules`] deletes those that nothing needs.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StoredModule {
    /// The SHA-256 of its component.
    #[serde_as(as = "HexDigest")]
    pub digest: Digest,
    /// The version of the contract that it was built for, such as `0.2`.
    pub contract: String,
    /// The orchestrations and activities that it defines.
    pub definitions: Vec<Definition>,
    /// The WIT interfaces that it imports.
    pub imports: Vec<String>,
    /// The size of its component in bytes.
    pub size: u64,
    /// When it was first deployed. A later deployment of the same component does not change it.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "storedTime")]
    pub stored_at: Timestamp,
    /// The deployed modules whose component it is now, sorted.
    pub deployed_as: Vec<String>,
    /// The deployed modules that own a name that it defines, sorted: it is a version of each, to which that one can be rolled back.
    pub versions_of: Vec<String>,
}

impl StoredModule {
    /// The name under which it is deployed again unless another one is given: the only one that it has now, or else the only module that it
    /// is a version of. `None` if there is no such module, or more than one.
    pub fn likely_name(&self) -> Option<&str> {
        match (&self.deployed_as[..], &self.versions_of[..]) {
            ([name], _) | ([], [name]) => Some(name),
            _ => None,
        }
    }

    /// The only name that it can be deployed under without further words.
    ///
    /// # Errors
    /// [`Error::is_invalid`] asks for a name.
    pub(crate) fn name_or_error(&self) -> Result<String> {
        let name = self.likely_name().map(str::to_owned);
        name.ok_or_else(|| {
            let names = match self.deployed_as.is_empty() {
                true => &self.versions_of,
                false => &self.deployed_as,
            };
            let why = match names.is_empty() {
                true => "no deployed module defines any of its names".to_owned(),
                false => format!("it may be a version of any of these: {}", names.join(", ")),
            };
            Error::invalid(format!(
                "give a name under which the stored module {} is deployed: {why}",
                self.digest.short()
            ))
        })
    }
}

impl From<StoredRow> for StoredModule {
    fn from(row: StoredRow) -> Self {
        Self {
            digest: row.digest,
            contract: row.contract,
            definitions: row.definitions,
            imports: row.imports,
            size: row.size,
            stored_at: row.stored_at,
            deployed_as: row.deployed_as,
            versions_of: row.versions_of,
        }
    }
}

impl Client {
    /// All stored modules of the hub, the newest first: the deployed ones, and earlier versions, whether anything refers to them or not.
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn stored_modules(&self) -> Result<Vec<StoredModule>> {
        if let Some(remote) = self.remote() {
            return remote.stored_modules().await;
        }
        let rows = self.read(|reader| reader.stored_modules(None)).await?;
        Ok(rows.into_iter().map(StoredModule::from).collect())
    }

    /// A stored module, found by the name of a deployed one, or by at least the first six digits of the digest.
    ///
    /// # Errors
    /// [`Error::is_unknown_module`], with [`Error::is_not_stored`] if no stored module has such a digest: it was never deployed here, or
    /// was deleted. [`Error::is_ambiguous_module`] if the digits match several modules.
    pub async fn stored_module(&self, name_or_digest: &str) -> Result<StoredModule> {
        if let Some(remote) = self.remote() {
            return remote.stored_module(name_or_digest).await;
        }
        self.read_found(name_or_digest, |reader, digest| {
            let rows = reader.stored_modules(Some(digest))?;
            Ok(rows.into_iter().next().map(StoredModule::from))
        })
        .await
    }

    /// The component of a stored module, as it was deployed. It is found as [`stored_module`](Self::stored_module) finds it.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// std::fs::write("as-deployed.wasm", client.component("4f1d08c2").await?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`stored_module`](Self::stored_module); [`Error::is_damaged`] if the bytes do not match the digest.
    pub async fn component(&self, name_or_digest: &str) -> Result<Vec<u8>> {
        if let Some(remote) = self.remote() {
            return remote.component(name_or_digest).await;
        }
        self.read_found(name_or_digest, Reader::component_undamaged)
            .await
    }

    /// A stored module with its component, to [check](Self::check), replay or deploy it. It is found as
    /// [`stored_module`](Self::stored_module) finds it, and named after the module that it is a version of, or else by its digest; see
    /// [`StoredModule::likely_name`] and [`Module::named`].
    ///
    /// # Errors
    /// As [`component`](Self::component).
    pub async fn load_module(&self, name_or_digest: &str) -> Result<Module> {
        let stored = self.stored_module(name_or_digest).await?;
        let name = stored.likely_name().map(str::to_owned);
        Ok(Module {
            name: name.unwrap_or_else(|| stored.digest.short()),
            digest: stored.digest,
            component: self.component(&stored.digest.to_string()).await?,
            contract: stored.contract,
            definitions: stored.definitions,
            imports: stored.imports,
        })
    }

    /// Deploys a stored module again, for example to roll back. It is found as [`stored_module`](Self::stored_module) finds it. Await the
    /// returned value.
    ///
    /// Without [`Deploy::named`] it is deployed under its [likely name](StoredModule::likely_name), or refused if there is none. As in
    /// every deployment, grants and limits stay unless new ones are given, and live instances continue on the module that they started on.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.deploy_stored("4f1d08c2").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn deploy_stored(&self, name_or_digest: impl Into<String>) -> Deploy {
        Deploy::stored(self.clone(), name_or_digest.into())
    }

    /// Finds a module's digest by the name of the module, or by at least the first six digits of the digest.
    ///
    /// # Errors
    /// As [`stored_module`](Self::stored_module).
    pub async fn find_module(&self, name_or_digest: &str) -> Result<Digest> {
        if let Some(remote) = self.remote() {
            return Ok(remote.stored_module(name_or_digest).await?.digest);
        }
        self.read_found(name_or_digest, |_, digest| Ok(Some(digest)))
            .await
    }

    /// Finds a module and reads something of it, in a single read. `None` is a module that was deleted in between.
    async fn read_found<T: Send + 'static>(
        &self,
        name_or_digest: &str,
        read: impl FnOnce(&Reader, Digest) -> Result<Option<T>, StoreError> + Send + 'static,
    ) -> Result<T> {
        let text = name_or_digest.to_owned();
        let found = move |reader: &Reader| {
            let found = reader.find_module(&text)?;
            match found[..] {
                [digest] => Ok((1, read(reader, digest)?)),
                [..] => Ok((found.len(), None)),
            }
        };
        match self.read(found).await? {
            (_, Some(of)) => Ok(of),
            (0 | 1, None) => Err(Error::unknown_module(name_or_digest)),
            (count, None) => Err(Error::ambiguous_module(name_or_digest, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Request;
    use crate::store::NewModule;

    fn stored(deployed_as: &[&str], versions_of: &[&str]) -> StoredModule {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        StoredModule {
            digest: Digest([7; 32]),
            contract: "0.2".to_owned(),
            definitions: Vec::new(),
            imports: Vec::new(),
            size: 1,
            stored_at: Timestamp(0),
            deployed_as: names(deployed_as),
            versions_of: names(versions_of),
        }
    }

    #[test]
    fn a_module_has_a_likely_name_only_if_it_cannot_be_another() {
        assert_eq!(stored(&[], &["shop"]).likely_name(), Some("shop"));
        assert_eq!(
            stored(&["bank"], &["bank", "shop"]).likely_name(),
            Some("bank")
        );
        for (unclear, words) in [
            (stored(&[], &[]), "no deployed module defines"),
            (stored(&[], &["bank", "shop"]), "bank, shop"),
            (stored(&["a", "b"], &["a"]), "a, b"),
        ] {
            assert_eq!(unclear.likely_name(), None);
            let error = unclear.name_or_error().unwrap_err();
            assert!(
                error.is_invalid() && error.to_string().contains(words),
                "{error}"
            );
        }
    }

    /// A module with these bytes, which need not match the digest, as the store accepts it.
    fn new(name: &str, digest: Digest, component: &[u8]) -> Request {
        Request::Deploy(Box::new(NewModule {
            name: name.to_owned(),
            digest,
            component: component.to_vec(),
            contract: "0.2".to_owned(),
            definitions: Vec::new(),
            imports: Vec::new(),
            grants: None,
            replace: false,
            limits: None,
        }))
    }

    #[tokio::test]
    async fn too_few_digits_and_damaged_bytes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::open(dir.path(), "default").unwrap();
        let (one, other) = (Digest([0xab; 32]), {
            let mut digest = Digest([0xab; 32]);
            digest.0[31] = 0;
            digest
        });
        client.submit("a", new("a", one, b"x")).await.unwrap();
        client.submit("b", new("b", other, b"y")).await.unwrap();
        let error = client.component("abababab").await.unwrap_err();
        assert!(
            error.is_ambiguous_module() && error.is_invalid() && !error.is_not_found(),
            "{error}"
        );
        let whole = client.stored_module(&other.to_string()).await.unwrap();
        assert_eq!((whole.digest, whole.size), (other, 1));
        let error = client.component("a").await.unwrap_err();
        assert!(error.is_damaged(), "{error}");
    }

    #[test]
    fn the_json_is_read_back() {
        let text = serde_json::to_string(&stored(&["a"], &["a"])).unwrap();
        assert!(text.contains("\"storedTime\":\"1970-01-01T"), "{text}");
        let back: StoredModule = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
