//! Requests.

use perennial_core::{TaskId, Timestamp};

use crate::store::memory::{Memory, Request, texts_of};
use crate::store::rows::Found;
use crate::store::rows::requests::RequestRows;
use crate::store::types::{Asker, InstanceKey, RequestAnswer};

impl RequestRows for Memory {
    fn request_name(&mut self, key: InstanceKey, id: &str) -> Found<Option<String>> {
        let found = self.requests.get(&(key, id.to_owned()));
        Ok(found.map(|request| request.name.clone()))
    }

    fn insert_request(
        &mut self,
        key: InstanceKey,
        id: &str,
        name: &str,
        asker: Option<Asker>,
    ) -> Found<bool> {
        let place = (key, id.to_owned());
        if self.requests.contains_key(&place) {
            return Ok(false);
        }
        let request = Request {
            name: name.to_owned(),
            at: self.at,
            asker,
            answer: None,
        };
        self.requests.insert(place, request);
        self.with_instance(key, |found| found.has_requests = true);
        Ok(true)
    }

    fn answer_request(
        &mut self,
        key: InstanceKey,
        id: &str,
        answer: &RequestAnswer,
    ) -> Found<Option<Asker>> {
        let at = self.at;
        let place = (key, id.to_owned());
        let found = self.requests.get(&place);
        if found.is_none_or(|found| found.answer.is_some()) {
            return Ok(None);
        }
        Ok(self.requests.get_mut(&place).and_then(|found| {
            found.answer = Some((at, answer.clone()));
            found.asker
        }))
    }

    fn open_requests(&mut self, key: InstanceKey) -> Found<Vec<String>> {
        let of = self.requests.range(texts_of(key));
        let open = of.filter(|(_, request)| request.asker.is_some() && request.answer.is_none());
        let mut open: Vec<_> = open
            .map(|((_, id), request)| (request.at, id.clone()))
            .collect();
        open.sort();
        Ok(open.into_iter().map(|(_, id)| id).collect())
    }

    fn delete_requests(&mut self, key: InstanceKey) -> Found<()> {
        let of: Vec<_> = self
            .requests
            .range(texts_of(key))
            .map(|(place, _)| place.clone())
            .collect();
        for place in of {
            self.requests.remove(&place);
        }
        Ok(())
    }

    fn delete_answered(&mut self, key: InstanceKey, before: Timestamp, at_most: u32) -> Found<()> {
        let of = self.requests.range(texts_of(key));
        let answered = of.filter_map(|(place, request)| {
            let (at, _) = request.answer.as_ref()?;
            (*at < before).then(|| (*at, place.clone()))
        });
        let mut answered: Vec<_> = answered.collect();
        answered.sort();
        for (_, place) in answered.into_iter().take(at_most as usize) {
            self.requests.remove(&place);
        }
        Ok(())
    }

    fn readdress(&mut self, asker: Asker, kept: &[TaskId]) -> Found<()> {
        let now = asker.task;
        let of_asker = self.requests.iter().filter_map(|(place, request)| {
            let of = request.asker.filter(|of| of.key == asker.key)?;
            if !self.own.has_key(place.0) {
                return None;
            }
            Some((place.clone(), of.task))
        });
        for (place, mut task) in of_asker.collect::<Vec<_>>() {
            let is_before = task.execution == now.execution
                && now.generation.checked_sub(1) == Some(task.generation);
            if is_before && kept.contains(&task.task) {
                task.generation = now.generation;
            }
            let is_current = (task.execution, task.generation) == (now.execution, now.generation);
            if let Some(request) = self.requests.get_mut(&place) {
                let key = asker.key;
                request.asker = is_current.then_some(Asker { key, task });
            }
        }
        Ok(())
    }
}
