//! Makes a change.

use perennial_core::{Command, Digest, Envelope, Message, Status, Timestamp};

use crate::limits::KEYS;
use crate::store::StoreError;
use crate::store::change::Change;
use crate::store::outbox::OutboxMessage;
use crate::store::partition::Partitions;
use crate::store::reply::{Purged, Reply};
use crate::store::rows::Rows;
use crate::store::rules::attempts;
use crate::store::rules::control::{self, commit_and_cascade};
use crate::store::rules::create::{self, CreateOutcome};
use crate::store::rules::inbox::{deliver_at, is_live};
use crate::store::rules::misplaced;
use crate::store::rules::modules;
use crate::store::rules::purge;
use crate::store::rules::receive;
use crate::store::rules::request;
use crate::store::rules::rewind;
use crate::store::rules::run;
use crate::store::rules::settings;
use crate::store::types::{
    CutOff, Effects, InstanceKey, LastHost, NewInstance, Setting, WasRunning,
};

/// Makes one change.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each change"
)]
pub(crate) fn apply(
    rows: &mut impl Rows,
    change: &Change,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    misplaced::refuse(rows, change)?;
    Ok(match change {
        Change::Turn(commit) => created(commit_and_cascade(rows, commit, effects)?),
        Change::Start(new) => created(create::start(rows, new, now, effects)?),
        Change::Deliver {
            id,
            command,
            message,
        } => control::command(rows, id, *command, message, now, effects)?,
        Change::TerminateAll {
            id,
            message,
            running,
        } => control::terminate_all(rows, id, message, running, now, effects)?,
        Change::Post { key, messages } => post(rows, *key, messages, effects)?,
        Change::Discard { key, seqs, cascade } => {
            rows.discard(*key, seqs)?;
            cascade_from(rows, *key, cascade.as_ref(), now, effects)?;
            Reply::Done
        }
        Change::Rewind(commit) => rewind::rewind(rows, commit, now, effects)?,
        Change::Restart(commit) => rewind::restart(rows, commit, now, effects)?,
        Change::Retry(retry) => done_if(rows.retry(retry)?),
        Change::Deploy(new) => modules::deploy(rows, new, now)?,
        Change::Grant { name, grants } => done_if(rows.set_grants(name, grants)?),
        Change::Quarantine { key, why, seqs } => {
            let quarantined = rows.quarantine(*key, why)?;
            effects.changed.extend(quarantined);
            rows.discard(*key, seqs)?;
            Reply::Done
        }
        Change::Release {
            key,
            status,
            module,
            seqs,
            cascade,
        } => {
            let released = release(rows, *key, (*status, *module), effects)?;
            rows.discard(*key, seqs)?;
            if released.is_some() {
                cascade_from(rows, *key, cascade.as_ref(), now, effects)?;
            }
            effects.changed.extend(released);
            Reply::Done
        }
        Change::CountDeliveries(running) => count_deliveries(rows, running, now)?,
        Change::CountLost {
            were_running,
            unknown,
        } => {
            if !unknown.is_empty() {
                let of = Partitions::some(rows.partitions().count(), unknown.iter().copied());
                attempts::count_unknown(rows, of, were_running, now)?;
            }
            count_deliveries(rows, were_running, now)?
        }
        Change::TakeOver { were_running, boot } => take_over(rows, were_running, boot, now)?,
        Change::CutOff { attempts, stops } => cut_off(rows, attempts, *stops, now)?,
        Change::Begin { place, at } => done_if(rows.begin(*place, *at)?),
        Change::Beats(beats) => {
            for (place, beat) in beats {
                if rows.elsewhere_key(place.0).is_none() {
                    rows.beat(*place, beat)?;
                }
            }
            Reply::Done
        }
        Change::Purge(keys) => Reply::Purged(purge::purge(rows, keys, effects)?),
        Change::PurgeId(id) => purge_id(rows, id, effects)?,
        Change::Retain(ages) => {
            settings::set(rows, Setting::Retention, ages)?;
            Reply::Done
        }
        Change::KnowNames(names) => {
            settings::set(rows, Setting::WorkerNames, names)?;
            Reply::Done
        }
        Change::All(changes) => apply_all(rows, changes, now, effects)?,
        Change::Collect { rows: limit } => {
            effects.garbage = rows.collect_garbage(*limit)?;
            Reply::Done
        }
        Change::CreateKey(key) => done_if(rows.insert_key(key, KEYS)?),
        Change::RevokeKey { id } => done_if(rows.delete_key(id)?),
        Change::CollectModules { old } => Reply::Collected(modules::collect(rows, *old)?),
        Change::RemoveModule { name, in_use_too } => modules::remove(rows, name, *in_use_too)?,
        Change::SetTags { id, changes } => control::set_tags(rows, id, changes, now, effects)?,
        Change::Request(new) => request::request(rows, new, effects)?,
        Change::StartFor { new, then } => start_for(rows, new, then, now, effects)?,
        Change::IfRun { id, run, then } => match run::refusal(rows, id, *run)? {
            Some(refusal) => refusal,
            None => apply(rows, then, now, effects)?,
        },
        Change::Receive(sent) => {
            receive::receive(rows, sent, now, effects)?;
            Reply::Done
        }
        Change::Join(which) => {
            receive::join(rows, which, now, effects)?;
            Reply::Done
        }
        Change::Leave(which) => {
            rows.set_partitions(rows.partitions().without(which))?;
            Reply::Done
        }
        Change::Answer(reply) => reply.clone(),
    })
}

