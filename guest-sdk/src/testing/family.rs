//! What instances are to each other: one starts others, tells its children to end, and learns how they ended.

use perennial_core::{
    CANCELLATION_GRACE, Callee, ChildCommand, Command, Event, Failure, IdReuse, InstanceOptions,
    Json, Limits, Message, Parent, Reuse, SEMANTICS_VERSION, Start, State, Tags, Target, TaskId,
    TraceContext, Turn, decide, kind,
};

use super::environment::MODULE;
use super::instance::outcome_of;
use super::world::World;

/// An instance that another one asks for.
struct Wanted {
    id: String,
    name: String,
    version: Option<String>,
    input: Option<Json>,
    tags: Tags,
    target: Target,
    options: InstanceOptions,
    /// The task of the child and the number of its attempt; `None` if nobody waits for it.
    child: Option<(TaskId, u32)>,
}

impl Wanted {
    /// What this event of a turn asks for, if it does, with what the event after it says of that.
    ///
    /// Only the event counts: what is dropped in the same turn, or by the end of the execution, starts all the same.
    fn asked(event: &Event, next: Option<&Event>) -> Option<Self> {
        let options = match next {
            Some(Event::InstanceOptions { options, .. }) => *options,
            _ => InstanceOptions::default(),
        };
        let (child, id, name, version, input, tags, target) = match event {
            Event::ChildScheduled {
                task,
                instance_id,
                name,
                version,
                input,
                tags,
                target,
                ..
            } => {
                let child = Some((*task, 1));
                (child, instance_id, name, version, input, tags, target)
            }
            Event::InstanceStarted {
                instance_id,
                name,
                version,
                input,
                tags,
                target,
            } => (None, instance_id, name, version, input, tags, target),
            _ => return None,
        };
        Some(Self {
            id: id.clone(),
            name: name.clone(),
            version: version.clone(),
            input: input.clone(),
            tags: tags.clone(),
            target: target.clone(),
            options,
            child,
        })
    }

    /// A child that is tried again.
    fn again(state: &State, task: TaskId, attempt: u32) -> Option<Self> {
        let child = state.child(task)?;
        Some(Self {
            id: child.attempt_instance_id(attempt),
            name: child.name.clone(),
            version: child.version.clone(),
            input: child.input.clone(),
            tags: child.tags.clone(),
            target: child.target.clone(),
            options: child.options,
            child: Some((task, attempt)),
        })
    }
}

impl World {
    /// Starts what this event of a turn asks for, if it does; the event after it may say more of that.
    pub(super) fn start_asked(&mut self, by: &str, event: &Event, next: Option<&Event>) {
        if let Some(wanted) = Wanted::asked(event, next) {
            self.start_wanted(by, wanted);
        }
    }

    /// Starts an attempt of a child after the first one.
    pub(super) fn start_again(&mut self, by: &str, task: TaskId, attempt: u32) {
        let parent = self.instances.get(by);
        if let Some(wanted) = parent.and_then(|one| Wanted::again(&one.state, task, attempt)) {
            self.start_wanted(by, wanted);
        }
    }

    /// Starts an instance for another one, which is told if that is refused.
    fn start_wanted(&mut self, by: &str, wanted: Wanted) {
        let known = self.environment.orchestration_names();
        let unresolved = wanted.target.failure(Callee::Orchestration, &wanted.name);
        let unresolved = unresolved.map(|failure| failure.meant(&wanted.name, known));
        let (id, child) = (wanted.id.clone(), wanted.child);
        let refused = unresolved.or_else(|| {
            let why = self.try_start(by, wanted).err()?;
            Some(Failure::permanent(kind::INSTANCE_EXISTS, why))
        });
        match (refused, child) {
            (Some(failure), Some((task, attempt))) => {
                if let Some(task) = self.task(by, task) {
                    let message = Message::ChildEnded {
                        task,
                        attempt,
                        outcome: Err(failure),
                    };
                    self.deliver(by, message);
                }
            }
            (Some(failure), None) => self.start_skipped(by, id, failure.message),
            (None, _) => {}
        }
    }

