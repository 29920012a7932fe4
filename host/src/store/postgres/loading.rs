//! Loads the rows that are wanted: several queries, sent together.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::store::StoreError;
use crate::store::memory::{CommandRow, Module, Name};
use crate::store::numbers::{definition_kind_of, status_of};
use crate::store::overlay::source::{HubRows, Loaded, LoadedInstance, Wanted};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::partitions::{self, unless_all};
use crate::store::postgres::session::{Param, Session};
use crate::store::postgres::source::{
    big, digest_of, instance, mail, posted, request, state, task, time, value,
};
use crate::store::postgres::wanted::{
    BELOW, COMMANDS, ENDED_CHILDREN, HUB, INBOX, INSTANCES, REQUESTS, SENT, TAKEN, TASKS, VALUES,
};
use crate::store::rows::instances::Child;
use crate::store::types::{InstanceKey, KeyRow};

/// What is wanted, as parameters of queries.
struct Asked<'w> {
    keys: Vec<i64>,
    ids: Vec<String>,
    starts: Vec<String>,
    parents_of: Vec<i64>,
    children_of: Vec<i64>,
    ended_children_of: Vec<i64>,
    asked_by: Vec<i64>,
    below: Vec<i64>,
    sent: &'w [i64],
    tokens: Vec<String>,
    hub: bool,
    among: Option<Vec<i16>>,
}

impl<'w> Asked<'w> {
    fn of(wanted: &'w Wanted, own: &Partitions) -> Self {
        let keys = |keys: &[InstanceKey]| keys.iter().map(|key| key.0).collect();
        // No row has a text with a NUL, and PostgreSQL takes none.
        let texts = |texts: &[String]| {
            let texts = texts.iter().filter(|text| !text.contains('\0'));
            texts.cloned().collect()
        };
        Self {
            keys: keys(&wanted.keys),
            ids: texts(&wanted.ids),
            starts: texts(&wanted.starts),
            parents_of: keys(&wanted.parents_of),
            children_of: keys(&wanted.live_children_of),
            ended_children_of: keys(&wanted.ended_children_of),
            asked_by: keys(&wanted.asked_by),
            below: keys(&wanted.below),
            sent: &wanted.sent,
            tokens: texts(&wanted.tokens),
            hub: wanted.hub,
            among: unless_all(own),
        }
    }

    fn wants_instances(&self) -> bool {
        let of_instances = [
            &self.keys,
            &self.parents_of,
            &self.children_of,
            &self.asked_by,
        ];
        !self.ids.is_empty() || of_instances.iter().any(|keys| !keys.is_empty())
    }

    /// The queries, in the order in which [`read`](Self::read) reads what they find.
    fn queries(&self) -> Vec<(&'static str, Vec<Param<'_>>)> {
        let mut queries: Vec<(&'static str, Vec<Param<'_>>)> = Vec::new();
        if self.wants_instances() {
            for sql in [INSTANCES, INBOX, TASKS, VALUES, REQUESTS] {
                let params: [Param<'_>; 6] = [
                    &self.keys,
                    &self.ids,
                    &self.parents_of,
                    &self.children_of,
                    &self.asked_by,
                    &self.among,
                ];
                queries.push((sql, params.to_vec()));
            }
        }
        if !self.starts.is_empty() {
            queries.push((TAKEN, vec![&self.starts]));
        }
        if !self.ended_children_of.is_empty() {
            queries.push((ENDED_CHILDREN, vec![&self.ended_children_of, &self.among]));
        }
        if !self.below.is_empty() {
            queries.push((BELOW, vec![&self.below]));
        }
        if !self.sent.is_empty() {
            queries.push((SENT, vec![&self.sent]));
        }
        if !self.tokens.is_empty() {
            queries.push((COMMANDS, vec![&self.tokens]));
        }
        if self.hub {
            queries.extend(HUB.map(|sql| (sql, Vec::new())));
        }
        queries
    }

    /// Reads what was found. The ids that starts want and an instance has are wanted next.
    fn read(&self, found: Vec<Vec<Row>>) -> Result<(Loaded, Wanted), StoreError> {
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or_default();
        let (mut loaded, mut taken) = (Loaded::default(), Wanted::default());
        if self.wants_instances() {
            loaded.instances = instances([next(), next(), next(), next(), next()])?;
        }
        if !self.starts.is_empty() {
            taken.ids = ids_of(&next())?;
        }
        if !self.ended_children_of.is_empty() {
            loaded.ended_children = ended_children(&next())?;
        }
        if !self.below.is_empty() {
            loaded.below = next().iter().map(below).collect::<Result<_, _>>()?;
        }
        if !self.sent.is_empty() {
            loaded.sent = next().iter().map(posted).collect::<Result<_, _>>()?;
        }
        if !self.tokens.is_empty() {
            loaded.commands = commands(&next())?;
        }
        if self.hub {
            loaded.hub = Some(hub([next(), next(), next(), next(), next(), next()])?);
        }
        Ok((loaded, taken))
    }
}

