//! `perennial keys`.

use perennial::Role;
use serde::Serialize;

use crate::args::Keys;
use crate::error::{CliError, Exit};
use crate::session::Session;

#[derive(Serialize)]
struct RevokedJson<'a> {
    id: &'a str,
    revoked: bool,
}

pub(super) async fn keys(command: Keys, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Keys::Create { name, read_only } => create(&name, read_only, session).await,
        Keys::List => list(session).await,
        Keys::Revoke { id } => revoke(&id, session).await,
    }
}

async fn create(name: &str, read_only: bool, session: &Session) -> anyhow::Result<Exit> {
    let role = if read_only {
        Role::ReadOnly
    } else {
        Role::Admin
    };
    let made = session.client()?.create_key(name, role).await?;
    let output = session.output();
    if output.is_json() {
        output.json(&made)?;
    } else {
        output.line(&made.secret)?;
        output.note(&format!(
            "made the {} key {} for task hub {:?}; it is not shown again",
            word(role),
            made.key.id,
            session.task_hub()
        ));
    }
    Ok(Exit::Ok)
}

async fn list(session: &Session) -> anyhow::Result<Exit> {
    let keys = session.client()?.keys().await?;
    let output = session.output();
    if output.is_json() {
        output.json(&keys)?;
        return Ok(Exit::Ok);
    }
    for key in &keys {
        let role = word(key.role);
        output.line(&format!("{}  {role:<9}  {}", key.id, key.name))?;
    }
    if keys.is_empty() {
        output.note("there are no keys");
    }
    Ok(Exit::Ok)
}

async fn revoke(id: &str, session: &Session) -> anyhow::Result<Exit> {
    if !session.client()?.revoke_key(id).await? {
        let said = CliError::new(Exit::NotFound, format!("there is no key {id:?}"));
        return Err(said
            .hint("`perennial keys list` shows the ids of the keys")
            .into());
    }
    let output = session.output();
    if output.is_json() {
        output.json(&RevokedJson { id, revoked: true })?;
    } else {
        output.note(&format!("revoked key {id}"));
    }
    Ok(Exit::Ok)
}

fn word(role: Role) -> &'static str {
    match role {
        Role::ReadOnly => "read-only",
        Role::Admin => "admin",
    }
}
