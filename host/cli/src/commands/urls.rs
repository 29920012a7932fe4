//! `perennial status --urls`: the management URLs of an instance.

use crate::error::Exit;
use crate::session::Session;

use super::missing::missing;

pub(super) async fn urls(id: &str, base: &str, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let payload = client.http_management_payload(id, base)?;
    // An address of nothing is of no use to anybody.
    client
        .status(id)
        .await?
        .ok_or_else(|| missing(id, session))?;
    let output = session.output();
    if output.is_json() {
        output.json(&payload)?;
        return Ok(Exit::Ok);
    }
    output.block(&[
        ("status", payload.status_query_get_uri),
        ("raise event", payload.send_event_post_uri),
        ("terminate", payload.terminate_post_uri),
        ("suspend", payload.suspend_post_uri),
        ("resume", payload.resume_post_uri),
        ("rewind", payload.rewind_post_uri),
        ("restart", payload.restart_post_uri),
        ("purge", payload.purge_history_delete_uri),
    ])?;
    Ok(Exit::Ok)
}
