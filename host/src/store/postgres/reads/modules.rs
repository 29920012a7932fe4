//! Modules and deployed names.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::Digest;
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::numbers::{definition_kind_of, definition_number};
use crate::store::postgres::indexes::by;
use crate::store::postgres::reads::{PostgresReader, all, has_nul};
use crate::store::postgres::source::{big, digest_of, state, time};
use crate::store::sqlite::rows::modules::{
    FIRST_CONTRACT, check_component, definitions, is_like_a_digest,
};
use crate::store::types::{
    CollectedModule, DefinitionKind, ModuleRow, NameRows, OldVersions, StoredRow,
};

/// What [`PostgresReader::names`] reads.
const NAMES: [&str; 5] = [
    "SELECT kind, name, module, digest, version FROM definition",
    "SELECT name, version, digest FROM definition_version",
    "SELECT v.digest, n.limits FROM definition_version AS v JOIN module_name AS n ON n.name = v.module WHERE n.limits <> '{}'",
    "SELECT digest, limits FROM module_name WHERE limits <> '{}' ORDER BY name",
    "SELECT digest, definitions, contract FROM module",
];

/// All digests that names refer to.
const NAMED: &str = "SELECT digest FROM module_name UNION SELECT digest FROM definition";

/// All digests that work refers to. Statuses: 3 is Completed, 5 Terminated.
const PINNED: &str = concat!(
    "SELECT module FROM instance WHERE status IN (0, 1, 2, 4) AND module IS NOT NULL AND ",
    by!(status),
    " UNION SELECT module FROM task WHERE module IS NOT NULL UNION SELECT module FROM outbox WHERE module IS NOT NULL"
);

impl PostgresReader {
    pub(in crate::store) fn names(&self) -> Result<NameRows, StoreError> {
        let queries = NAMES.map(|sql| (sql, &[][..]));
        let found = self.pool.snapshot(|conn| conn.query_all(&queries))?;
        let mut rows = NameRows::default();
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or_default();
        for row in &next() {
            let key = (definition_kind_of(state(row, 0)?)?, row.try_get(1)?);
            let value = (row.try_get(2)?, digest_of(row, 3)?, row.try_get(4)?);
            rows.definitions.insert(key, value);
        }
        for row in &next() {
            let key = (row.try_get(0)?, row.try_get(1)?);
            rows.versions.insert(key, digest_of(row, 2)?);
        }
        // An old version has the limits of its name. Limits of the current version take precedence.
        for row in next().iter().chain(&next()) {
            rows.limits.insert(digest_of(row, 0)?, row.try_get(1)?);
        }
        for row in &next() {
            let digest = digest_of(row, 0)?;
            if row.try_get::<_, &str>(2)? != FIRST_CONTRACT {
                rows.cancellable.insert(digest);
            }
            let activities = definitions(row.try_get(1)?)?
                .into_iter()
                .filter(|d| d.kind == DefinitionKind::Activity)
                .map(|d| d.name)
                .collect();
            rows.activities_of.insert(digest, activities);
        }
        Ok(rows)
    }

    pub(in crate::store) fn digests(&self) -> Result<Vec<Digest>, StoreError> {
        all(
            &self.query("SELECT digest FROM module ORDER BY digest", &[])?,
            |row| digest_of(row, 0),
        )
    }

