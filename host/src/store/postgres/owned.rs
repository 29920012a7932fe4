//! Taking a hub over.

use std::time::{Duration, Instant};

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::create::create;
use crate::store::postgres::lease::{Taken, take};
use crate::store::postgres::pool::Pool;
#[cfg(test)]
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::writer::Writer;
#[cfg(test)]
use crate::store::reads::Reader;

/// How often a lease is looked at that another owner holds.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 200 });

/// A hub that this process owns.
pub(in crate::store) struct Owned {
    pub(in crate::store) writer: Writer,
    pub(in crate::store) reader: Pool,
    /// The epoch of this owner, which no other one has.
    pub(in crate::store) epoch: u64,
    /// Whether this call created the hub.
    pub(in crate::store) made: bool,
}

/// Takes over a hub; creates it if it does not exist. Waits for so long while another owner lives. `host` describes this process to people.
///
/// # Errors
/// [`StoreError::Owned`] if the other one still lives after that, and those of [`create`].
pub(in crate::store) fn take_over(
    address: &Address,
    now: Timestamp,
    host: &str,
    wait: Duration,
) -> Result<Owned, StoreError> {
    let made = create(address, now)?;
    let until = Instant::now() + wait;
    let session = Session::open(address, Purpose::Write)?;
    loop {
        match take(&session, address, host)? {
            Taken::Lease(lease) => {
                return Ok(Owned {
                    writer: Writer::start(address.clone(), session, lease)?,
                    reader: Pool::new(address.clone()),
                    epoch: lease.epoch.unsigned_abs(),
                    made,
                });
            }
            Taken::By(owner) if Instant::now() >= until => return Err(StoreError::Owned(owner)),
            Taken::By(_) => {
                std::thread::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())))
            }
        }
    }
}

/// Takes a hub over for an engine; what runs is recorded in a file of this machine.
#[cfg(test)]
pub(in crate::store) fn owned(
    address: &Address,
    running: &std::path::Path,
    now: Timestamp,
) -> Result<crate::store::Owned, StoreError> {
    let (flight, were_running) = crate::store::FlightRecorder::open(running.to_owned())?;
    let taken = take_over(address, now, "a test", Duration::from_secs(10))?;
    Ok(crate::store::Owned {
        owner: Box::new(Unannounced),
        writer: crate::store::Writer::new(taken.writer),
        reader: Reader::new(PostgresReader::new(taken.reader)),
        flight,
        were_running,
        made: taken.made,
    })
}

/// Reads a hub without owning it.
#[cfg(test)]
pub(in crate::store) fn open_reader(address: &Address) -> Reader {
    Reader::new(PostgresReader::new(Pool::new(address.clone())))
}

/// Other processes find the owner in the database.
#[cfg(test)]
struct Unannounced;

#[cfg(test)]
impl crate::store::Ownership for Unannounced {
    fn announce(&mut self, _: &crate::store::OwnerNote) -> std::io::Result<()> {
        Ok(())
    }
}
