//! Rows of requests to instances.

use perennial_core::{TaskId, Timestamp};

use crate::store::rows::Found;
use crate::store::types::{Asker, InstanceKey, RequestAnswer};

/// Requests. A row stays from when the request is accepted, so that one that is repeated under its id is known again.
pub(crate) trait RequestRows {
    /// The name of a request, if there is one with this id.
    fn request_name(&mut self, key: InstanceKey, id: &str) -> Found<Option<String>>;

    /// Adds a request, and notes in the row of the instance that it has some. `false` if the id is in use.
    fn insert_request(
        &mut self,
        key: InstanceKey,
        id: &str,
        name: &str,
        asker: Option<Asker>,
    ) -> Found<bool>;

    /// Writes the answer to a request, unless it has one. Returns who asked, if that was an instance and the answer is new.
    fn answer_request(
        &mut self,
        key: InstanceKey,
        id: &str,
        answer: &RequestAnswer,
    ) -> Found<Option<Asker>>;

    /// The requests of other instances that have no answer, by id, in the order of their times.
    fn open_requests(&mut self, key: InstanceKey) -> Found<Vec<String>>;

    /// Deletes all requests to an instance.
    fn delete_requests(&mut self, key: InstanceKey) -> Found<()>;

    /// Deletes up to so many requests that were answered before this time.
    fn delete_answered(&mut self, key: InstanceKey, before: Timestamp, at_most: u32) -> Found<()>;

    /// After a rewind of the asker to the generation in `asker`: it waits for the answers to the requests of the tasks in `kept`, which were
    /// made in the generation before, and for no others.
    fn readdress(&mut self, asker: Asker, kept: &[TaskId]) -> Found<()>;
}
