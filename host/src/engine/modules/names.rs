//! The table of deployed names, replaced as a whole by each deployment.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::{Digest, Limits, Names, Resolved, bounds};

use crate::engine::modules::limits::ModuleLimits;
use crate::store::{DefinitionKind, NameRows};

/// What each name of an orchestration or activity refers to.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    orchestrations: BTreeMap<String, (Digest, Option<String>)>,
    versions: BTreeMap<(String, String), Digest>,
    activities: BTreeMap<String, Digest>,
    activities_of: BTreeMap<Digest, BTreeSet<String>>,
    native: BTreeSet<String>,
    cancellable: BTreeSet<Digest>,
    /// Limits of the host, and of the modules that have their own.
    limits: Limits,
    limits_of: BTreeMap<Digest, ModuleLimits>,
}

impl NameTable {
    /// Builds the table from the hub's rows, the activities of the embedding program, and the default limits.
    pub(crate) fn new(rows: NameRows, native: BTreeSet<String>, limits: Limits) -> Self {
        let limits_of = rows.limits.into_iter();
        let mut table = Self {
            versions: rows.versions,
            cancellable: rows.cancellable,
            native,
            limits,
            // Limits were checked when they were stored. Limits of a later version that this one cannot parse are ignored.
            limits_of: limits_of
                .filter_map(|(digest, text)| Some((digest, serde_json::from_str(&text).ok()?)))
                .collect(),
            ..Self::default()
        };
        for ((kind, name), (_, digest, version)) in rows.definitions {
            match kind {
                DefinitionKind::Orchestration => {
                    table.orchestrations.insert(name, (digest, version));
                }
                DefinitionKind::Activity => {
                    table.activities.insert(name, digest);
                }
            }
        }
        let activities_of = rows.activities_of.into_iter();
        table.activities_of = activities_of
            .map(|(digest, names)| (digest, names.into_iter().collect()))
            .collect();
        table
    }

    /// The modules that what is started or called now runs on.
    pub(crate) fn modules(&self) -> BTreeSet<Digest> {
        let orchestrations = self.orchestrations.values().map(|(digest, _)| digest);
        orchestrations
            .chain(self.activities.values())
            .copied()
            .collect()
    }

    /// The orchestrations that can be started.
    pub(crate) fn orchestration_names(&self) -> impl Iterator<Item = &str> {
        self.orchestrations.keys().map(String::as_str)
    }

    /// The activities that can be called.
    pub(crate) fn activity_names(&self, caller: Option<Digest>) -> impl Iterator<Item = &str> {
        let own = caller.and_then(|digest| self.activities_of.get(&digest));
        let own = own.into_iter().flatten();
        let all = own.chain(self.activities.keys()).chain(&self.native);
        all.map(String::as_str)
    }

    /// The versions of an orchestration that can be started.
    pub(crate) fn versions_of(&self, name: &str) -> impl Iterator<Item = &str> {
        let from = (name.to_owned(), String::new());
        self.versions
            .range(from..)
            .take_while(move |((n, _), _)| n == name)
            .map(|((_, version), _)| version.as_str())
    }
}

impl NameTable {
    /// The limits of a new execution of a module.
    pub(crate) fn limits_of(&self, module: Option<Digest>) -> Limits {
        if module.is_none() {
            return remote_limits(self.limits);
        }
        let own = module.and_then(|digest| self.limits_of.get(&digest));
        own.map_or(self.limits, |own| own.over(self.limits))
    }

    /// The newest code of an activity, for one that a rewind schedules again, even if its caller is pinned to an older module.
    pub(crate) fn newest_activity(&self, caller: Option<Digest>, name: &str) -> Resolved {
        let own = caller.and_then(|digest| self.activities_of.get(&digest));
        let is_own = own.is_some_and(|names| names.contains(name));
        match self.activities.get(name) {
            Some(digest) if is_own || !self.native.contains(name) => {
                Resolved::Module(*digest, None)
            }
            _ => self.activity(caller, name),
        }
    }
}

/// The limits of an execution that remote workers run, on a host with these limits: those of the protocol, whose payloads are larger.
pub(crate) fn remote_limits(host: Limits) -> Limits {
    let larger = |host: u64, remote: usize| host.max(remote as u64);
    Limits {
        payload_bytes: larger(host.payload_bytes, bounds::REMOTE_PAYLOAD_BYTES),
        action_bytes_per_turn: larger(
            host.action_bytes_per_turn,
            bounds::REMOTE_ACTION_BYTES_PER_TURN,
        ),
        custom_status_bytes: larger(host.custom_status_bytes, bounds::REMOTE_CUSTOM_STATUS_BYTES),
        ..host
    }
}

impl Names for NameTable {
    fn limits(&self, module: Option<Digest>, _before: Limits) -> Limits {
        self.limits_of(module)
    }

    fn can_cancel(&self, module: Option<Digest>) -> bool {
        module.is_some_and(|digest| self.cancellable.contains(&digest))
    }

    fn activity(&self, caller: Option<Digest>, name: &str) -> Resolved {
        if let Some(digest) = caller
            && self
                .activities_of
                .get(&digest)
                .is_some_and(|names| names.contains(name))
        {
            return Resolved::Module(digest, None);
        }
        if self.native.contains(name) {
            return Resolved::Native;
        }
        self.activities
            .get(name)
            .map_or(Resolved::Unknown, |digest| Resolved::Module(*digest, None))
    }

    fn orchestration(
        &self,
        _caller: Option<Digest>,
        name: &str,
        version: Option<&str>,
    ) -> Resolved {
        let Some((newest, newest_version)) = self.orchestrations.get(name) else {
            return Resolved::Unknown;
        };
        match version {
            None => Resolved::Module(*newest, newest_version.clone()),
            Some(version) if newest_version.as_deref() == Some(version) => {
                Resolved::Module(*newest, Some(version.to_owned()))
            }
            Some(version) => match self.versions.get(&(name.to_owned(), version.to_owned())) {
                Some(digest) => Resolved::Module(*digest, Some(version.to_owned())),
                None => Resolved::Unknown,
            },
        }
    }
}