    /// Tells an instance, or the history of one that has ended, that one that it asked for was not started.
    fn start_skipped(&mut self, by: &str, instance_id: String, reason: String) {
        let skipped = Message::StartSkipped {
            instance_id: instance_id.clone(),
            reason: reason.clone(),
        };
        if !self.deliver(by, skipped)
            && let Some(instance) = self.instances.get_mut(by)
        {
            instance.epilogue(Event::InstanceStartSkipped {
                instance_id,
                reason,
            });
        }
    }

    /// Starts an instance for another one.
    ///
    /// # Errors
    ///
    /// Why its id is not free.
    fn try_start(&mut self, by: &str, wanted: Wanted) -> Result<(), String> {
        let id = wanted.id;
        if id == by {
            return Err(format!(
                "instance {id:?} exists already, and is what asks for it"
            ));
        }
        let reuse = match wanted.options.reuse {
            IdReuse::Ended => Reuse::Ended,
            IdReuse::Never => Reuse::Never,
        };
        let taken = self.instances.get(&id).map(|taken| taken.status());
        if let Some(status) = taken
            && decide(taken, Command::Start(reuse)).is_err()
        {
            return Err(format!("instance {id:?} exists already and is {status}"));
        }
        let caller = self.instances.get(by);
        let trace = caller.and_then(|caller| caller.state.start());
        let trace = trace.map(|start| TraceContext::of_execution(start, 0).0.to_string());
        let parent = caller.zip(wanted.child);
        let parent = parent.map(|(caller, (task, attempt))| Parent {
            instance_id: by.to_owned(),
            name: caller.name.clone(),
            task: caller.task(task),
            attempt,
        });
        let (execution_id, seed) = self.fresh.next();
        let start = Start {
            instance_id: id,
            execution_id,
            execution: 0,
            name: wanted.name,
            version: wanted.version,
            input: wanted.input,
            parent,
            tags: wanted.tags,
            trace_parent: trace,
            seed,
            module: Some(MODULE),
            limits: Limits::default(),
            next_external: 0,
            semantics: SEMANTICS_VERSION,
            accepted_at: self.now,
            scheduled_for: None,
        };
        self.add(start, wanted.options);
        Ok(())
    }

    /// Tells a child what its parent wants of it, if it is still the parent's. One that has ended is told nothing.
    pub(super) fn command_child(
        &mut self,
        parent: &str,
        child: &str,
        command: ChildCommand,
        reason: Option<String>,
    ) {
        let of = self.instances.get(child).and_then(|one| one.parent_serial);
        if of.is_none() || of != self.serial(parent) {
            return;
        }
        let message = match command {
            ChildCommand::Cancel => Message::Cancel {
                reason,
                grace: CANCELLATION_GRACE,
                recursive: false,
            },
            ChildCommand::Terminate => Message::Terminate {
                reason,
                recursive: false,
            },
        };
        self.deliver(child, message);
    }

    /// Ends the live children of an instance that ended or continued as new, as each of their starts said.
    pub(super) fn release_children(&mut self, parent: &str) {
        let Some(of) = self.serial(parent) else {
            return;
        };
        let children = self
            .instances
            .values()
            .filter(|child| child.parent_serial == Some(of) && !child.state.has_ended());
        let told = children.filter_map(|child| {
            let command = child.when_dropped.command()?;
            Some((child.serial, child.id.clone(), command))
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|(serial, ..)| *serial);
        for (_, child, command) in told {
            let reason = format!("its parent {parent:?} has ended");
            self.command_child(parent, &child, command, Some(reason));
        }
    }

    /// Tells the parent of an instance of its end, in this turn.
    pub(super) fn ended(&mut self, id: &str, turn: &Turn) {
        self.leave_requests(id);
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        instance.mail.clear();
        instance.activities.clear();
        instance.guest = None;
        let Some(outcome) = outcome_of(turn) else {
            return;
        };
        let (Some(parent), serial) = (instance.parent.clone(), instance.parent_serial) else {
            return;
        };
        if self.serial(&parent.instance_id) != serial {
            return;
        }
        let message = Message::ChildEnded {
            task: parent.task,
            attempt: parent.attempt,
            outcome,
        };
        self.deliver(&parent.instance_id, message);
    }
}
