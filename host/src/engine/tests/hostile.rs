//! Guests that break every rule. They harm only their own instance.

use super::programs::Dice;
use super::world::*;
use perennial_core::{
    Action, ActivityCall, CallOptions, ChildCall, ChildCommand, ChildPolicy, Ending, Failure,
    IdReuse, InstanceOptions, Json, Millis, OutgoingEvent, RetryPolicy, Status, TaskId, TimerDue,
    Timestamp, Waiting,
};

impl Dice {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let sides = u64::try_from(of.len()).unwrap();
        of[usize::try_from(self.roll(sides)).unwrap()].clone()
    }

    /// A task id: often the next one, sometimes any other.
    fn task(&mut self) -> TaskId {
        let near = u32::try_from(self.roll(4)).unwrap();
        TaskId(self.pick(&[0, near, near, near, 1_000, u32::MAX - 1, u32::MAX]))
    }

    fn text(&mut self) -> String {
        let huge = "x".repeat(2_000_000);
        self.pick(
            &[
                "",
                "Echo",
                "Hold",
                "Listen",
                "a/b",
                "@a",
                "\u{0}",
                "\u{202e}gnp",
            ]
            .map(str::to_owned),
        )
        .replace(
            "\u{202e}gnp",
            if self.roll(50) == 0 { &huge } else { "gnp" },
        )
    }

    fn json(&mut self) -> Option<Json> {
        let huge = format!("\"{}\"", "y".repeat(1_500_000));
        match self.roll(12) {
            0..4 => None,
            4..11 => Some(json("[1,2]")),
            _ => Some(Json::from_text(huge)),
        }
    }

    fn retry(&mut self) -> Option<RetryPolicy> {
        (self.roll(2) == 0).then(|| RetryPolicy {
            max_attempts: self.pick(&[0, 1, 2, u32::MAX]),
            first_delay: Millis(self.pick(&[0, 1, u64::MAX])),
            backoff: self.pick(&[1.0, f64::MAX, f64::NAN, f64::NEG_INFINITY, -0.0]),
            max_delay: self.pick(&[None, Some(Millis(0)), Some(Millis(u64::MAX))]),
            jitter: self.pick(&[None, Some(0.5), Some(f64::NAN), Some(1e300)]),
            give_up_after: self.pick(&[None, Some(Millis(0)), Some(Millis(u64::MAX))]),
        })
    }

    fn action(&mut self) -> Action {
        match self.roll(8) {
            0 => Action::CallActivity(ActivityCall {
                task: self.task(),
                name: self
                    .pick(&["Echo", "Broken", "Flaky", "Nothing", ""])
                    .to_owned(),
                input: self.json(),
                retry: self.retry(),
                attempt_timeout: self.pick(&[None, Some(Millis(0)), Some(Millis(u64::MAX))]),
                options: CallOptions {
                    heartbeat_timeout: self.pick(&[None, Some(Millis(0)), Some(Millis(u64::MAX))]),
                    at_most_once: self.roll(4) == 0,
                },
            }),
            1 => {
                let id = self.text();
                Action::CallChild(ChildCall {
                    task: self.task(),
                    name: self.pick(&["Listen", "Nobody", ""]).to_owned(),
                    version: self.pick(&[None, Some("7".to_owned())]),
                    instance_id: self.pick(&[None, Some(id)]),
                    input: self.json(),
                    tags: Vec::new(),
                    retry: self.retry(),
                    options: self.options(),
                })
            }
            2 => Action::SetTimer {
                task: self.task(),
                due: self.due(),
            },
            3 => Action::CancelTask(self.task()),
            4 => Action::SendEvent(OutgoingEvent {
                instance_id: self.text(),
                name: self.text(),
                data: self.json(),
            }),
            5 => Action::StartInstance {
                instance_id: self.text(),
                name: self.pick(&["Listen", "Nobody"]).to_owned(),
                version: None,
                input: self.json(),
                tags: vec![(self.text(), self.text())],
                options: self.options(),
            },
            6 => Action::CommandChild {
                task: self.task(),
                command: self.pick(&[ChildCommand::Cancel, ChildCommand::Terminate]),
                reason: Some(self.text()),
            },
            _ => Action::SetCustomStatus(self.json()),
        }
    }

    fn due(&mut self) -> TimerDue {
        let time = self.pick(&[0, 1, u64::MAX, i64::MAX.unsigned_abs() + 1]);
        self.pick(&[
            TimerDue::GuestTime(Timestamp(time)),
            TimerDue::After(Millis(time)),
            TimerDue::At(Timestamp(time)),
        ])
    }

    fn options(&mut self) -> InstanceOptions {
        InstanceOptions {
            reuse: self.pick(&[IdReuse::Ended, IdReuse::Never]),
            when_dropped: self.pick(&[
                ChildPolicy::Abandon,
                ChildPolicy::Cancel,
                ChildPolicy::Terminate,
            ]),
            execution_timeout: self.pick(&[None, Some(Millis(0)), Some(Millis(u64::MAX))]),
        }
    }

    fn ending(&mut self) -> Ending {
        match self.roll(13) {
            12 => Ending::Canceled,
            0 => Ending::Completed(self.json()),
            1 => Ending::Failed {
                failure: Failure {
                    details: self.json(),
                    ..Failure::permanent(self.text(), self.text())
                },
                cause: Some(self.task()),
            },
            2 => Ending::ContinuedAsNew {
                input: self.json(),
                version: self.pick(&[None, Some("9".to_owned())]),
                carry_over: vec![0, 0, u32::MAX],
            },
            _ => Ending::Waiting(Waiting {
                events: vec![self.text(); 1 + usize::try_from(self.roll(3)).unwrap()],
                tasks: vec![self.task()],
                note: Some(self.text()),
                requests: Vec::new(),
            }),
        }
    }
}

