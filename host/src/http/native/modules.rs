//! Modules: deploy, look at, list.

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::Serialize;
use serde_json::json;

use crate::client::{Error, Module};
use crate::http::native::Operation;
use crate::http::native::ask::{Ask, Component, Failed, Segments};
use crate::http::native::doc::{doc, flag, schema, text};
use crate::http::wire;
use crate::{Definition, DefinitionKind, Repointed};

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
    ]
}

async fn list(ask: Ask) -> Answer {
    Ok(wire::json(StatusCode::OK, &ask.client.modules().await?))
}

async fn show(ask: Ask, Segments(name): Segments<String>) -> Answer {
    let modules = ask.client.modules().await?;
    let found = modules.into_iter().find(|module| module.name == name);
    let found = found.ok_or_else(|| Failed::from(Error::unknown_module(&name)))?;
    Ok(wire::json(StatusCode::OK, &found))
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

impl From<Repointed> for NameWire {
    fn from(name: Repointed) -> Self {
        Self {
            kind: name.kind,
            name: name.name,
            before: name.before.map(|digest| digest.to_string()),
            changed: name.changed,
        }
    }
}

async fn deploy(ask: Ask, Segments(name): Segments<String>, Component(body): Component) -> Answer {
    let replace = ask.query.flag("replace", false)?;
    let module = look_at(name, body).await?;
    let mut deploy = ask.client.deploy(module);
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
    definitions: &'a [Definition],
    imports: &'a [String],
    size: usize,
}

async fn inspect(ask: Ask, Component(body): Component) -> Answer {
    let name = ask.query.text("name").unwrap_or_default().to_owned();
    let module = look_at(name, body).await?;
    let found = ModuleWire {
        name: module.name(),
        digest: module.digest().to_string(),
        definitions: module.definitions(),
        imports: module.imports(),
        size: module.size(),
    };
    Ok(wire::json(StatusCode::OK, &found))
}

/// Looking at a component compiles it: not on a thread that others need.
async fn look_at(name: String, body: axum::body::Bytes) -> Result<Module, Failed> {
    let looked = tokio::task::spawn_blocking(move || Module::from_bytes(name, &body)).await;
    let looked = looked.map_err(|_| Failed::from(Error::panicked()))?;
    Ok(looked?)
}
