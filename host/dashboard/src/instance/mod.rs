//! One instance.

mod travel;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use maud::html;

use crate::page::{OnPage, Page, Refused, Shown};
use crate::{layout, show};

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/{hub}/instances/{id}", get(summary))
        .merge(travel::routes())
}

async fn summary(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = page.client.status(&id).show_input().await.on(&page)?;
    let status = status.ok_or_else(|| Refused::no_instance(&id).on(&page))?;
    let body = html! {
        h1 { (show::copyable(&status.instance_id)) }
        (show::json(status.input.as_ref()))
    };
    Ok(layout::page(&page, StatusCode::OK, &id, "Instances", &body))
}
