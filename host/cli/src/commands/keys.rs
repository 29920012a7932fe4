//! `perennial keys`.

use perennial::{AccessKey, Role};
use serde::Serialize;

use crate::args::Keys;
use crate::error::{CliError, Exit};
use crate::format::time;
use crate::output::{Cell, plain};
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
    let client = session.client()?;
    // Where there is no hub yet, the key makes it.
    let keys = client.keys().await.unwrap_or_default();
    let made = client.create_key(name, role).await?;
    let output = session.output();
    if output.is_json() {
        output.json(&made)?;
    } else {
        output.line(&made.secret)?;
        output.note(&format!(
            "made the {} key {} for task hub {:?}; it is not shown again",
            role,
            made.key.id,
            session.task_hub()
        ));
        for same in keys.iter().filter(|key| key.name == name) {
            output.note(&format!(
                "key {} has the same name, and stays valid until it is revoked",
                same.id
            ));
        }
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
    if keys.is_empty() {
        output.note("there are no keys");
        return Ok(Exit::Ok);
    }
    let row = |key: &AccessKey| {
        vec![
            Cell::new(&key.id),
            Cell::new(key.role.to_string()),
            Cell::new(time(key.created_at)),
            Cell::new(plain(&key.name)),
        ]
    };
    let header = ["ID", "ROLE", "CREATED (UTC)", "NAME"];
    output.table(&header, keys.iter().map(row).collect())?;
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