    pub(in crate::store) fn component(
        &self,
        digest: Digest,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT component FROM module WHERE digest = $1";
        let row = self.query_opt(sql, &[&&digest.0[..]])?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    pub(in crate::store) fn component_undamaged(
        &self,
        digest: Digest,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.component(digest)?;
        bytes
            .as_ref()
            .map_or(Ok(()), |bytes| check_component(digest, bytes))?;
        Ok(bytes)
    }

    pub(in crate::store) fn grants(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        // A live instance may be pinned to an old digest of a name. The grants belong to the name, which still owns the same activities.
        let sql = "SELECT grants FROM
             ((SELECT grants, 0 AS rank, 0::bigint AS place, name, 0::smallint AS kind FROM module_name WHERE digest = $1)
              UNION ALL
              (SELECT n.grants, 1, d.place, n.name, c.kind FROM module AS m
                 CROSS JOIN LATERAL json_array_elements(m.definitions::json) WITH ORDINALITY AS d(value, place)
                 JOIN definition AS c ON c.name = d.value ->> 'name' JOIN module_name AS n ON n.name = c.module WHERE m.digest = $1)) AS g
             ORDER BY rank, place, kind, name LIMIT 1";
        let row = self.query_opt(sql, &[&&digest.0[..]])?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    pub(in crate::store) fn find_module(&self, text: &str) -> Result<Vec<Digest>, StoreError> {
        if has_nul(text) {
            return Ok(Vec::new());
        }
        let named = self.query_opt("SELECT digest FROM module_name WHERE name = $1", &[&text])?;
        if let Some(row) = named {
            return Ok(vec![digest_of(&row, 0)?]);
        }
        if !is_like_a_digest(text) {
            return Ok(Vec::new());
        }
        let sql = "SELECT digest FROM module WHERE starts_with(encode(digest, 'hex'), lower($1)) ORDER BY stored_at, digest";
        all(&self.query(sql, &[&text])?, |row| digest_of(row, 0))
    }

    pub(in crate::store) fn defines(
        &self,
        digest: Digest,
        orchestration: &str,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT definitions FROM module WHERE digest = $1";
        let Some(row) = self.query_opt(sql, &[&&digest.0[..]])? else {
            return Ok(false);
        };
        let defined = definitions(row.try_get(0)?)?;
        Ok(defined.into_iter().any(|definition| {
            definition.kind == DefinitionKind::Orchestration && definition.name == orchestration
        }))
    }

    pub(in crate::store) fn collectable(
        &self,
        old: OldVersions,
    ) -> Result<Vec<CollectedModule>, StoreError> {
        let versions = match old {
            OldVersions::Keep => "SELECT digest FROM definition_version",
            OldVersions::Forget => "SELECT NULL::bytea WHERE false",
        };
        // Only for a module without a name all work is looked through, which takes long in a large hub.
        let sql = format!(
            "SELECT digest, octet_length(component)::bigint FROM module
             WHERE CASE WHEN digest IN ({NAMED} UNION {versions}) THEN false ELSE digest NOT IN ({PINNED}) END ORDER BY stored_at, digest"
        );
        all(&self.query(&sql, &[])?, |row| {
            Ok(CollectedModule {
                digest: digest_of(row, 0)?,
                bytes: big(row, 1)?,
            })
        })
    }

    pub(in crate::store) fn modules(&self) -> Result<Vec<ModuleRow>, StoreError> {
        let rows = self.pool.snapshot(|conn| {
            conn.query_all(&[
                ("SELECT kind, name, module FROM definition", &[]),
                (
                    "SELECT n.name, n.digest, m.definitions, m.imports, n.grants, n.deployed_at, octet_length(m.component)::bigint, n.limits
                     FROM module_name AS n JOIN module AS m ON m.digest = n.digest ORDER BY n.name",
                    &[],
                ),
            ])
        })?;
        let [owners, named] = &rows[..] else {
            return Ok(Vec::new());
        };
        let owners = owners_of(owners)?;
        all(named, |row| {
            let name: String = row.try_get(0)?;
            let mut of_name = definitions(row.try_get(2)?)?;
            of_name.retain(|definition| {
                let key = (definition_number(definition.kind), definition.name.clone());
                owners.get(&key) == Some(&name)
            });
            Ok(ModuleRow {
                digest: digest_of(row, 1)?,
                definitions: of_name,
                imports: imports(row.try_get(3)?)?,
                grants: row.try_get(4)?,
                deployed_at: time(row, 5)?.unwrap_or_default(),
                size: big(row, 6)?,
                limits: row.try_get(7)?,
                name,
            })
        })
    }

    pub(in crate::store) fn stored_modules(
        &self,
        only: Option<Digest>,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let only = only.map(|digest| digest.0.to_vec());
        let rows = self.pool.snapshot(|conn| {
            conn.query_all(&[
                ("SELECT kind, name, module FROM definition", &[]),
                ("SELECT digest, name FROM module_name ORDER BY name", &[]),
                (
                    "SELECT digest, contract, definitions, imports, octet_length(component)::bigint, stored_at FROM module
                     WHERE $1::bytea IS NULL OR digest = $1 ORDER BY stored_at DESC, digest",
                    &[&only],
                ),
            ])
        })?;
        let [owners, named, stored] = &rows[..] else {
            return Ok(Vec::new());
        };
        let owners = owners_of(owners)?;
        let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for row in named {
            names
                .entry(digest_of(row, 0)?)
                .or_default()
                .push(row.try_get(1)?);
        }
        all(stored, |row| {
            let (digest, definitions) = (digest_of(row, 0)?, definitions(row.try_get(2)?)?);
            let versions_of = definitions.iter().filter_map(|definition| {
                owners.get(&(definition_number(definition.kind), definition.name.clone()))
            });
            let versions_of: BTreeSet<&String> = versions_of.collect();
            Ok(StoredRow {
                digest,
                contract: row.try_get(1)?,
                imports: imports(row.try_get(3)?)?,
                size: big(row, 4)?,
                stored_at: time(row, 5)?.unwrap_or_default(),
                deployed_as: names.get(&digest).cloned().unwrap_or_default(),
                versions_of: versions_of.into_iter().cloned().collect(),
                definitions,
            })
        })
    }
}

/// The module that owns each definition, by kind and name.
fn owners_of(rows: &[Row]) -> Result<BTreeMap<(u8, String), String>, StoreError> {
    let pairs = all(rows, |row| {
        Ok(((state(row, 0)?, row.try_get(1)?), row.try_get(2)?))
    })?;
    Ok(pairs.into_iter().collect())
}

fn imports(text: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(e.to_string()))
}
