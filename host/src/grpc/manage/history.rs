//! StreamInstanceHistory.

use std::collections::VecDeque;
use std::pin::Pin;

use futures::Stream;
use perennial_core::Timestamp;
use prost::Message as _;
use tonic::Status;

use crate::client::{Client, HistoryQuery, RewindRecord};
use crate::grpc::generated as wire;
use crate::grpc::generated::history_event::EventType;
use crate::grpc::generated::{HistoryChunk, HistoryEvent, StreamInstanceHistoryRequest};
use crate::grpc::manage::{named, some};
use crate::grpc::status::status;
use crate::grpc::time;
use crate::grpc::to_wire::ToWire;
use crate::grpc::workers::is_for_workers;

/// A chunk ends after this many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// A stream of chunks.
pub(in crate::grpc) type Chunks = Pin<Box<dyn Stream<Item = Result<HistoryChunk, Status>> + Send>>;

struct Reading {
    query: HistoryQuery,
    /// The place of the next page; `None` after the last one.
    next: Option<Option<String>>,
    to_wire: ToWire,
    /// Events that were read and not sent. What comes next may add to the last one.
    events: Vec<HistoryEvent>,
    /// Only what workers are told.
    for_worker: bool,
    /// Rewinds that are not among the events yet.
    rewinds: VecDeque<RewindRecord>,
}

impl Reading {
    /// Reads the next page.
    async fn read(&mut self) -> Result<(), Status> {
        let Some(after) = self.next.take() else {
            return Ok(());
        };
        let page = self.query.page(after.as_deref()).await;
        let page = page.map_err(|error| status(&error))?;
        self.next = page.continuation_token.map(Some);
        for event in page.events {
            self.rewound(Some(event.at));
            self.to_wire.event(event.at, event.event, &mut self.events);
        }
        if self.next.is_none() {
            self.rewound(None);
        }
        Ok(())
    }

    /// Adds the rewinds before an event of this time, or those that are left.
    fn rewound(&mut self, before: Option<Timestamp>) {
        let is_before = |rewind: &mut RewindRecord| before.is_none_or(|at| rewind.at <= at);
        while let Some(rewind) = self.rewinds.pop_front_if(is_before) {
            let rewound = wire::ExecutionRewoundEvent {
                reason: rewind.reason,
                ..Default::default()
            };
            self.events.push(HistoryEvent {
                event_id: -1,
                timestamp: Some(time::to_wire(rewind.at)),
                event_type: Some(EventType::ExecutionRewound(rewound)),
            });
        }
    }

    async fn chunk(&mut self) -> Result<Option<HistoryChunk>, Status> {
        loop {
            let is_last = self.next.is_none();
            let complete = self.events.len().saturating_sub(usize::from(!is_last));
            let mut bytes = 0;
            let fits = self.events[..complete].iter().take_while(|event| {
                let is_full = bytes >= CHUNK_BYTES;
                bytes += event.encoded_len();
                !is_full
            });
            let fits = fits.count();
            if bytes >= CHUNK_BYTES || is_last {
                let mut events: Vec<HistoryEvent> = self.events.drain(..fits).collect();
                let is_over = events.is_empty();
                events.retain(|event| !self.for_worker || is_for_workers(event));
                return Ok((!is_over).then_some(HistoryChunk { events }));
            }
            self.read().await?;
        }
    }
}

/// Streams the history of the current execution. Memory holds a page of it at a time.
pub(in crate::grpc) async fn stream(
    client: &Client,
    request: StreamInstanceHistoryRequest,
) -> Result<Chunks, Status> {
    named(&request.instance_id)?;
    let current = client.status(&request.instance_id).await;
    let current = current.map_err(|error| status(&error))?;
    if let Some(execution) = some(request.execution_id)
        && current
            .as_ref()
            .is_some_and(|status| status.execution_id != execution)
    {
        return Err(Status::not_found(format!(
            "execution {execution:?} is not the current one of instance {:?}: its history is not kept; leave executionId out",
            request.instance_id
        )));
    }
    let rewinds = current.map_or_else(Vec::new, |status| status.rewinds);
    let mut reading = Reading {
        query: client.history(request.instance_id),
        next: Some(None),
        to_wire: ToWire::default(),
        events: Vec::new(),
        for_worker: request.for_work_item_processing,
        // A worker sees a history that simply goes on.
        rewinds: match request.for_work_item_processing {
            true => VecDeque::new(),
            false => rewinds.into(),
        },
    };
    // Whether there is such an instance is the answer to the call itself.
    reading.read().await?;
    Ok(Box::pin(futures::stream::try_unfold(
        reading,
        |mut reading| async move {
            let chunk = reading.chunk().await?;
            Ok(chunk.map(|chunk| (chunk, reading)))
        },
    )))
}
