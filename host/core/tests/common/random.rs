//! A guest whose behaviour is a pure function of a seed and of the events it was given.

use std::collections::BTreeSet;

use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, ChildCall, ChildCommand, ChildPolicy, Ending,
    Failure, Guest, GuestEvent, IdReuse, InstanceOptions, Json, Limits, Millis, Mode,
    OutgoingEvent, OutgoingRequest, RetryPolicy, Stop, TaskId, TimerDue, Timestamp, Waiting, kind,
};

/// Small, so that a random guest meets them.
pub(crate) const LIMITS: Limits = Limits {
    memory_bytes: 1 << 20,
    payload_bytes: 64,
    custom_status_bytes: 32,
    actions_per_turn: 12,
    action_bytes_per_turn: 400,
    open_tasks: 20,
    fuel_base: 1,
    fuel_per_event: 1,
    fuel_per_byte: 1,
};

/// How a guest behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manners {
    Polite,
    /// It breaks the contract now and then.
    Hostile,
}

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize].clone()
    }
}

pub(crate) struct RandomGuest {
    manners: Manners,
    memory: u64,
    now: Timestamp,
    next_task: u32,
    open: BTreeSet<TaskId>,
    externals: BTreeSet<u32>,
    /// Those of them that are requests.
    asked: BTreeSet<u32>,
    /// Requests that it has not answered.
    requests: BTreeSet<u32>,
    failed: Vec<TaskId>,
    canceled: bool,
    ended: bool,
}

impl RandomGuest {
    pub(crate) fn new(seed: u64, manners: Manners) -> Self {
        Self {
            manners,
            memory: seed,
            now: Timestamp(0),
            next_task: 0,
            open: BTreeSet::new(),
            externals: BTreeSet::new(),
            asked: BTreeSet::new(),
            requests: BTreeSet::new(),
            failed: Vec::new(),
            canceled: false,
            ended: false,
        }
    }

