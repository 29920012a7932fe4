//! What a host lacks, or the database of its hub.

use crate::engine::Engine;
use crate::shortage::Shortage;
use crate::store::StoreError;

impl Engine {
    /// Why some commits failed lately, and will again, though the last one may have succeeded.
    pub(crate) fn refuses_to_write(&self) -> Option<StoreError> {
        self.hub.writer.refuses()
    }

    /// What was lacking lately.
    pub(crate) fn shortages(&self) -> Vec<Shortage> {
        let mut shortages = self.trouble.shortages.now();
        let refused = self.refuses_to_write().and_then(|error| error.shortage());
        let is_known = |of: &Shortage| shortages.iter().any(|one| one.resource == of.resource);
        if let Some(refused) = refused.filter(|of| !is_known(of)) {
            shortages.push(refused);
        }
        shortages
    }
}
