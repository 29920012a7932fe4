//! Modules: deploy, look at, list.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Error;
use crate::http::native::Operation;
use crate::http::native::doc::{doc, flag, schema, text};
use crate::http::native::extract::{Admin, Ask, Component, Failed, Object, Segments};
use crate::http::{Api, wire};
use crate::{
    Collect, Definition, DefinitionKind, DirGrant, Grants, ModuleInfo, ModuleLimits, RemoveInUse,
    UpdatedName,
};

type Answer = Result<Response, Failed>;

pub(super) fn operations() -> Vec<Operation> {
    let component = || json!({ "type": "string", "contentMediaType": "application/wasm" });
    vec![
        Operation {
            method: "GET",
            path: "/modules",
            doc: doc("listModules", "The deployed modules, by name").answer(
                200,
                "The modules",
                json!({ "type": "array", "items": schema("Module") }),
            ),
            handler: get(list),
        },
        Operation {
            method: "GET",
            path: "/modules/{name}",
            doc: doc("showModule", "One deployed module").answer(
                200,
                "The module",
                schema("Module"),
            ),
            handler: get(show),
        },
        Operation {
            method: "PUT",
            path: "/modules/{name}",
            doc: doc(
                "deployModule",
                "Deploys a component: the names that it defines mean it for new instances",
            )
            .query("replace", flag(), "Take over names that other modules own")
            .body("application/wasm", component(), true)
            .body_or("application/json", schema("Upload"))
            .answer(200, "What the names mean now", schema("Deployment"))
            .fails(&[
                (409, "Another module owns a name"),
                (413, "The body is over its limit"),
            ]),
            handler: put(deploy),
        },
        Operation {
            method: "POST",
            path: "/inspect",
            doc: doc("inspectModule", "Looks at a component without deploying it")
                .query("name", text(), "The name that it would have")
                .body("application/wasm", component(), true)
                .answer(200, "What it defines and imports", schema("Module"))
                .fails(&[(413, "The body is over its limit")]),
            handler: post(inspect),
        },
        Operation {
            method: "DELETE",
            path: "/modules/{name}",
            doc: doc(
                "removeModule",
                "Takes a module's name out of the task hub; what runs on it goes on",
            )
            .query("inUseToo", flag(), "Also where live instances run it")
            .empty(204, "It has no name any more")
            .fails(&[(409, "Live instances run it")]),
            handler: delete(remove),
        },
        Operation {
            method: "POST",
            path: "/collect",
            doc: doc(
                "collectModules",
                "Deletes the modules that nothing points to",
            )
            .query(
                "oldVersions",
                flag(),
                "Also versions that are not the newest",
            )
            .query("dryRun", flag(), "Only says which")
            .answer(
                200,
                "Which they are",
                json!({ "type": "array", "items": schema("CollectedModule") }),
            ),
            handler: post(collect),
        },
        grants_operation(
            "PUT",
            "setGrants",
            "Says what a module is granted",
            put(set_grants),
        ),
        grants_operation(
            "POST",
            "addGrants",
            "Grants a module more",
            post(add_grants),
        ),
    ]
}

fn grants_operation(
    method: &'static str,
    id: &'static str,
    summary: &'static str,
    handler: MethodRouter<Arc<Api>>,
) -> Operation {
    Operation {
        method,
        path: "/modules/{name}/grants",
        doc: doc(id, summary)
            .body("application/json", schema("Grants"), true)
            .empty(204, "It counts from the next attempt of each activity on")
            .fails(&[(403, "It needs a key that may do everything")]),
        handler,
    }
}

/// A deployed module. The values of variables that it is granted may be secrets, and are nobody's to read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeployedWire<'a> {
    name: &'a str,
    digest: &'a str,
    definitions: &'a [Definition],
    imports: &'a [String],
    grants: GrantsWire<'a>,
    limits: ModuleLimits,
    deployed_time: &'a str,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GrantsWire<'a> {
    dirs: &'a [DirGrant],
    env: Vec<&'a str>,
    http_hosts: &'a [String],
}

impl<'a> From<&'a ModuleInfo> for DeployedWire<'a> {
    fn from(module: &'a ModuleInfo) -> Self {
        let Grants {
            dirs,
            env,
            http_hosts,
        } = &module.grants;
        Self {
            name: &module.name,
            digest: &module.digest,
            definitions: &module.definitions,
            imports: &module.imports,
            grants: GrantsWire {
                dirs,
                env: env.iter().map(|(name, _)| name.as_str()).collect(),
                http_hosts,
            },
            limits: module.limits,
            deployed_time: &module.deployed_time,
            size: module.size,
        }
    }
}

async fn list(ask: Ask) -> Answer {
    let modules = ask.client.modules().await?;
    let modules: Vec<DeployedWire<'_>> = modules.iter().map(DeployedWire::from).collect();
    Ok(wire::json(StatusCode::OK, &modules))
}

