//! Modules and deployed names.

use std::collections::BTreeSet;

use perennial_core::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{int, uint};
use crate::store::numbers::{definition_kind_of as kind_of, definition_number as number};
use crate::store::rows::Found;
use crate::store::rows::hub::ModuleRows;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{
    CollectedModule, Definition, DefinitionKind, ModuleRow, NameRows, NewModule, OldVersions,
};

/// A text with fewer hexadecimal digits than this is not a prefix of a digest, but a misspelt name.
const DIGEST_DIGITS_MIN: usize = 6;

/// The contract whose executions cannot be told to cancel.
pub(in crate::store) const FIRST_CONTRACT: &str = "0.1";

/// Reads all deployed names.
pub(crate) fn names(db: &Connection) -> Result<NameRows, StoreError> {
    let mut rows = NameRows::default();
    let mut query = db.prepare("SELECT kind, name, module, digest, version FROM definition")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let key = (kind_of(row.get(0)?)?, row.get(1)?);
        rows.definitions
            .insert(key, (row.get(2)?, Digest(row.get(3)?), row.get(4)?));
    }
    let mut query = db.prepare("SELECT name, version, digest FROM definition_version")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        rows.versions
            .insert((row.get(0)?, row.get(1)?), Digest(row.get(2)?));
    }
    // An old version has the limits of its name. Limits of the current version take precedence.
    let mut query = db.prepare(
        "SELECT v.digest, n.limits FROM definition_version v JOIN module_name n ON n.name = v.module WHERE n.limits <> '{}'
         UNION ALL SELECT digest, limits FROM module_name WHERE limits <> '{}'",
    )?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        rows.limits.insert(Digest(row.get(0)?), row.get(1)?);
    }
    let mut query = db.prepare("SELECT digest, definitions, contract FROM module")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let contract: String = row.get(2)?;
        if contract != FIRST_CONTRACT {
            rows.cancellable.insert(Digest(row.get(0)?));
        }
        let definitions = definitions(&row.get::<_, String>(1)?)?;
        let activities = definitions
            .into_iter()
            .filter(|d| d.kind == DefinitionKind::Activity)
            .map(|d| d.name)
            .collect();
        rows.activities_of.insert(Digest(row.get(0)?), activities);
    }
    Ok(rows)
}

