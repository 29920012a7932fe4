//! Deploying a component from a browser: a preview of what it would change, a check of live instances, and the deployment.
//!
//! Invariants: nothing is kept between the steps, each request brings the component; a deployment names the digest that was previewed, so
//! that a file which changed meanwhile is not deployed.

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use maud::{Markup, html};
use perennial::Module;
use tokio::sync::mpsc;

use super::changes::Offered;
use super::preview::{Preview, not_by_you, said, taken};
use super::{check as checks, one};
use crate::change;
use crate::page::{Page, data};
use crate::refused::Refused;

/// The place of a page where a component is chosen.
pub(crate) fn place(page: &Page) -> Markup {
    let name = page.query.text("name").unwrap_or_default();
    html! {
        section #deploy.card aria-labelledby="deploy-title" data-deploy=(page.path("/deploy")) {
            h2 #deploy-title { "Deploy a component" }
            noscript { p.warning {
                "To deploy from a browser needs JavaScript. The command line does the same: " code { "perennial deploy FILE.wasm" }
            } }
            div.deploy hidden {
                p.hint { "A preview comes first. Nothing changes until you confirm it." }
                div.drop {
                    label for="component" { "Component, a .wasm file; or drop it here" }
                    input #component type="file" accept=".wasm,application/wasm";
                }
                label for="module-name" { "Name of the module" }
                input #module-name value=(name) autocomplete="off" spellcheck="false" aria-describedby="module-name-hint";
                p.hint #module-name-hint {
                    "Under the name of a deployed module, it replaces that one. By default it is the name of the file."
                }
                p { button type="button" data-step="inspect" { "Preview" } }
                div.preview aria-live="polite" {}
            }
        }
    }
}

/// The component in a body, inspected.
async fn component(page: &Page, body: Body) -> Result<Module, Refused> {
    let name = page.query.text("name");
    let name = name.ok_or_else(|| Refused::invalid("Give the module a name."))?;
    // The host has bounded it.
    let bytes = to_bytes(body, usize::MAX).await;
    let bytes = bytes
        .map_err(|_| Refused::invalid("The component did not arrive whole; send it again."))?;
    if bytes.is_empty() {
        return Err(Refused::invalid(
            "Choose a component first: this file is empty.",
        ));
    }
    Ok(page.client.look_at(name, bytes.into()).await?)
}

/// A part of a page, for a script to show.
fn fragment(shown: Result<Markup, Refused>) -> Response {
    let (status, markup) = match shown {
        Ok(markup) => (StatusCode::OK, markup),
        Err(refused) => (refused.status, refused.alert()),
    };
    (
        status,
        data("text/html; charset=utf-8", markup.into_string()),
    )
        .into_response()
}

pub(crate) async fn inspect(page: Page, body: Body) -> Response {
    fragment(inspected(&page, body).await)
}

async fn inspected(page: &Page, body: Body) -> Result<Markup, Refused> {
    let module = component(page, body).await?;
    let deployed = page.client.modules().await?;
    let preview = Preview::of(&page.client, Offered::uploaded(&module), &deployed).await?;
    let takes = preview.changes.taken().next().is_some();
    let refused = page.visitor.deploy(module.clone(), takes).await.err();
    let confirmation = match refused {
        Some(refused) => not_by_you(&refused.into()),
        None => confirmation(&preview),
    };
    Ok(preview.show(page, &check_button(), &confirmation))
}

fn check_button() -> Markup {
    html! {
        p.row {
            button type="button" data-step="check" { "Check whether they could go on with it" }
            progress.check max="1" value="0" hidden aria-label="Instances checked" {}
            span.checked {}
        }
        p.hint { "Their histories are replayed on the new component. Nothing is written." }
        div.report {}
    }
}

fn confirmation(preview: &Preview<'_>) -> Markup {
    let offered = &preview.offered;
    html! {
        div.confirm data-digest=(offered.digest) data-name=(offered.name) {
            @if let Some(taken) = taken(&preview.changes) {
                (taken)
                p { label.inline { input type="checkbox" data-replace; "Take the names over" } }
            }
            p { button.primary type="button" data-step="deploy" { "Deploy " (offered.name) } }
            div.outcome role="alert" {}
        }
    }
}

pub(crate) async fn deploy(page: Page, body: Body) -> Response {
    match deployed(&page, body).await {
        // The script leads there.
        Ok((to, said)) => {
            let answer = data("text/plain; charset=utf-8", to.clone());
            change::telling(answer, &to, &said)
        }
        Err(refused) => fragment(Err(refused)),
    }
}

async fn deployed(page: &Page, body: Body) -> Result<(String, String), Refused> {
    let module = component(page, body).await?;
    if page.query.text("digest") != Some(&module.digest().to_string()) {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "This is not the component that was previewed: the file has changed. Nothing was deployed; preview it again.",
        ));
    }
    let replace = page.query.is_set("replace");
    let done = page.visitor.deploy(module, replace).await?.await?;
    Ok((one::path(page, &done.name, ""), said(&done)))
}

/// A part of the answer to a check: lines with the number of instances checked and of all, an empty line, and the report.
enum Said {
    Progress(usize, usize),
    Report(Markup),
}

impl Said {
    fn text(self) -> String {
        match self {
            Self::Progress(done, all) => format!("{done} {all}\n"),
            Self::Report(report) => format!("\n{}", report.into_string()),
        }
    }
}

pub(crate) async fn check(page: Page, body: Body) -> Response {
    match checking(page, body).await {
        Ok(answer) => answer,
        Err(refused) => fragment(Err(refused)),
    }
}

async fn checking(page: Page, body: Body) -> Result<Response, Refused> {
    let (said, hear) = mpsc::channel(16);
    let progress = said.clone();
    let told = move |done, all| {
        // Who does not listen misses a number, and gets the next one.
        let _ = progress.try_send(Said::Progress(done, all));
    };
    let check = checks::begin(&page, component(&page, body), told).await?;
    tokio::spawn(async move {
        if let Ok(report) = check.await {
            let _ = said.send(Said::Report(report)).await;
        }
    });
    let parts = stream::unfold(hear, async |mut hear| {
        let said = hear.recv().await?;
        Some((Ok::<_, Infallible>(said.text()), hear))
    });
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(parts)).into_response())
}
