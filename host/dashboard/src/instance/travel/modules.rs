//! The modules on which a history can be replayed: what the hub has stored, and what visitors gave.

use perennial::{DefinitionKind, Digest, InstanceStatus, Module, StoredModule};

use super::lab::Lab;
use crate::page::Page;
use crate::refused::Refused;

/// Modules that are offered. An uploaded one is always among them.
const OFFERED: usize = 20;

/// A module that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) digest: Digest,
    pub(super) name: String,
    pub(super) from: From,
}

/// Where a module comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The instance runs on it.
    Own,
    /// New instances would run on it.
    Deployed,
    /// An earlier version that is still stored.
    Stored,
    /// A visitor gave it.
    Given,
}

/// What can be chosen.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// The instance's own module first, then the deployed ones.
    pub(super) all: Vec<Choice>,
    /// Whether the hub has deleted the instance's own module.
    pub(super) is_own_gone: bool,
}

/// The modules on which the history of this instance can be replayed.
pub(super) async fn choices(
    page: &Page,
    lab: &Lab,
    status: &InstanceStatus,
) -> Result<Choices, Refused> {
    let stored = page.client.stored_modules().await?;
    Ok(chosen_of(status, &stored, &lab.components(page.hub())))
}

fn chosen_of(status: &InstanceStatus, stored: &[StoredModule], given: &[Module]) -> Choices {
    let is_own = |digest: Digest| status.module == Some(digest);
    let in_hub = stored.iter().map(|one| {
        let name = one.likely_name().map(str::to_owned);
        let from = match (is_own(one.digest), one.deployed_as.is_empty()) {
            (true, _) => From::Own,
            (false, false) => From::Deployed,
            (false, true) => From::Stored,
        };
        let defines = one.definitions.iter().any(|definition| {
            definition.kind == DefinitionKind::Orchestration && definition.name == status.name
        });
        let choice = Choice {
            digest: one.digest,
            name: name.unwrap_or_else(|| one.digest.short()),
            from,
        };
        (choice, defines)
    });
    let in_hub = in_hub.filter(|(choice, defines)| *defines || choice.from == From::Own);
    let mut all: Vec<Choice> = in_hub.map(|(choice, _)| choice).collect();
    let given = given.iter().filter(|module| {
        let digest = module.digest();
        !all.iter().any(|known| known.digest == digest)
    });
    let given: Vec<Choice> = given
        .map(|module| Choice {
            digest: module.digest(),
            name: module.name().to_owned(),
            from: match is_own(module.digest()) {
                true => From::Own,
                false => From::Given,
            },
        })
        .collect();
    let rank = |choice: &Choice| match choice.from {
        From::Own => 0,
        From::Deployed => 1,
        From::Stored | From::Given => 2,
    };
    // The newest stay first among equals.
    all.sort_by_key(rank);
    all.truncate(OFFERED);
    all.extend(given);
    all.sort_by_key(rank);
    Choices {
        is_own_gone: !stored.iter().any(|one| is_own(one.digest)),
        all,
    }
}

/// Reads a module that was chosen.
pub(super) async fn load(page: &Page, lab: &Lab, digest: Digest) -> Result<Module, Refused> {
    if let Some(given) = lab.component(page.hub(), digest) {
        return Ok(given);
    }
    page.client
        .load_module(&digest.to_string())
        .await
        .map_err(|error| match error.is_not_stored() {
            true => Refused::invalid(
                "The component is no longer there; give it again. Of those that were given only the latest few are kept, until the host \
                 restarts.",
            ),
            false => error.into(),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn status(module: u8) -> InstanceStatus {
        let time = "2026-01-01T00:00:00Z";
        let value = json!({
            "instanceId": "a", "name": "Pay", "runtimeStatus": "Running", "createdTime": time, "lastUpdatedTime": time,
            "module": digest(module).to_string(), "historyEvents": 1, "historyBytes": 1,
        });
        serde_json::from_value(value).unwrap()
    }

    fn stored(module: u8, defines: &str, deployed_as: &[&str]) -> StoredModule {
        let value = json!({
            "digest": digest(module).to_string(), "contract": "0.2", "imports": [], "size": 1, "storedTime": "2026-01-01T00:00:00Z",
            "definitions": [{ "kind": "orchestration", "name": defines }], "deployedAs": deployed_as, "versionsOf": ["shop"],
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_own_module_comes_first_and_those_that_do_not_fit_are_left_out() {
        let hub = [
            stored(5, "Other", &["x"]),
            stored(4, "Pay", &[]),
            stored(3, "Pay", &["shop"]),
            stored(2, "Pay", &[]),
        ];
        let found = chosen_of(&status(2), &hub, &[]);
        let found: Vec<_> = found.all.iter().map(|one| (one.digest, one.from)).collect();
        let expected = [
            (digest(2), From::Own),
            (digest(3), From::Deployed),
            (digest(4), From::Stored),
        ];
        assert_eq!(found, expected);
        let gone = chosen_of(&status(9), &hub, &[]);
        assert!(gone.is_own_gone);
        assert_eq!(gone.all[0].from, From::Deployed);
        let many: Vec<_> = (10..100).map(|at| stored(at, "Pay", &[])).collect();
        assert_eq!(chosen_of(&status(9), &many, &[]).all.len(), OFFERED);
    }
}
