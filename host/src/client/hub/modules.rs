//! Modules: deploy, list, grant. What is stored of each is in `stored.rs`.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::bounds::MODULE_NAME_CHARS;
use perennial_core::{Digest, check_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{FromInto, serde_as};

use crate::client::json::{HexDigest, UpdatedNameJson};
use crate::client::{Backend, Client, Error, Result};
use crate::engine::executor::{DirGrant, Grants};
use crate::engine::{ModuleLimits, Request, brief};
use crate::store::{Definition, NewModule, Reply, UpdatedName};
use crate::wasm::{CACHE_DIR, keep_compiled};

/// A validated module that can be deployed: see [`Module::from_file`](crate::Module::from_file).
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) component: Vec<u8>,
    pub(crate) contract: String,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<String>,
}

impl Module {
    /// The name under which it will be deployed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes the name under which it will be deployed.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The SHA-256 of its component.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The version of the contract that it was built for, such as `0.1`.
    pub fn contract(&self) -> &str {
        &self.contract
    }

    /// The orchestrations and activities that it defines.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The WIT interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The size of its component in bytes.
    pub fn size(&self) -> usize {
        self.component.len()
    }
}

/// A module that is deployed in a hub.
///
/// Its JSON contains the names of granted environment variables but not their values, which may be secrets.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Module")]
#[non_exhaustive]
pub struct ModuleInfo {
    /// The name of the module.
    pub name: String,
    /// The SHA-256 of its component.
    pub digest: String,
    /// The orchestrations and activities that it defines.
    pub definitions: Vec<Definition>,
    /// The WIT interfaces that it imports.
    pub imports: Vec<String>,
    /// Its grants. A remote host does not reveal the values of environment variables: they are empty then.
    #[serde_as(as = "FromInto<ShownGrants>")]
    #[serde(default)]
    pub grants: Grants,
    /// Its limits, if they differ from the host's defaults.
    #[serde(default)]
    pub limits: ModuleLimits,
    /// When it was deployed, in RFC 3339.
    pub deployed_time: String,
    /// The size of its component in bytes.
    pub size: u64,
}

/// The grants of a module, without the values of its environment variables.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShownGrants {
    dirs: Vec<DirGrant>,
    env: Vec<String>,
    http_hosts: Vec<String>,
}

impl From<Grants> for ShownGrants {
    fn from(grants: Grants) -> Self {
        Self {
            dirs: grants.dirs,
            env: grants.env.into_iter().map(|(name, _)| name).collect(),
            http_hosts: grants.http_hosts,
        }
    }
}

impl From<ShownGrants> for Grants {
    fn from(shown: ShownGrants) -> Self {
        let unknown = |name| (name, String::new());
        Self {
            dirs: shown.dirs,
            env: shown.env.into_iter().map(unknown).collect(),
            http_hosts: shown.http_hosts,
        }
    }
}

/// The result of a deployment.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Deployment {
    /// The name of the module.
    pub name: String,
    /// The SHA-256 of its component.
    #[serde_as(as = "HexDigest")]
    pub digest: Digest,
    /// Every name that the module defines, and the module that it referred to before.
    #[serde_as(as = "Vec<UpdatedNameJson>")]
    pub names: Vec<UpdatedName>,
}

/// A deployment. Await it to execute it.
#[derive(Clone, Debug)]
#[must_use = "a module is deployed when its deployment is awaited"]
pub struct Deploy {
    client: Client,
    what: What,
    grants: Option<Grants>,
    limits: Option<ModuleLimits>,
    replace: bool,
}

/// What is deployed.
#[derive(Clone, Debug)]
enum What {
    /// A module that came from outside.
    Given(Box<Module>),
    /// One that the hub has: its name or digest, and the name under which it is deployed if that was given.
    Stored(String, Option<String>),
}

