//! CreateTaskHub and DeleteTaskHub.
//!
//! The served hub cannot be deleted while its host runs: it is emptied instead, and the host goes on serving it. Its modules and keys stay.

use std::time::{Duration, Instant};

use perennial_core::Status as Runs;
use tonic::Status;

use crate::client::{Client, Filter, Hubs};
use crate::grpc::status::status;

/// The hub that a call is about.
#[derive(Clone, Debug)]
pub(crate) enum Hub {
    /// One that is served here.
    Served(Client),
    /// One that is not; only calls that create or delete a hub may be about it. It may lie beside a served one.
    Other { served: Client, name: String },
}

/// How long emptying a hub may take beyond its last progress.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for the end of one instance before the next step.
const STEP: Duration = Duration::from_millis(500);

const REASON: &str = "the task hub was emptied";

/// Creates a hub, or empties one that exists if it is to be recreated.
pub(in crate::grpc) async fn create(hub: &Hub, recreate: bool) -> Result<(), Status> {
    let (served, name) = match hub {
        Hub::Served(client) if recreate => return empty(client).await,
        Hub::Served(_) => return Ok(()),
        Hub::Other { served, name } => (served, name),
    };
    let hubs = hubs_beside(served, name)?;
    if recreate {
        match hubs.delete(name).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(refused(name, "recreated", &error)),
        }
    }
    match hubs.create(name).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(refused(name, "created", &error)),
    }
}

/// Deletes a hub; the served one is emptied.
pub(in crate::grpc) async fn delete(hub: &Hub) -> Result<(), Status> {
    let (served, name) = match hub {
        Hub::Served(client) => return empty(client).await,
        Hub::Other { served, name } => (served, name),
    };
    let hubs = hubs_beside(served, name)?;
    let deleted = hubs.delete(name).await;
    deleted.map_err(|error| refused(name, "deleted", &error))
}

/// The hubs of the data directory of the served hub.
fn hubs_beside(served: &Client, name: &str) -> Result<Hubs, Status> {
    let store = served.store();
    let store = store.ok_or_else(|| {
        Status::failed_precondition(format!(
            "task hub {name:?} is not served here, and this server has no data directory in which it could be; ask its own host"
        ))
    })?;
    Ok(Hubs::new(store))
}

fn refused(name: &str, what: &str, error: &crate::client::Error) -> Status {
    if error.is_owned() {
        return Status::failed_precondition(format!(
            "task hub {name:?} was not {what}: another host runs it; ask that host, or stop it first"
        ));
    }
    if error.is_not_found() {
        return Status::not_found(format!(
            "task hub {name:?} was not {what}: there is none of this name in the data directory"
        ));
    }
    status(error)
}

/// Terminates and deletes all instances, in the small steps of bulk operations.
async fn empty(client: &Client) -> Result<(), Status> {
    let (mut progress, mut least) = (Instant::now(), u64::MAX);
    loop {
        let failed = |error: crate::client::Error| status(&error);
        let terminate = client.terminate_where(Filter::new()).reason(REASON);
        terminate.await.map_err(failed)?;
        client.purge_where(Filter::new()).await.map_err(failed)?;
        let counts = client.counts().await.map_err(failed)?;
        let left: u64 = counts.iter().map(|(_, count)| count).sum();
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (progress, least) = (Instant::now(), left);
        }
        if progress.elapsed() > PATIENCE {
            return Err(Status::failed_precondition(format!(
                "task hub {:?} was not emptied: {left} instances are left, which were started meanwhile or do not end; call again, or stop what starts them",
                client.task_hub()
            )));
        }
        // Terminated instances end soon: wait for one of them.
        let live = [Runs::Running, Runs::Suspended, Runs::Pending];
        let list = live
            .into_iter()
            .fold(client.list().limit(1), crate::client::List::status);
        let page = list.await.map_err(failed)?;
        if let Some(one) = page.instances.first() {
            match client.wait_for_completion(&one.instance_id, STEP).await {
                Ok(_) => {}
                Err(error) if error.is_not_found_instance() => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
