//! Modules: deploy, inspect, list; the stored ones and their components.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::client::Error;
use crate::client::body::{CollectedModules, GrantsBody, Inspected, UploadBody};
use crate::http::body;
use crate::http::native::doc::{Operation, delete, flag, get, post, put, text};
use crate::http::native::extract::{Admin, Ask, Component, Failed, Object, Segments};
use crate::http::native::reply::{Nothing, Raw, Reply};
use crate::http::permits::{self, Permission};
use crate::http::wire;
use crate::{Collect, Deployment, Grants, ModuleInfo, ModuleLimits, RemoveInUse, StoredModule};

/// The media type of components.
const WASM: &str = "application/wasm";

#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an entry for each operation"
)]
pub(super) fn operations() -> Vec<Operation> {
    vec![
        get(
            "/modules",
            list,
            "listModules",
            "The deployed modules, in the order of their names",
        )
        .answer(200, "The modules"),
        get("/modules/{name}", show, "showModule", "One deployed module").answer(200, "The module"),
        deploying(),
        post(
            "/inspect",
            inspect,
            "inspectModule",
            "Inspects a component without deploying it",
        )
        .query("name", text(), "The name that the module would have")
        .answer(200, "The definitions and imports of the component"),
        delete(
            "/modules/{name}",
            remove,
            "removeModule",
            "Removes a module: nothing new can start on it, and its live instances continue",
        )
        .query(
            "inUseToo",
            flag(),
            "Removes the module even if live instances run it",
        )
        .answer(204, "The module was removed")
        .fails(&[(409, "Live instances run the module")]),
        post(
            "/collect",
            collect,
            "collectModules",
            "Deletes stored modules that no name and no instance uses",
        )
        .query(
            "oldVersions",
            flag(),
            "Also deletes old versions that no live instance uses",
        )
        .query(
            "dryRun",
            flag(),
            "Only lists the modules that would be deleted",
        )
        .answer(200, "The deleted modules"),
        get(
            "/modules/{name}/component",
            component,
            "readComponent",
            "The component of a stored module, given by the name of a deployed one or by at least six digits of its digest",
        )
        .answer_raw(200, "The component; its ETag is its digest", WASM, |_| {
            schemars::json_schema!({ "type": "string", "contentMediaType": WASM })
        })
        .answer(304, "The caller has it: If-None-Match names its digest"),
        get(
            "/stored-modules",
            stored,
            "listStoredModules",
            "All stored modules, the newest first, also those that no name refers to any more",
        )
        .answer(200, "The stored modules"),
        get(
            "/stored-modules/{name}",
            one_stored,
            "showStoredModule",
            "One stored module, given as for its component",
        )
        .answer(200, "The stored module"),
        grants(put(
            "/modules/{name}/grants",
            set_grants,
            "setGrants",
            "Replaces the grants of a module",
        )),
        grants(post(
            "/modules/{name}/grants",
            add_grants,
            "addGrants",
            "Adds to the grants of a module",
        )),
    ]
}

fn deploying() -> Operation {
    put(
        "/modules/{name}",
        deploy,
        "deployModule",
        "Deploys a component, or a stored one again: new instances use it for the names that it defines",
    )
    .query("replace", flag(), "Takes over names that other modules own")
    .answer(200, "The names that the module defines, and what changed")
    .fails(&[
        (
            403,
            "Without an admin key: the component would get the grants of a module",
        ),
        (409, "Another module owns a name"),
    ])
}

fn grants(operation: Operation) -> Operation {
    operation.answer(
        204,
        "The grants hold from the next attempt of each activity on",
    )
}

async fn list(ask: Ask) -> Result<Reply<Vec<ModuleInfo>>, Failed> {
    Ok(Reply::ok(&ask.client.modules().await?))
}

async fn show(ask: Ask, Segments(name): Segments<String>) -> Result<Reply<ModuleInfo>, Failed> {
    let modules = ask.client.modules().await?;
    let found = modules.iter().find(|module| module.name == name);
    let found = found.ok_or_else(|| Failed::from(Error::unknown_module(&name)))?;
    Ok(Reply::ok(found))
}

async fn remove(ask: Ask, Segments(name): Segments<String>) -> Result<Nothing, Failed> {
    let also = if ask.query.flag("inUseToo", false)? {
        RemoveInUse::Yes
    } else {
        RemoveInUse::No
    };
    ask.client.remove_module(&name, also).await?;
    Ok(Nothing(StatusCode::NO_CONTENT))
}

async fn collect(ask: Ask) -> Result<Reply<CollectedModules>, Failed> {
    let which = Collect::new()
        .old_versions(ask.query.flag("oldVersions", false)?)
        .dry_run(ask.query.flag("dryRun", false)?);
    let collected = ask.client.collect_modules(which).await?;
    Ok(Reply::ok(&CollectedModules(collected)))
}

async fn set_grants(
    ask: Ask,
    _: Admin,
    Segments(name): Segments<String>,
    Object(grants): Object<GrantsBody>,
) -> Result<Nothing, Failed> {
    ask.client.grant(&name, &grants.into()).await?;
    Ok(Nothing(StatusCode::NO_CONTENT))
}