impl Client {
    /// Deploys a module: new instances use it for the names that it defines. Await the returned value.
    ///
    /// Live instances continue on the module that they started on. To roll back, deploy the old module again:
    /// [`deploy_stored`](Self::deploy_stored) does so without its file.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let module = perennial::Module::from_file("fan-out.wasm")?;
    /// client.deploy(module).grant_dir(".", "/data").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn deploy(&self, module: Module) -> Deploy {
        Deploy::of(self.clone(), What::Given(Box::new(module)))
    }

    /// The deployed modules of the hub, sorted by name.
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn modules(&self) -> Result<Vec<ModuleInfo>> {
        if let Some(remote) = self.remote() {
            return remote.modules().await;
        }
        let rows = self.read(crate::store::Reader::modules).await?;
        rows.into_iter()
            .map(|row| {
                Ok(ModuleInfo {
                    name: row.name,
                    digest: row.digest.to_string(),
                    definitions: row.definitions,
                    imports: row.imports,
                    grants: serde_json::from_str(&row.grants)
                        .map_err(|error| Error::json("what a module is granted", &error))?,
                    limits: serde_json::from_str(&row.limits)
                        .map_err(|error| Error::json("what a module may use", &error))?,
                    deployed_time: row.deployed_at.to_string(),
                    size: row.size,
                })
            })
            .collect()
    }

    /// Replaces the grants of a module, from the next attempt of each of its activities on.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn grant(&self, module: &str, grants: &Grants) -> Result<()> {
        let text = self.grants_text(grants.clone())?;
        match self
            .submit(
                module,
                Request::Grant {
                    module: module.to_owned(),
                    grants: text,
                },
            )
            .await?
        {
            Reply::Nothing => Err(Error::unknown_module(module)),
            _ => Ok(()),
        }
    }
}

impl Deploy {
    fn of(client: Client, what: What) -> Self {
        Self {
            client,
            what,
            grants: None,
            limits: None,
            replace: false,
        }
    }

    pub(crate) fn stored(client: Client, name_or_digest: String) -> Self {
        Self::of(client, What::Stored(name_or_digest, None))
    }

    /// Deploys it under this name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        match &mut self.what {
            What::Given(module) => module.name = name.into(),
            What::Stored(_, named) => *named = Some(name.into()),
        }
        self
    }

    /// Grants the module's activities read access to a directory of the host, under the path that they see.
    ///
    /// Grants belong to the module's name: a deployment without grants keeps the existing ones, one with grants replaces them.
    pub fn grant_dir(
        mut self,
        host: impl Into<std::path::PathBuf>,
        guest: impl Into<String>,
    ) -> Self {
        let dir = DirGrant::new(host, guest);
        self.grants.get_or_insert_default().dirs.push(dir);
        self
    }

    /// Grants the module's activities an environment variable.
    pub fn grant_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.grants
            .get_or_insert_default()
            .env
            .push((name.into(), value.into()));
        self
    }

    /// Lets the module's orchestrations call a host with the activity `http`: `HOST` or `HOST:PORT`, see [`Grants::http_hosts`].
    pub fn allow_http(mut self, host: impl Into<String>) -> Self {
        self.grants
            .get_or_insert_default()
            .http_hosts
            .push(host.into());
        self
    }

    /// Sets exactly these grants.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = Some(grants);
        self
    }

    /// Sets the fuel of each turn of the module's orchestrations, about one unit an instruction; each event of the turn adds a tenth.
    /// Interpreted guests, such as Python, may need more than the default of 3 billion.
    ///
    /// Limits belong to the module's name, as grants do: a deployment without limits keeps the existing ones, one with limits replaces
    /// them. They apply to executions that start from now on.
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.limits.get_or_insert_default().fuel = Some(fuel);
        self
    }

    /// Sets the memory in bytes of an instance of the module's orchestrations. It is kept as [`fuel`](Self::fuel) is.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.limits.get_or_insert_default().memory_bytes = Some(bytes);
        self
    }

    /// Sets exactly these limits; [`ModuleLimits::default`] restores the host's defaults.
    pub fn limits(mut self, limits: ModuleLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Takes over names that other modules own.
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }
}