/// Loads rows; of instances only those of these partitions.
pub(super) fn load(
    session: &Session,
    wanted: &Wanted,
    own: &Partitions,
) -> Result<Loaded, StoreError> {
    let asked = Asked::of(wanted, own);
    let queries = asked.queries();
    if queries.is_empty() {
        return Ok(Loaded::default());
    }
    let queries: Vec<(&str, &[Param<'_>])> = queries
        .iter()
        .map(|(sql, params)| (*sql, &params[..]))
        .collect();
    let (mut loaded, taken) = asked.read(session.query_all(&queries)?)?;
    // All that belongs to an instance is read only where there is one: starts are many, and their ids are seldom taken.
    if !taken.ids.is_empty() {
        let more = load(session, &taken, own)?;
        loaded.instances.extend(more.instances);
    }
    Ok(loaded)
}

fn ids_of(rows: &[Row]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn ended_children(rows: &[Row]) -> Result<Vec<(InstanceKey, Child)>, StoreError> {
    rows.iter()
        .map(|row| Ok((InstanceKey(row.try_get(0)?), child(row)?)))
        .collect()
}

fn commands(rows: &[Row]) -> Result<Vec<(String, CommandRow)>, StoreError> {
    let command = |row: &Row| {
        let command = (time(row, 1)?.unwrap_or_default(), row.try_get(2)?);
        Ok((row.try_get(0)?, command))
    };
    rows.iter().map(command).collect()
}

/// Reads where children are: parent, partition.
fn below(row: &Row) -> Result<(InstanceKey, Partition), StoreError> {
    let partition = partitions::partition(row.try_get(1)?);
    Ok((InstanceKey(row.try_get(0)?), partition))
}

/// Reads a row of an ended child: parent, key, id, status.
fn child(row: &Row) -> Result<Child, StoreError> {
    Ok(Child {
        key: InstanceKey(row.try_get(1)?),
        id: row.try_get(2)?,
        status: status_of(state(row, 3)?)?,
    })
}

fn from_json<T: serde::de::DeserializeOwned>(
    row: &Row,
    column: usize,
    what: &str,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(format!("{what}: {e}")))
}

/// All rows by a key and then something else.
fn pairs<'r, V: FromSql<'r>>(rows: &'r [Row]) -> Result<Vec<(String, V)>, StoreError> {
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

fn instances(
    [instances, inbox, tasks, values, requests]: [Vec<Row>; 5],
) -> Result<Vec<LoadedInstance>, StoreError> {
    let mut places = HashMap::new();
    let mut loaded: Vec<LoadedInstance> = Vec::new();
    for row in &instances {
        let instance = instance(row)?;
        places.insert(instance.row.key, loaded.len());
        loaded.push(LoadedInstance {
            instance,
            inbox: Vec::new(),
            tasks: Vec::new(),
            values: Vec::new(),
            requests: Vec::new(),
        });
    }
    // A row without its instance is one of a hub that was damaged: nothing asks for it.
    let of = |row: &Row| -> Result<Option<usize>, StoreError> {
        Ok(places.get(&InstanceKey(row.try_get(0)?)).copied())
    };
    for row in &inbox {
        if let Some(place) = of(row)? {
            loaded[place].inbox.push((big(row, 1)?, mail(row)?));
        }
    }
    for row in &tasks {
        if let Some(place) = of(row)? {
            loaded[place].tasks.push(task(row)?);
        }
    }
    for row in &values {
        if let Some(place) = of(row)? {
            loaded[place].values.push(value(row)?);
        }
    }
    for row in &requests {
        if let Some(place) = of(row)? {
            loaded[place]
                .requests
                .push((row.try_get(1)?, request(row)?));
        }
    }
    Ok(loaded)
}

fn hub(
    [modules, names, definitions, versions, settings, keys]: [Vec<Row>; 6],
) -> Result<HubRows, StoreError> {
    let mut hub = HubRows {
        settings: pairs(&settings)?,
        ..HubRows::default()
    };
    for row in &modules {
        let module = Module {
            component: Vec::new(),
            bytes: big(row, 1)?,
            contract: row.try_get(2)?,
            definitions: from_json(row, 3, "the definitions of a module")?,
            imports: from_json(row, 4, "the imports of a module")?,
            stored_at: time(row, 5)?.unwrap_or_default(),
        };
        hub.modules.push((digest_of(row, 0)?, module));
    }
    for row in &names {
        let name = Name {
            digest: digest_of(row, 1)?,
            grants: row.try_get(2)?,
            limits: row.try_get(3)?,
            deployed_at: time(row, 4)?.unwrap_or_default(),
        };
        hub.names.push((row.try_get(0)?, name));
    }
    for row in &definitions {
        let place = (definition_kind_of(state(row, 0)?)?, row.try_get(1)?);
        hub.definitions.push((
            place,
            (row.try_get(2)?, digest_of(row, 3)?, row.try_get(4)?),
        ));
    }
    for row in &versions {
        let place = (row.try_get(0)?, row.try_get(1)?);
        hub.versions
            .push((place, (row.try_get(2)?, digest_of(row, 3)?)));
    }
    for row in &keys {
        let id: String = row.try_get(0)?;
        let hash: &[u8] = row.try_get(3)?;
        let key = KeyRow {
            id: id.clone(),
            name: row.try_get(1)?,
            admin: state(row, 2)? == 1,
            hash: hash.try_into().map_err(|_| {
                StoreError::Corrupt("the hash of a key does not have 32 bytes".to_owned())
            })?,
            created_at: time(row, 4)?.unwrap_or_default(),
        };
        hub.keys.push((id, key));
    }
    Ok(hub)
}