    /// Takes an event in; what must never be told is told to nobody.
    fn hear(&mut self, event: &GuestEvent) {
        for byte in format!("{event:?}").bytes() {
            self.memory = (self.memory ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if let GuestEvent::TaskCompleted {
            task,
            outcome: Err(_),
        } = event
        {
            self.failed.push(*task);
        }
        match event {
            GuestEvent::TurnStarted { now, .. } => {
                assert!(*now >= self.now, "time runs backwards");
                self.now = *now;
            }
            GuestEvent::ExecutionStarted { .. } => {}
            GuestEvent::TaskCompleted { task, .. } | GuestEvent::TimerFired(task) => assert!(
                self.open.remove(task),
                "task {task} was told twice, or after it was cancelled"
            ),
            GuestEvent::ExternalEventRaised { number, .. } => {
                assert!(self.externals.insert(*number), "event {number} came twice");
            }
            GuestEvent::RequestReceived(request) => {
                let number = request.number;
                assert!(self.externals.insert(number), "event {number} came twice");
                self.asked.insert(number);
                self.requests.insert(number);
            }
            GuestEvent::CancellationRequested(_) => {
                assert!(
                    !std::mem::replace(&mut self.canceled, true),
                    "it was asked twice"
                );
            }
        }
    }

    fn payload(&self, dice: &mut Dice) -> Option<Json> {
        let long = if dice.once_in(30) { 80 } else { 3 };
        let text = format!("\"{}\"", "x".repeat(dice.roll(long) as usize));
        (!dice.once_in(4)).then(|| Json::from_text(text))
    }

    fn task(&mut self, dice: &mut Dice) -> TaskId {
        let task = if self.manners == Manners::Hostile && dice.once_in(60) {
            TaskId(dice.pick(&[0, self.next_task.saturating_sub(1), u32::MAX]))
        } else {
            TaskId(self.next_task + u32::from(dice.once_in(20)))
        };
        if task.0 < u32::MAX {
            self.next_task = self.next_task.max(task.0 + 1);
        }
        self.open.insert(task);
        task
    }

    fn retry(dice: &mut Dice) -> Option<RetryPolicy> {
        dice.once_in(2).then(|| RetryPolicy {
            max_attempts: dice.pick(&[1, 2, 3, 4]),
            first_delay: Millis(dice.roll(200)),
            backoff: dice.pick(&[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 0.5, f64::NAN]),
            max_delay: None,
            jitter: dice.once_in(2).then_some(0.5),
            give_up_after: dice.once_in(3).then_some(Millis(150)),
        })
    }

    fn options(dice: &mut Dice) -> InstanceOptions {
        InstanceOptions {
            reuse: dice.pick(&[IdReuse::Ended, IdReuse::Ended, IdReuse::Never]),
            when_dropped: dice.pick(&[
                ChildPolicy::Abandon,
                ChildPolicy::Abandon,
                ChildPolicy::Cancel,
                ChildPolicy::Terminate,
            ]),
            execution_timeout: dice.once_in(4).then_some(Millis(500)),
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each action"
    )]
    fn action(&mut self, dice: &mut Dice) -> Action {
        let hostile = self.manners == Manners::Hostile;
        match dice.roll(19) {
            0..4 => Action::CallActivity(ActivityCall {
                task: self.task(dice),
                name: dice
                    .pick(&["Work", "Work", "NativeWork", "MissingWork"])
                    .to_owned(),
                input: self.payload(dice),
                retry: Self::retry(dice),
                attempt_timeout: None,
                options: CallOptions {
                    heartbeat_timeout: dice.once_in(6).then(|| Millis(dice.pick(&[0, 50, 50, 50]))),
                    at_most_once: dice.once_in(6),
                },
            }),
            4..6 => Action::CallChild(ChildCall {
                task: self.task(dice),
                name: dice
                    .pick(&["Child", "Child", "Child", "MissingChild"])
                    .to_owned(),
                version: dice.once_in(3).then(|| "1".to_owned()),
                instance_id: dice
                    .once_in(3)
                    .then(|| dice.pick(&["kid", "@kid"]).to_owned()),
                input: self.payload(dice),
                tags: Vec::new(),
                retry: Self::retry(dice),
                options: Self::options(dice),
            }),
            6 => {
                let span = dice.roll(300);
                let at = Timestamp(self.now.0 + span);
                Action::SetTimer {
                    task: self.task(dice),
                    due: dice.pick(&[
                        TimerDue::GuestTime(at),
                        TimerDue::After(Millis(span)),
                        TimerDue::At(at),
                    ]),
                }
            }
            14 if self.next_task > 0 => Action::CommandChild {
                task: match self.open.first() {
                    Some(first) if !dice.once_in(4) => *first,
                    _ => TaskId(dice.roll(u64::from(self.next_task)) as u32),
                },
                command: dice.pick(&[ChildCommand::Cancel, ChildCommand::Terminate]),
                reason: dice.once_in(2).then(|| "enough".to_owned()),
            },
            7 | 8 if self.next_task > 0 => {
                let task = match self.open.first() {
                    Some(first) if !dice.once_in(4) => *first,
                    _ => TaskId(dice.roll(u64::from(self.next_task)) as u32),
                };
                let wild = hostile && dice.once_in(20);
                let task = if wild {
                    TaskId(self.next_task + 3)
                } else {
                    task
                };
                self.open.remove(&task);
                Action::CancelTask(task)
            }
            9 => Action::SendEvent(OutgoingEvent {
                instance_id: "other".to_owned(),
                name: "hello".to_owned(),
                data: None,
            }),
            10 => Action::StartInstance {
                instance_id: dice.pick(&["new", "n/w"]).to_owned(),
                name: dice.pick(&["Other", "MissingOther"]).to_owned(),
                version: None,
                input: self
                    .payload(dice)
                    .filter(|input| hostile || input.size() < 60),
                tags: vec![("k".to_owned(), "v".to_owned())],
                options: Self::options(dice),
            },
            11 | 12 => Action::SetValue {
                name: dice.pick(&["stage", "progress", "owner"]).to_owned(),
                value: self.payload(dice).filter(|_| !dice.once_in(3)),
            },
            15 => Action::SendRequest(OutgoingRequest {
                task: self.task(dice),
                instance_id: dice.pick(&["other", "other", "n/w"]).to_owned(),
                name: dice.pick(&["Ask", "Ask", ""]).to_owned(),
                input: self.payload(dice),
            }),
            16 | 17 if !self.requests.is_empty() || (hostile && dice.once_in(10)) => {
                Action::Respond {
                    number: self.requests.pop_first().unwrap_or(7),
                    outcome: match self.payload(dice).filter(|output| output.size() < 60) {
                        Some(output) => Ok(Some(output)),
                        None if dice.once_in(2) => Ok(None),
                        None => Err(Failure::permanent("Declined", "by chance")),
                    },
                }
            }
            13 => Action::SetTag {
                key: dice.pick(&["team", "stage"]).to_owned(),
                value: (!dice.once_in(3)).then(|| dice.pick(&["a", "b"]).to_owned()),
            },
            _ => {
                let value = self.payload(dice);
                Action::SetCustomStatus(value.filter(|value| hostile || value.size() < 30))
            }
        }
    }

    fn ending(&mut self, dice: &mut Dice) -> Ending {
        self.ended = true;
        let wild = self.manners == Manners::Hostile && dice.once_in(100);
        if wild || (self.canceled && dice.once_in(4)) {
            return Ending::Canceled;
        }
        match dice.roll(60) {
            0..3 => Ending::Completed(self.payload(dice).filter(|output| output.size() < 60)),
            3 => Ending::Failed {
                failure: Failure::permanent("Broken", "by chance"),
                cause: (!self.failed.is_empty() && dice.once_in(2))
                    .then(|| dice.pick(&self.failed)),
            },
            4..7 => Ending::ContinuedAsNew {
                input: None,
                version: match dice.roll(6) {
                    0 => Some("missing".to_owned()),
                    1 => Some("1".to_owned()),
                    _ => None,
                },
                carry_over: {
                    let wild = self.manners == Manners::Hostile && dice.once_in(3);
                    let requests = std::mem::take(&mut self.requests);
                    let left = requests.into_iter().filter(|_| !wild || !dice.once_in(9));
                    let mut carried: BTreeSet<u32> = left.collect();
                    for number in &self.externals {
                        if !self.asked.contains(number) && !dice.once_in(2) {
                            carried.insert(*number);
                        }
                    }
                    let foreign = wild && dice.once_in(2);
                    carried.into_iter().chain(foreign.then_some(77)).collect()
                },
            },
            _ => {
                self.ended = false;
                Ending::Waiting(Waiting {
                    events: vec!["go".to_owned()],
                    tasks: self.open.iter().copied().take(2).collect(),
                    note: Some(format!("{:x}", self.memory)),
                    requests: vec!["ask".to_owned()],
                })
            }
        }
    }
}

impl Guest for RandomGuest {
    fn advance(&mut self, events: &[GuestEvent], _: Mode) -> Result<Answer, Stop> {
        assert!(!self.ended, "it is asked after its end");
        assert!(matches!(events[0], GuestEvent::TurnStarted { .. }));
        events.iter().for_each(|event| self.hear(event));
        let mut dice = Dice(self.memory);
        if dice.once_in(100) {
            let failure = Failure::permanent(kind::PANIC, "index out of bounds");
            return Err(Stop::Verdict(failure));
        }
        let hostile = self.manners == Manners::Hostile && dice.once_in(40);
        let count = if hostile { 13 } else { dice.roll(5) };
        let actions = (0..count).map(|_| self.action(&mut dice)).collect();
        let ending = self.ending(&mut dice);
        Ok(Answer { actions, ending })
    }
}
