//! Stored modules, whether a name refers to them or not: what can be deployed again.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::{Digest, Timestamp};
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::codec::uint;
use crate::store::numbers::definition_number as number;
use crate::store::sqlite::rows::modules::{component_undamaged, definitions};
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::types::StoredRow;

impl FileReader {
    /// The bytes of a module, which match its digest.
    pub(crate) fn component_undamaged(
        &self,
        digest: Digest,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|db| component_undamaged(db, digest))
    }

    pub(crate) fn stored_modules(
        &self,
        only: Option<Digest>,
    ) -> Result<Vec<StoredRow>, StoreError> {
        self.with(|db| stored(db, only))
    }
}

/// All stored modules, or the one with this digest, the newest first; also those that no name refers to any more.
fn stored(db: &Connection, only: Option<Digest>) -> Result<Vec<StoredRow>, StoreError> {
    let mut owners = BTreeMap::new();
    let mut query = db.prepare("SELECT kind, name, module FROM definition")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let key: (u8, String) = (row.get(0)?, row.get(1)?);
        owners.insert(key, row.get::<_, String>(2)?);
    }
    let mut deployed =
        db.prepare("SELECT name FROM module_name WHERE digest = ?1 ORDER BY name")?;
    let mut query = db.prepare(
        "SELECT digest, contract, definitions, imports, length(component), stored_at FROM module
         WHERE ?1 IS NULL OR digest = ?1 ORDER BY stored_at DESC, digest",
    )?;
    let mut found = query.query([only.map(|digest| digest.0)])?;
    let mut modules = Vec::new();
    while let Some(row) = found.next()? {
        let digest = Digest(row.get(0)?);
        let definitions = definitions(&row.get::<_, String>(2)?)?;
        let names = deployed.query_map([digest.0], |row| row.get(0))?;
        let versions_of = definitions.iter().filter_map(|definition| {
            owners.get(&(number(definition.kind), definition.name.clone()))
        });
        let versions_of: BTreeSet<&String> = versions_of.collect();
        modules.push(StoredRow {
            digest,
            contract: row.get(1)?,
            imports: serde_json::from_str(&row.get::<_, String>(3)?)
                .map_err(|e| StoreError::Corrupt(e.to_string()))?,
            size: uint(row.get(4)?),
            stored_at: Timestamp(uint(row.get(5)?)),
            deployed_as: names.collect::<Result<_, _>>()?,
            versions_of: versions_of.into_iter().cloned().collect(),
            definitions,
        });
    }
    Ok(modules)
}