/// Makes several changes. Each starts with empty effects.
fn apply_all(
    rows: &mut impl Rows,
    changes: &[Change],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let mut replies = Vec::with_capacity(changes.len());
    for change in changes {
        let mut of_one = Effects::default();
        replies.push(apply(rows, change, now, &mut of_one)?);
        effects.add(of_one);
    }
    Ok(Reply::All(replies))
}

/// Starts an instance if need be, and delivers something to it. If it cannot be started, nothing is delivered.
fn start_for(
    rows: &mut impl Rows,
    new: &NewInstance,
    then: &Change,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let asked = match then {
        Change::Request(asked) => Some(asked),
        _ => None,
    };
    let started = request::start_for(rows, new, asked, now, effects)?;
    if let Reply::Rejected(_) = started {
        return Ok(started);
    }
    let mut of_then = Effects::default();
    let delivered = apply(rows, then, now, &mut of_then)?;
    effects.add(of_then);
    Ok(Reply::All(vec![started, delivered]))
}

/// Passes a message on to the children of an instance, if it applies to them.
fn cascade_from(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: Option<&Message>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    match message {
        Some(message) => control::cascade(rows, key, message, now, effects),
        None => Ok(()),
    }
}

fn count_deliveries(
    rows: &mut impl Rows,
    running: &[WasRunning],
    now: Timestamp,
) -> Result<Reply, StoreError> {
    for was in running {
        if rows.elsewhere_key(was.key).is_none() {
            attempts::count_crash(rows, was, now)?;
        }
    }
    settings::forget_old_answers(rows, now)?;
    Ok(Reply::Done)
}

/// Counts the attempts that the last host had begun. If the machine was restarted since, any attempt may have been.
fn take_over(
    rows: &mut impl Rows,
    were_running: &[WasRunning],
    boot: &Option<String>,
    now: Timestamp,
) -> Result<Reply, StoreError> {
    let last = settings::last_host(rows)?;
    if last.is_some_and(|last| last.may_have_lost(boot.as_deref())) {
        attempts::count_unknown(rows, rows.partitions(), were_running, now)?;
    }
    let host = LastHost {
        boot: boot.clone(),
        stopped: false,
    };
    settings::set(rows, Setting::LastHost, &host)?;
    count_deliveries(rows, were_running, now)
}

fn cut_off(
    rows: &mut impl Rows,
    attempts: &[CutOff],
    stops: bool,
    now: Timestamp,
) -> Result<Reply, StoreError> {
    for cut in attempts {
        if rows.elsewhere_key(cut.key).is_none() {
            attempts::count_stop(rows, cut, now)?;
        }
    }
    if stops && let Some(host) = settings::last_host(rows)? {
        let stopped = true;
        settings::set(rows, Setting::LastHost, &LastHost { stopped, ..host })?;
    }
    Ok(Reply::Done)
}

fn created(outcome: CreateOutcome) -> Reply {
    match outcome {
        Ok(()) => Reply::Done,
        Err(rejection) => Reply::Rejected(rejection),
    }
}

fn purge_id(rows: &mut impl Rows, id: &str, effects: &mut Effects) -> Result<Reply, StoreError> {
    let found = rows.find(id)?;
    let decision = perennial_core::decide(found.map(|(_, status)| status), Command::Purge);
    Ok(match (decision, found) {
        (Ok(_), Some((key, _))) => Reply::Purged(purge::purge(rows, &[key], effects)?),
        (Ok(_), None) => Reply::Purged(Purged::default()),
        (Err(rejection), _) => Reply::Rejected(rejection),
    })
}

fn done_if(done: bool) -> Reply {
    if done { Reply::Done } else { Reply::Nothing }
}

fn post(
    rows: &mut impl Rows,
    key: InstanceKey,
    messages: &[Envelope],
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    if let Some(to) = rows.elsewhere_key(key) {
        // The partition was given away meanwhile. All else that its owner must know is in the hub.
        for Envelope { message, .. } in messages {
            if let Message::ActivityEnded { .. } | Message::AttemptsFailed { .. } = message {
                let message = message.clone();
                rows.send(to, OutboxMessage::Deliver { key, message })?;
            }
        }
        return Ok(Reply::Nothing);
    }
    if !is_live(rows, key)? {
        return Ok(Reply::Nothing);
    }
    for Envelope { at, message, .. } in messages {
        deliver_at(rows, key, message, Some(*at), effects)?;
    }
    Ok(Reply::Done)
}

/// Ends the quarantine of an instance. Returns its id if it is still live.
///
/// # Errors
/// [`StoreError::Conflict`] if the module was deleted.
fn release(
    rows: &mut impl Rows,
    key: InstanceKey,
    (status, module): (Status, Option<Digest>),
    effects: &mut Effects,
) -> Result<Option<String>, StoreError> {
    if let Some(digest) = module {
        modules::expect(rows, digest)?;
    }
    let before = rows.head(key)?.and_then(|head| head.module);
    let released = rows.release(key, status, module)?;
    if released.is_some() {
        effects.live.moved(before, module);
    }
    Ok(released)
}
