//! Rewind and restart.

use axum::http::{StatusCode, header};

use crate::client::Rewound;
use crate::client::body::{RestartBody, RewindBody, Started};
use crate::http::native::BASE;
use crate::http::native::doc::{Operation, post};
use crate::http::native::extract::{Ask, Failed, Object, Segments};
use crate::http::native::reply::Reply;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        post(
            "/instances/{id}/rewind",
            rewind,
            "rewindInstance",
            "Continues a failed instance from before its failure",
        )
        .for_a_run()
        .body_is_optional()
        .answer(200, "What the rewind did")
        .fails(&[(409, "The instance has not failed")]),
        post(
            "/instances/{id}/restart",
            restart,
            "restartInstance",
            "Runs an instance again from its beginning, at once. Without `id` in the body the run is a new \
             instance with a generated id; with the id of the instance itself, which must have ended, it \
             is the next execution of that instance. After continue-as-new it gets the input of the last \
             execution",
        )
        .for_a_run()
        .body_is_optional()
        .answer(201, "The id of the new run")
        .fails(&[(409, "The id is in use")]),
    ]
}

async fn rewind(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<RewindBody>,
) -> Result<Reply<Rewound>, Failed> {
    let mut rewind = ask.client.rewind(id);
    if let Some(reason) = body.reason {
        rewind = rewind.reason(reason);
    }
    if let Some(module) = body.module {
        rewind = rewind.module(module);
    }
    if body.all_failures {
        rewind = rewind.all_failures();
    }
    if body.forget_completed {
        rewind = rewind.forget_completed();
    }
    Ok(Reply::ok(&rewind.await?))
}

async fn restart(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<RestartBody>,
) -> Result<Reply<Started>, Failed> {
    let restart = ask.client.restart(&id);
    let begun = match body.id {
        Some(same) if same == id => restart.await?,
        Some(other) => restart.with_id(other).await?,
        None => restart.with_new_id().await?,
    };
    Ok(created(begun))
}

/// The answer with the id of a new instance.
pub(super) fn created(instance_id: String) -> Reply<Started> {
    let escaped =
        percent_encoding::utf8_percent_encode(&instance_id, percent_encoding::NON_ALPHANUMERIC);
    let location = format!("{BASE}/instances/{escaped}");
    Reply::new(StatusCode::CREATED, &Started { instance_id })
        .with_header(header::LOCATION, &location)
}