/// Makes random requests, which depend only on its id and the number of its turns.
fn anything() -> Logic {
    let mut turns = 0;
    Box::new(move |seen, out| {
        turns += 1;
        let mut dice = Dice(
            seen.id
                .bytes()
                .fold(turns, |seed, byte| seed * 131 + u64::from(byte)),
        );
        let many = match dice.roll(40) {
            0 => 20_000,
            few => few % 6,
        };
        if many > 100 {
            for _ in 0..many {
                out.push(Action::SetCustomStatus(None));
            }
        } else {
            for _ in 0..many {
                out.push(dice.action());
            }
        }
        dice.ending()
    })
}

#[test]
fn a_guest_that_asks_for_anything_harms_only_its_own_instance() {
    let world = World::with("Hostile", anything)
        .and("Listen", listens(2))
        .and("Bystander", listens(20));
    let mut host = world.open();
    host.start("Bystander", "bystander");
    for n in 0..120 {
        host.start("Hostile", &format!("h{n}"));
    }
    for round in 0..20 {
        host.raise("bystander", "go", round);
        for n in 0..120 {
            if host
                .row(&format!("h{n}"))
                .is_some_and(|row| !row.status.is_end())
            {
                // The instance may have ended.
                let _ = host.submit(crate::engine::Request::RaiseEvent {
                    id: format!("h{n}"),
                    name: "go".to_owned(),
                    data: None,
                });
            }
        }
        host.advance(1_000);
        match round % 5 {
            0 => drop(host.evict_all()),
            3 => {
                drop(host);
                host = world.open();
            }
            _ => {}
        }
    }
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(host.end("bystander"), format!("[{}]", expected.join(",")));
    host.idle();
    let mut failed = 0;
    for n in 0..120 {
        let row = host.row(&format!("h{n}")).unwrap();
        assert_eq!(row.quarantine, None, "h{n}");
        failed += usize::from(row.status == Status::Failed);
        if !row.status.is_end() {
            host.terminate(&row.id);
            assert_eq!(host.end(&row.id), "Terminated");
        }
    }
    assert!(failed > 60, "only {failed} failed");
    host.start_with("Bystander", "after", 1);
    host.check_histories();
}