async fn show(ask: Ask, Segments(name): Segments<String>) -> Answer {
    let modules = ask.client.modules().await?;
    let found = modules.iter().find(|module| module.name == name);
    let found = found.ok_or_else(|| Failed::from(Error::unknown_module(&name)))?;
    Ok(wire::json(StatusCode::OK, &DeployedWire::from(found)))
}

async fn remove(ask: Ask, Segments(name): Segments<String>) -> Answer {
    let also = if ask.query.flag("inUseToo", false)? {
        RemoveInUse::Yes
    } else {
        RemoveInUse::No
    };
    ask.client.remove_module(&name, also).await?;
    Ok(wire::empty(StatusCode::NO_CONTENT))
}

#[derive(Serialize)]
struct CollectedWire {
    digest: String,
    size: u64,
}

async fn collect(ask: Ask) -> Answer {
    let which = Collect {
        old_versions: ask.query.flag("oldVersions", false)?,
        dry_run: ask.query.flag("dryRun", false)?,
    };
    let collected = ask.client.collect_modules(which).await?;
    let collected = collected.into_iter().map(|module| CollectedWire {
        digest: module.digest.to_string(),
        size: module.bytes,
    });
    let collected: Vec<CollectedWire> = collected.collect();
    Ok(wire::json(StatusCode::OK, &collected))
}

async fn set_grants(
    ask: Ask,
    _: Admin,
    Segments(name): Segments<String>,
    Object(grants): Object<Grants>,
) -> Answer {
    ask.client.grant(&name, &grants).await?;
    Ok(wire::empty(StatusCode::NO_CONTENT))
}

async fn add_grants(
    ask: Ask,
    _: Admin,
    Segments(name): Segments<String>,
    Object(grants): Object<Grants>,
) -> Answer {
    ask.client.grant_more(&name, &grants).await?;
    Ok(wire::empty(StatusCode::NO_CONTENT))
}

#[derive(Serialize)]
struct DeploymentWire {
    name: String,
    digest: String,
    names: Vec<NameWire>,
}

#[derive(Serialize)]
struct NameWire {
    kind: DefinitionKind,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    changed: bool,
}

impl From<UpdatedName> for NameWire {
    fn from(name: UpdatedName) -> Self {
        Self {
            kind: name.kind,
            name: name.name,
            before: name.before.map(|digest| digest.to_string()),
            changed: name.changed,
        }
    }
}

/// A component with what it is granted and may use.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UploadBody {
    component: String,
    grants: Option<Grants>,
    limits: Option<ModuleLimits>,
}

/// What is uploaded: a component, or one in JSON with more about it.
struct Uploaded {
    component: axum::body::Bytes,
    grants: Option<Grants>,
    limits: Option<ModuleLimits>,
}

fn uploaded(body: Component) -> Result<Uploaded, Failed> {
    if !body.is_json {
        return Ok(Uploaded {
            component: body.bytes,
            grants: None,
            limits: None,
        });
    }
    let upload: UploadBody = serde_json::from_slice(&body.bytes)
        .map_err(|error| Failed::invalid(format!("the body is not what was expected: {error}")))?;
    let component = BASE64_STANDARD
        .decode(upload.component)
        .map_err(|error| Failed::invalid(format!("the component is not base64: {error}")))?;
    Ok(Uploaded {
        component: component.into(),
        grants: upload.grants,
        limits: upload.limits,
    })
}

async fn deploy(ask: Ask, Segments(name): Segments<String>, body: Component) -> Answer {
    let replace = ask.query.flag("replace", false)?;
    let Uploaded {
        component,
        grants,
        limits,
    } = uploaded(body)?;
    if grants.is_some() {
        ask.must_be_admin().await?;
    }
    let module = ask.client.look_at(name, component.into()).await?;
    let mut deploy = ask.client.deploy(module);
    if let Some(grants) = grants {
        deploy = deploy.grants(grants);
    }
    if let Some(limits) = limits {
        deploy = deploy.limits(limits);
    }
    if replace {
        deploy = deploy.replace();
    }
    let done = deploy.await?;
    let deployment = DeploymentWire {
        name: done.name,
        digest: done.digest.to_string(),
        names: done.names.into_iter().map(NameWire::from).collect(),
    };
    Ok(wire::json(StatusCode::OK, &deployment))
}

#[derive(Serialize)]
struct ModuleWire<'a> {
    name: &'a str,
    digest: String,
    contract: &'a str,
    definitions: &'a [Definition],
    imports: &'a [String],
    size: usize,
}

async fn inspect(ask: Ask, body: Component) -> Answer {
    let name = ask.query.text("name").unwrap_or_default().to_owned();
    let Uploaded { component, .. } = uploaded(body)?;
    let module = ask.client.look_at(name, component.into()).await?;
    let found = ModuleWire {
        name: module.name(),
        digest: module.digest().to_string(),
        contract: module.contract(),
        definitions: module.definitions(),
        imports: module.imports(),
        size: module.size(),
    };
    Ok(wire::json(StatusCode::OK, &found))
}