impl IntoFuture for Deploy {
    /// Fails with [`Error::is_name_taken`] if another module owns a name; a stored module also as
    /// [`stored_module`](Client::stored_module).
    type Output = Result<Deployment>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                what,
                grants,
                limits,
                replace,
            } = self;
            let grants = grants
                .map(|grants| client.grants_text(grants))
                .transpose()?;
            let limits = limits.map(limits_text).transpose()?;
            let module = match what {
                What::Given(module) => *module,
                What::Stored(which, name) => {
                    let name = match name {
                        Some(name) => name,
                        None => client.stored_module(&which).await?.name_or_error()?,
                    };
                    check(&name)?;
                    if let Some(remote) = client.remote() {
                        return remote
                            .deploy_stored(&name, which, grants, limits, replace)
                            .await;
                    }
                    client.load_module(&which).await?.named(name)
                }
            };
            check(&module.name)?;
            let (name, digest) = (module.name.clone(), module.digest);
            let new = new_module(module, grants, limits, replace);
            match client.submit(&name, Request::Deploy(Box::new(new))).await? {
                Reply::Deployed(names) => {
                    client.keep_compiled(digest).await;
                    Ok(Deployment {
                        name,
                        digest,
                        names,
                    })
                }
                other => Err(Error::invalid(format!(
                    "the deployment was answered with {other:?}"
                ))),
            }
        })
    }
}

/// Checks the name of a module.
fn check(name: &str) -> Result<()> {
    check_name(name, MODULE_NAME_CHARS)
        .map_err(|problem| Error::invalid(format!("the module name {:?} {problem}", brief(name))))
}

fn new_module(
    module: Module,
    grants: Option<String>,
    limits: Option<String>,
    replace: bool,
) -> NewModule {
    let Module {
        name,
        digest,
        component,
        contract,
        definitions,
        imports,
    } = module;
    NewModule {
        name,
        digest,
        component,
        contract,
        definitions,
        imports,
        grants,
        replace,
        limits,
    }
}

impl Client {
    /// Stores the compiled code beside the hub, for the next host. A host in this process has done so already.
    async fn keep_compiled(&self, module: Digest) {
        if let Backend::Outside(hub) = &self.backend
            && let Some(dir) = hub.place().data_dir()
        {
            let dir = dir.join(CACHE_DIR);
            let keep = move || keep_compiled(dir, module);
            // On a failure the next host compiles it again.
            let _ = tokio::task::spawn_blocking(keep).await;
        }
    }

    /// Grants as they are stored or sent. Relative directories are resolved here, except for a remote host.
    fn grants_text(&self, mut grants: Grants) -> Result<String> {
        if let Some(problem) = grants.problem() {
            return Err(Error::invalid(problem));
        }
        if self.remote().is_none() {
            find_dirs(&mut grants)?;
        }
        serde_json::to_string(&grants).map_err(|error| Error::json("what is granted", &error))
    }

    /// Adds grants to those of a module, from the next attempt of each of its activities on. If both name the same directory or variable,
    /// the new grant wins.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let more = perennial::Grants::new().http_host("api.example.com");
    /// client.grant_more("shop", &more).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn grant_more(&self, module: &str, more: &Grants) -> Result<()> {
        // Checked before merging, which would hide duplicates within `more`.
        if let Some(problem) = more.problem() {
            return Err(Error::invalid(problem));
        }
        if let Some(remote) = self.remote() {
            let text = self.grants_text(more.clone())?;
            return match remote.grant(module, "POST", text).await? {
                Reply::Nothing => Err(Error::unknown_module(module)),
                _ => Ok(()),
            };
        }
        let modules = self.modules().await?;
        let before = modules.into_iter().find(|info| info.name == module);
        let before = before.ok_or_else(|| Error::unknown_module(module))?;
        self.grant(module, &before.grants.and(more.clone())).await
    }
}

/// Limits as they are stored or sent.
fn limits_text(limits: ModuleLimits) -> Result<String> {
    if let Some(problem) = limits.problem() {
        return Err(Error::invalid(problem));
    }
    serde_json::to_string(&limits).map_err(|error| Error::json("what a module may use", &error))
}

/// Makes granted directories absolute and checks that they exist.
fn find_dirs(grants: &mut Grants) -> Result<()> {
    for dir in &mut grants.dirs {
        // A relative path would mean another directory if the hub is opened from elsewhere.
        let cannot = |why: String| {
            let path = dir.host.display();
            Error::invalid(format!("cannot grant the directory {path}: {why}"))
        };
        let absolute = dir.host.canonicalize();
        let absolute = absolute.map_err(|error| cannot(error.to_string()))?;
        if !absolute.is_dir() {
            return Err(cannot(
                "it is a file; grant the directory that it is in".to_owned(),
            ));
        }
        dir.host = absolute;
    }
    Ok(())
}
