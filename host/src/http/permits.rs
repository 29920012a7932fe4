//! Which role an operation needs: the routes of the API, gRPC and the pages for people all ask here.
//!
//! Invariant: what a module may touch, and who has keys, is decided only with an admin key, also where other operations need no key.

use crate::client::{Client, Deploy, Error, Module, Result, Role};
use perennial_core::Digest;

use crate::{Definition, Grants};

/// The access policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// No restriction: the program that mounts the router protects it.
    #[default]
    Everyone,
    /// Programs of this machine, which must use a name of this machine.
    ThisMachine,
    /// Callers with a key of the hub.
    Keys,
}

/// What callers and visitors ask to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission {
    /// To read.
    Read,
    /// To change something.
    Change,
    /// To decide what modules can access, and who has keys. Not every account of the host's machine may do it.
    Grant,
}

impl Permission {
    /// Whether a caller with this key, or without one, has it.
    pub(super) fn is_given(self, access: Access, role: Option<Role>) -> bool {
        let needs_key = access == Access::Keys;
        match self {
            Self::Read => !needs_key || role.is_some(),
            Self::Change => !needs_key || role == Some(Role::Admin),
            Self::Grant => role == Some(Role::Admin),
        }
    }

    /// Why a caller does not have it.
    pub(super) fn refusal(self) -> &'static str {
        match self {
            Self::Read => "A key is needed.",
            Self::Change => "This key may only read.",
            Self::Grant => {
                "this needs an admin key, even on the host's own machine; `perennial keys create NAME` there creates one"
            }
        }
    }
}

/// A deployment. Who may not [grant](Permission::Grant) cannot give the grants of a module to another component: neither under the name of
/// the module, nor under names that it owns.
///
/// # Errors
/// [`Error::is_unauthorized`] if it would; and if the modules of the hub cannot be read.
pub(super) async fn deploy(
    client: &Client,
    may_grant: bool,
    module: Module,
    replace: bool,
) -> Result<Deploy> {
    let keeps = {
        let of = (module.name(), module.digest(), module.definitions());
        keeps_grants(client, may_grant, of, replace).await?
    };
    Ok(permitted(client.deploy(module), keeps, replace))
}

/// As [`deploy`], for a module that the hub has stored, under this name.
pub(super) async fn deploy_stored(
    client: &Client,
    may_grant: bool,
    (stored, name): (&str, String),
    replace: bool,
) -> Result<Deploy> {
    let module = client.stored_module(stored).await?;
    let of = (&*name, module.digest, &module.definitions[..]);
    let keeps = keeps_grants(client, may_grant, of, replace).await?;
    let deploy = client.deploy_stored(module.digest.to_string()).named(name);
    Ok(permitted(deploy, keeps, replace))
}

fn permitted(deploy: Deploy, keeps_grants: bool, replace: bool) -> Deploy {
    let deploy = match keeps_grants {
        true => deploy,
        // Also none that the module gets between the look and the deployment.
        false => deploy.grants(Grants::default()),
    };
    if replace { deploy.replace() } else { deploy }
}

/// Whether a deployment may keep the grants of its name: it may if the component is the same. A module without grants has none to keep.
async fn keeps_grants(
    client: &Client,
    may_grant: bool,
    (name, digest, definitions): (&str, Digest, &[Definition]),
    replace: bool,
) -> Result<bool> {
    if may_grant {
        return Ok(true);
    }
    let mut keeps = false;
    for info in client.modules().await? {
        let has_grants = info.grants != Grants::default();
        if info.name == name {
            keeps = info.digest == digest.to_string();
            if has_grants && !keeps {
                let what = format!("the module {name:?} has grants");
                return Err(inherits(&what, name));
            }
        } else if has_grants && replace {
            let owned = |one: &&Definition| {
                let same = |other: &Definition| (other.kind, &other.name) == (one.kind, &one.name);
                info.definitions.iter().any(same)
            };
            if let Some(taken) = definitions.iter().find(owned) {
                let (name, owner) = (&taken.name, &info.name);
                let what = format!("{name:?} belongs to the module {owner:?}, which has grants");
                return Err(inherits(&what, owner));
            }
        }
    }
    Ok(keeps)
}

fn inherits(what: &str, module: &str) -> Error {
    Error::forbidden(format!(
        "{what}, and another component would get them. Deploy it with an admin key (`perennial keys create NAME` on the host's machine creates \
         one), or with `perennial deploy FILE.wasm` where the data directory is, or take the grants of {module:?} away first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_need_an_admin_key_everywhere_and_the_rest_only_where_keys_are_needed() {
        let roles = [None, Some(Role::ReadOnly), Some(Role::Admin)];
        let given = |permission: Permission, access| {
            roles.map(|role| u8::from(permission.is_given(access, role)))
        };
        for access in [Access::Everyone, Access::ThisMachine] {
            assert_eq!(given(Permission::Read, access), [1, 1, 1]);
            assert_eq!(given(Permission::Change, access), [1, 1, 1]);
            assert_eq!(given(Permission::Grant, access), [0, 0, 1]);
        }
        assert_eq!(given(Permission::Read, Access::Keys), [0, 1, 1]);
        assert_eq!(given(Permission::Change, Access::Keys), [0, 0, 1]);
        assert_eq!(given(Permission::Grant, Access::Keys), [0, 0, 1]);
    }
}