async fn add_grants(
    ask: Ask,
    _: Admin,
    Segments(name): Segments<String>,
    Object(grants): Object<GrantsBody>,
) -> Result<Nothing, Failed> {
    ask.client.grant_more(&name, &grants.into()).await?;
    Ok(Nothing(StatusCode::NO_CONTENT))
}

async fn stored(ask: Ask) -> Result<Reply<Vec<StoredModule>>, Failed> {
    Ok(Reply::ok(&ask.client.stored_modules().await?))
}

async fn one_stored(
    ask: Ask,
    Segments(name): Segments<String>,
) -> Result<Reply<StoredModule>, Failed> {
    Ok(Reply::ok(&ask.client.stored_module(&name).await?))
}

async fn component(
    ask: Ask,
    headers: HeaderMap,
    Segments(name): Segments<String>,
) -> Result<Raw, Failed> {
    let stored = ask.client.stored_module(&name).await?;
    let digest = stored.digest.to_string();
    let tag = format!("\"{digest}\"");
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|tags| tags.to_str().ok());
    if known.any(|tags| tags.contains(&tag)) {
        let unchanged = wire::empty(StatusCode::NOT_MODIFIED);
        return Ok(Raw(wire::with_header(unchanged, header::ETAG, &tag)));
    }
    // Before it is read: a component has up to 64 MiB.
    let size = usize::try_from(stored.size).unwrap_or(usize::MAX);
    let room = body::room(&ask.api, size).await?;
    let mut response = Response::new(Body::from(ask.client.component(&digest).await?));
    let kind = HeaderValue::from_static(WASM);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let file = format!("attachment; filename=\"{}.wasm\"", stored.digest.short());
    let response = wire::with_header(response, header::ETAG, &tag);
    let response = wire::with_header(response, header::CONTENT_DISPOSITION, &file);
    Ok(Raw(body::keep(response, room)))
}

/// What is deployed.
enum What {
    Component(axum::body::Bytes),
    /// A module that the hub has, by its name or digest.
    Stored(String),
}

/// An upload: a component, or JSON with a component or the digest of a stored one, its grants and its limits.
struct Uploaded {
    what: What,
    grants: Option<Grants>,
    limits: Option<ModuleLimits>,
}

fn uploaded(body: Component) -> Result<Uploaded, Failed> {
    if !body.is_json {
        return Ok(Uploaded {
            what: What::Component(body.bytes),
            grants: None,
            limits: None,
        });
    }
    let upload: UploadBody = serde_json::from_slice(&body.bytes)
        .map_err(|error| Failed::invalid(format!("the body is not what was expected: {error}")))?;
    let what = match (upload.component, upload.stored) {
        (Some(text), None) => {
            let bytes = BASE64_STANDARD.decode(text);
            let bytes = bytes.map_err(|error| {
                Failed::invalid(format!("the component is not base64: {error}"))
            })?;
            What::Component(bytes.into())
        }
        (None, Some(stored)) => What::Stored(stored),
        (None, None) | (Some(_), Some(_)) => {
            let message = "the body must have either `component`, in base64, or `stored`, the digest of a stored module";
            return Err(Failed::invalid(message));
        }
    };
    Ok(Uploaded {
        what,
        grants: upload.grants.map(Grants::from),
        limits: upload.limits,
    })
}

async fn deploy(
    ask: Ask,
    Segments(name): Segments<String>,
    body: Component,
) -> Result<Reply<Deployment>, Failed> {
    let replace = ask.query.flag("replace", false)?;
    let Uploaded {
        what,
        grants,
        limits,
    } = uploaded(body)?;
    if grants.is_some() {
        ask.must(Permission::Grant).await?;
    }
    let may_grant = ask.may(Permission::Grant).await?;
    let mut deploy = match what {
        What::Component(bytes) => {
            let module = ask.client.look_at(name, bytes.into()).await?;
            permits::deploy(&ask.client, may_grant, module, replace).await?
        }
        What::Stored(stored) => {
            permits::deploy_stored(&ask.client, may_grant, (&stored, name), replace).await?
        }
    };
    if let Some(grants) = grants {
        deploy = deploy.grants(grants);
    }
    if let Some(limits) = limits {
        deploy = deploy.limits(limits);
    }
    Ok(Reply::ok(&deploy.await?))
}

async fn inspect(ask: Ask, body: Component) -> Result<Reply<Inspected>, Failed> {
    let name = ask.query.text("name").unwrap_or_default().to_owned();
    let module = match uploaded(body)?.what {
        What::Component(bytes) => ask.client.look_at(name, bytes.into()).await?,
        What::Stored(stored) => ask.client.load_module(&stored).await?.named(name),
    };
    Ok(Reply::ok(&Inspected {
        name: module.name().to_owned(),
        digest: module.digest(),
        contract: module.contract().to_owned(),
        definitions: module.definitions().to_vec(),
        imports: module.imports().to_vec(),
        size: module.size(),
    }))
}
