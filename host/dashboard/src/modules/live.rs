//! Which live instances run on which stored module. A deployment does not move them.

use std::collections::BTreeMap;

use perennial::{Client, Digest, Filter, ModuleInfo, Order, Status};

use perennial::DefinitionKind;

/// Live instances that a check replays at most. The command line has no such limit, and does not burden the host.
pub(crate) const CHECKED: u64 = 2_000;

/// Live instances that are looked at to find out what they run on.
const LOOKED_AT: u32 = 1_000;

/// Orchestrations whose live instances are counted for one page.
const COUNTED: usize = 100;

/// Live instances, by the digest of the module that they run on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pinned {
    pub(crate) on: BTreeMap<String, u64>,
    /// Whether there are more live instances than were looked at.
    pub(crate) more: bool,
}

fn live(filter: Filter) -> Filter {
    let statuses = [Status::Pending, Status::Running, Status::Suspended];
    statuses.into_iter().fold(filter, Filter::status)
}

impl Pinned {
    /// The oldest live instances of the hub, which are the ones on old modules.
    pub(crate) async fn of_hub(client: &Client) -> perennial::Result<Self> {
        let list = client.list().filter(live(Filter::default()));
        let page = list.order(Order::OldestFirst).limit(LOOKED_AT).await?;
        let mut on = BTreeMap::new();
        // Those of remote workers run on no module.
        for module in page.instances.iter().filter_map(|one| one.module) {
            *on.entry(module).or_insert(0) += 1;
        }
        let text = |(digest, count): (Digest, u64)| (digest.to_string(), count);
        Ok(Self {
            on: on.into_iter().map(text).collect(),
            more: page.continuation_token.is_some(),
        })
    }

    /// What live instances run on although no name refers to it any more.
    pub(crate) fn old<'a>(
        &'a self,
        deployed: &'a [ModuleInfo],
    ) -> impl Iterator<Item = (&'a str, u64)> {
        let is_old = |digest: &str| !deployed.iter().any(|info| info.digest == digest);
        let all = self
            .on
            .iter()
            .map(|(digest, count)| (digest.as_str(), *count));
        all.filter(move |(digest, _)| is_old(digest))
    }
}

/// The number of live instances of each orchestration, of the first of these modules; `None` for those that are not counted any more.
pub(crate) struct Counts {
    client: Client,
    left: usize,
}

impl Counts {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            left: COUNTED,
        }
    }

    /// The live instances of the orchestrations that a module defines.
    pub(crate) async fn of_module(
        &mut self,
        module: &ModuleInfo,
    ) -> perennial::Result<Option<u64>> {
        let mut sum = 0;
        for definition in &module.definitions {
            if definition.kind == DefinitionKind::Orchestration {
                match self.of(&definition.name).await? {
                    Some(count) => sum += count,
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(sum))
    }

    pub(crate) async fn of(&mut self, orchestration: &str) -> perennial::Result<Option<u64>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        Ok(Some(live_of(&self.client, orchestration).await?))
    }
}

/// The number of live instances of an orchestration.
pub(crate) async fn live_of(client: &Client, orchestration: &str) -> perennial::Result<u64> {
    let filter = live(Filter::default()).name(orchestration);
    let counts = client.list().filter(filter).counts().await?;
    Ok(counts.iter().map(|(_, count)| count).sum())
}
