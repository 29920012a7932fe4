//! Instances.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use maud::html;

use crate::layout;
use crate::page::Page;
use crate::refused::Shown;

pub(crate) fn routes() -> Router {
    Router::new().route("/{hub}/instances", get(page))
}

async fn page(page: Page) -> Shown {
    let body = html! { h1 { "Instances" } };
    Ok(layout::page(
        &page,
        StatusCode::OK,
        "Instances",
        "Instances",
        &body,
    ))
}
