//! Workers.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use maud::html;

use crate::layout;
use crate::page::{Page, Shown};

pub(crate) fn routes() -> Router {
    Router::new().route("/{hub}/workers", get(page))
}

async fn page(page: Page) -> Shown {
    let body = html! { h1 { "Workers" } };
    Ok(layout::page(&page, StatusCode::OK, "Workers", "Workers", &body))
}
