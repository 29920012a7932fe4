//! Requests.

use std::cmp::Reverse;

use perennial_core::{Json, TaskId};

use crate::store::StoreError;
use crate::store::memory::reads::{first, sorted};
use crate::store::memory::{Memory, Request, texts_of};
use crate::store::queries::found::{FoundRequest, RequestRow};
use crate::store::sqlite::rows::list::PAGE_BYTES_MAX;
use crate::store::types::{InstanceKey, Position};

fn shown(id: &str, request: &Request) -> RequestRow {
    RequestRow {
        id: id.to_owned(),
        name: request.name.clone(),
        at: request.at,
        answer: request.answer.clone(),
    }
}

impl Memory {
    pub(crate) fn request(
        &self,
        instance: &str,
        id: &str,
    ) -> Result<Option<FoundRequest>, StoreError> {
        Ok(self.named(instance).map(|of| {
            let request = self.requests.get(&(of.row.key, id.to_owned()));
            (of.row.status, request.map(|request| shown(id, request)))
        }))
    }

    /// The open requests of an execution, in the order of their tasks: the task, the instance that is asked, and the name.
    pub(super) fn open_requests_of(
        &self,
        key: InstanceKey,
        (execution, generation): (u32, u32),
    ) -> Vec<(TaskId, InstanceKey, &str)> {
        let open = self.requests.iter().filter(|(_, of)| of.answer.is_none());
        let asked = open.filter_map(|((asked, _), of)| {
            let asker = of.asker.filter(|asker| asker.key == key)?;
            let at = (asker.task.execution, asker.task.generation);
            (at == (execution, generation)).then_some((asker.task.task, *asked, &*of.name))
        });
        sorted(asked, |(task, ..)| *task)
    }

    pub(crate) fn asked_by(
        &self,
        key: InstanceKey,
        at: Position,
        at_most: u32,
    ) -> Result<Vec<(TaskId, String, String)>, StoreError> {
        let open = self.open_requests_of(key, (at.execution, at.generation));
        let of = |(task, asked, name): (TaskId, InstanceKey, &str)| {
            let asked = self.instances.get(&asked)?;
            Some((task, name.to_owned(), asked.row.id.clone()))
        };
        Ok(first(at_most, open.into_iter().filter_map(of)))
    }

    pub(crate) fn requests(
        &self,
        key: InstanceKey,
        at_most: u32,
    ) -> Result<Vec<RequestRow>, StoreError> {
        let of = self.requests.range(texts_of(key));
        let of = of.map(|((_, id), request)| shown(id, request));
        let newest = sorted(of, |row| (Reverse(row.at), row.id.clone()));
        let (mut found, mut bytes) = (Vec::new(), 0);
        for request in first(at_most, newest) {
            bytes += match &request.answer {
                Some((_, Ok(output))) => output.as_ref().map_or(0, Json::size),
                Some((_, Err(failure))) => failure.size(),
                None => 0,
            };
            if bytes > PAGE_BYTES_MAX && !found.is_empty() {
                break;
            }
            found.push(request);
        }
        Ok(found)
    }
}
