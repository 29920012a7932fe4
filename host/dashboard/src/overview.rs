//! What is going on in a hub.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use maud::html;

use crate::page::Page;
use crate::refused::{OnPage, Shown};
use crate::{layout, show};

pub(crate) fn routes() -> Router {
    Router::new().route("/{hub}/", get(overview))
}

async fn overview(page: Page) -> Shown {
    let counts = page.client.counts().await.on(&page)?;
    let body = html! {
        h1 { "Overview" }
        div data-live=(page.api("/live")) data-every="3000" {
            div data-part="counts" {
                dl.facts { @for (status, count) in &counts { dt { (show::status(*status)) } dd { (show::count(*count)) } } }
            }
        }
    };
    Ok(layout::page(&page, StatusCode::OK, "Overview", "Overview", &body))
}