/// Whether a text may be the first digits of a digest, if it is not the name of a module.
pub(crate) fn is_like_a_digest(text: &str) -> bool {
    text.len() >= DIGEST_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The modules that a text may denote: the one with this name, or else all whose hexadecimal digest begins with it.
pub(crate) fn find(db: &Connection, text: &str) -> Result<Vec<Digest>, StoreError> {
    let mut query = db.prepare_cached("SELECT digest FROM module_name WHERE name = ?1")?;
    if let Some(digest) = query.query_row([text], |row| row.get(0)).optional()? {
        return Ok(vec![Digest(digest)]);
    }
    if !is_like_a_digest(text) {
        return Ok(Vec::new());
    }
    let mut query =
        db.prepare_cached("SELECT digest FROM module WHERE hex(digest) LIKE ?1 || '%'")?;
    let found = query.query_map([text], |row| Ok(Digest(row.get(0)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Whether a module has an orchestration of this name.
pub(crate) fn defines(
    db: &Connection,
    digest: Digest,
    orchestration: &str,
) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached("SELECT definitions FROM module WHERE digest = ?1")?;
    let text: Option<String> = query.query_row([digest.0], |row| row.get(0)).optional()?;
    let defined = text.map(|text| definitions(&text)).transpose()?;
    Ok(defined.into_iter().flatten().any(|definition| {
        definition.kind == DefinitionKind::Orchestration && definition.name == orchestration
    }))
}

/// The digests of all stored modules.
pub(crate) fn digests(db: &Connection) -> Result<Vec<Digest>, StoreError> {
    let mut query = db.prepare_cached("SELECT digest FROM module ORDER BY digest")?;
    let digests = query.query_map([], |row| row.get(0).map(Digest))?;
    Ok(digests.collect::<Result<_, _>>()?)
}

/// Refuses a hub that contains a module whose bytes do not match its digest.
///
/// # Errors
/// [`StoreError::Corrupt`] names the module.
pub(crate) fn undamaged(db: &Connection) -> Result<(), StoreError> {
    for digest in digests(db)? {
        component_undamaged(db, digest)?;
    }
    Ok(())
}

/// The bytes of a module, which match its digest.
///
/// # Errors
/// [`StoreError::Corrupt`] names the module.
pub(crate) fn component_undamaged(
    db: &Connection,
    digest: Digest,
) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = component(db, digest)?;
    bytes
        .as_ref()
        .map_or(Ok(()), |bytes| check_component(digest, bytes))?;
    Ok(bytes)
}

/// Refuses bytes of a module that do not match its digest.
///
/// # Errors
/// [`StoreError::Corrupt`] names the module.
pub(in crate::store) fn check_component(digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
    use sha2::Digest as _;
    if sha2::Sha256::digest(bytes)[..] != digest.0 {
        return Err(StoreError::Corrupt(format!(
            "the bytes of module {} are not those that were deployed; to deploy the same file again mends it",
            digest.short()
        )));
    }
    Ok(())
}

/// The bytes of a module.
pub(crate) fn component(db: &Connection, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let mut query = db.prepare_cached("SELECT component FROM module WHERE digest = ?1")?;
    Ok(query.query_row([digest.0], |row| row.get(0)).optional()?)
}

/// The grants of the newest deployment with this digest, or of the name that once had it.
pub(crate) fn grants(db: &Connection, digest: Digest) -> Result<Option<String>, StoreError> {
    // A live instance may be pinned to an old digest of a name. The grants belong to the name, which still owns the same activities.
    let mut query = db.prepare_cached(
        "SELECT grants FROM module_name WHERE digest = ?1
         UNION ALL
         SELECT n.grants FROM module m, json_each(m.definitions) d
             JOIN definition c ON c.name = d.value ->> 'name' JOIN module_name n ON n.name = c.module
             WHERE m.digest = ?1
         LIMIT 1",
    )?;
    Ok(query.query_row([digest.0], |row| row.get(0)).optional()?)
}

/// All modules by name, each with the definitions that it owns; a name that another module took over belongs to that one.
pub(crate) fn list(db: &Connection) -> Result<Vec<ModuleRow>, StoreError> {
    let mut owned = db.prepare("SELECT kind, name FROM definition WHERE module = ?1")?;
    let mut query = db.prepare(
        "SELECT n.name, n.digest, m.definitions, m.imports, n.grants, n.deployed_at, length(m.component), n.limits
         FROM module_name n JOIN module m ON m.digest = n.digest ORDER BY n.name",
    )?;
    let mut found = query.query([])?;
    let mut modules = Vec::new();
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let mut definitions = definitions(&row.get::<_, String>(2)?)?;
        let of_name = owned.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let of_name: BTreeSet<(u8, String)> = of_name.collect::<Result<_, _>>()?;
        definitions.retain(|definition| {
            of_name.contains(&(number(definition.kind), definition.name.clone()))
        });
        modules.push(ModuleRow {
            name,
            digest: Digest(row.get(1)?),
            definitions,
            imports: serde_json::from_str(&row.get::<_, String>(3)?)
                .map_err(|e| StoreError::Corrupt(e.to_string()))?,
            grants: row.get(4)?,
            deployed_at: Timestamp(uint(row.get(5)?)),
            size: uint(row.get(6)?),
            limits: row.get(7)?,
        });
    }
    Ok(modules)
}

pub(in crate::store) fn definitions(text: &str) -> Result<Vec<Definition>, StoreError> {
    serde_json::from_str(text)
        .map_err(|e| StoreError::Corrupt(format!("the definitions of a module: {e}")))
}

/// All digests that names refer to.
const NAMED: &str = "SELECT digest FROM module_name UNION SELECT digest FROM definition";

/// All digests that work refers to. Statuses: 3 is Completed, 5 Terminated.
const PINNED: &str =
    "SELECT module FROM instance WHERE status IN (0, 1, 2, 4) AND module IS NOT NULL
     UNION SELECT module FROM task WHERE module IS NOT NULL";

/// The modules that nothing refers to, or nothing but old versions of orchestrations. The newest versions are definitions too.
pub(crate) fn collectable(
    db: &Connection,
    old: OldVersions,
) -> Result<Vec<CollectedModule>, StoreError> {
    let versions = match old {
        OldVersions::Keep => "SELECT digest FROM definition_version",
        OldVersions::Forget => "SELECT NULL WHERE 0",
    };
    // Only for a module without a name all work is looked through, which takes long in a large hub.
    let mut query = db.prepare(&format!(
        "SELECT digest, length(component) FROM module
         WHERE CASE WHEN digest IN ({NAMED} UNION {versions}) THEN 0 ELSE digest NOT IN ({PINNED}) END ORDER BY stored_at, digest"
    ))?;
    let found = query.query_map([], |row| {
        Ok(CollectedModule {
            digest: Digest(row.get(0)?),
            bytes: uint(row.get(1)?),
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(e.to_string()))
}

impl ModuleRows for Sql<'_> {
    fn has_module(&mut self, digest: Digest) -> Found<bool> {
        let mut query = self
            .0
            .prepare_cached("SELECT 1 FROM module WHERE digest = ?1")?;
        Ok(query.exists([digest.0])?)
    }

    fn orchestrations(&mut self) -> Found<Vec<String>> {
        let mut query = self
            .0
            .prepare_cached("SELECT name FROM definition WHERE kind = ?1")?;
        let names = query.query_map([number(DefinitionKind::Orchestration)], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    fn definition(&mut self, kind: DefinitionKind, name: &str) -> Found<Option<(String, Digest)>> {
        let mut query = self.0.prepare_cached(
            "SELECT module, digest FROM definition WHERE kind = ?1 AND name = ?2",
        )?;
        let found = query.query_row(params![number(kind), name], |row| {
            Ok((row.get(0)?, Digest(row.get(1)?)))
        });
        Ok(found.optional()?)
    }

    fn put_module(&mut self, new: &NewModule, now: Timestamp) -> Found<()> {
        self.0.execute(
            "INSERT INTO module (digest, component, contract, definitions, imports, stored_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (digest) DO UPDATE SET component = ?2 WHERE component <> ?2",
            params![
                new.digest.0,
                new.component,
                new.contract,
                to_json(&new.definitions)?,
                to_json(&new.imports)?,
                int(now.0)
            ],
        )?;
        self.0.execute(
            "INSERT INTO module_name (name, digest, grants, deployed_at, limits)
                 VALUES (?1, ?2, coalesce(?3, '{}'), ?4, coalesce(?5, '{}'))
             ON CONFLICT (name) DO UPDATE SET digest = ?2, grants = coalesce(?3, grants), deployed_at = ?4, limits = coalesce(?5, limits)",
            params![
                new.name,
                new.digest.0,
                new.grants,
                int(now.0),
                new.limits
            ],
        )?;
        Ok(())
    }

    fn put_definitions(&mut self, new: &NewModule) -> Found<()> {
        let db = self.0;
        db.execute("DELETE FROM definition WHERE module = ?1", [&new.name])?;
        for definition in &new.definitions {
            db.execute(
                "INSERT OR REPLACE INTO definition (kind, name, module, digest, version) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![number(definition.kind), definition.name, new.name, new.digest.0, definition.version],
            )?;
            if let (DefinitionKind::Orchestration, Some(version)) =
                (definition.kind, &definition.version)
            {
                db.execute(
                    "INSERT OR REPLACE INTO definition_version (name, version, module, digest) VALUES (?1, ?2, ?3, ?4)",
                    params![definition.name, version, new.name, new.digest.0],
                )?;
            }
        }
        Ok(())
    }

    fn set_grants(&mut self, name: &str, grants: &str) -> Found<bool> {
        let changed = self.0.execute(
            "UPDATE module_name SET grants = ?1 WHERE name = ?2",
            params![grants, name],
        )?;
        Ok(changed == 1)
    }

    fn module_named(&mut self, name: &str) -> Found<Option<Digest>> {
        let mut query = self
            .0
            .prepare_cached("SELECT digest FROM module_name WHERE name = ?1")?;
        Ok(query
            .query_row([name], |row| row.get(0).map(Digest))
            .optional()?)
    }

    fn live_on(&mut self, digest: Digest) -> Found<u64> {
        let mut query = self
            .0
            .prepare("SELECT count(*) FROM instance WHERE status IN (0, 1, 2) AND module = ?1")?;
        Ok(uint(query.query_row([digest.0], |row| row.get(0))?))
    }

    fn delete_name(&mut self, name: &str) -> Found<()> {
        let db = self.0;
        db.execute("DELETE FROM definition_version WHERE module = ?1", [name])?;
        db.execute("DELETE FROM definition WHERE module = ?1", [name])?;
        db.execute("DELETE FROM module_name WHERE name = ?1", [name])?;
        Ok(())
    }

    fn delete_old_versions(&mut self) -> Found<()> {
        self.0.execute(
            "DELETE FROM definition_version AS v WHERE NOT EXISTS
                 (SELECT 1 FROM definition d WHERE d.kind = 0 AND d.name = v.name AND d.version = v.version AND d.digest = v.digest)",
            [],
        )?;
        Ok(())
    }

    fn unused_modules(&mut self) -> Found<Vec<CollectedModule>> {
        collectable(self.0, OldVersions::Keep)
    }

    fn delete_module(&mut self, digest: Digest) -> Found<()> {
        self.0
            .prepare_cached("DELETE FROM module WHERE digest = ?1")?
            .execute([digest.0])?;
        Ok(())
    }
}
