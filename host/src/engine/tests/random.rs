//! Random programs with many concurrent events. Whatever happens to the host, each ends as an undisturbed run does.

use serde::{Deserialize, Serialize};

use super::places::runs;
pub(super) use super::programs::Dice;
use super::world::*;
use crate::engine::Request;
use perennial_core::{Action, Ending, Failure};

/// A program. Its value is a number that does not depend on the order of events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Op {
    Echo(u64),
    /// Fails this often before it returns its value.
    Flaky(u64, u32),
    Broken,
    Timer(u64),
    /// Waits for the event of this number.
    Event(u64),
    /// Cancelled right after the call.
    Dropped,
    /// Sets and clears values, and sets a tag.
    Shows(u64),
    Child(Box<Self>),
    Seq(Vec<Self>),
    Par(Vec<Self>),
}

impl Op {
    pub(super) fn random(dice: &mut Dice, depth: u32, events: &mut u64) -> Self {
        match dice.roll(if depth == 0 { 8 } else { 13 }) {
            0 | 1 => Self::Echo(dice.roll(100)),
            2 => Self::Flaky(dice.roll(100), dice.roll(4) as u32),
            3 => Self::Broken,
            4 => Self::Timer(dice.roll(60)),
            5 if depth > 0 => {
                *events += 1;
                Self::Event(*events - 1)
            }
            5 | 6 => Self::Dropped,
            7 => Self::Shows(dice.roll(9)),
            // Events are sent to the instance; a child gets none.
            8 => Self::Child(Box::new(Self::random(dice, depth.min(1) - 1, events))),
            9 | 10 => Self::Seq(
                (0..dice.roll(5))
                    .map(|_| Self::random(dice, depth - 1, events))
                    .collect(),
            ),
            _ => Self::Par(
                (0..dice.roll(5))
                    .map(|_| Self::random(dice, depth - 1, events))
                    .collect(),
            ),
        }
    }

    /// The expected value.
    pub(super) fn value(&self) -> u64 {
        match self {
            Self::Echo(value) | Self::Flaky(value, _) => *value,
            Self::Broken => 1_000,
            Self::Timer(_) => 1,
            Self::Event(number) => 10_000 + number,
            Self::Dropped | Self::Shows(_) => 0,
            Self::Child(op) => op.value(),
            Self::Seq(ops) | Self::Par(ops) => ops.iter().map(Self::value).sum(),
        }
    }
}

/// The input of an execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Input {
    pub(super) sum: u64,
    pub(super) rounds: Vec<Op>,
}

/// A running program.
struct Node {
    op: Op,
    task: Option<u32>,
    parts: Vec<Self>,
}

impl Node {
    fn new(op: &Op) -> Self {
        let parts = match op {
            Op::Seq(ops) | Op::Par(ops) => ops.iter().map(Self::new).collect(),
            _ => Vec::new(),
        };
        Self {
            op: op.clone(),
            task: None,
            parts,
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each operation"
    )]
    /// Runs as far as possible, and returns the value if it has ended. `used` are the events taken so far.
    fn poll(&mut self, seen: &Seen, out: &mut Out, used: &mut Vec<u32>) -> Option<u64> {
        match &self.op {
            Op::Seq(_) => self
                .parts
                .iter_mut()
                .map(|part| part.poll(seen, out, used))
                .take_while_inclusive()
                .sum(),
            Op::Par(_) => {
                let values: Vec<Option<u64>> = self
                    .parts
                    .iter_mut()
                    .map(|part| part.poll(seen, out, used))
                    .collect();
                values.into_iter().sum()
            }
            Op::Event(number) => {
                let name = format!("e{number}");
                let (at, _, data) = seen.events.iter().find(|(_, found, _)| *found == name)?;
                used.push(*at);
                data.as_ref().map(|data| data.as_str().parse().unwrap())
            }
            Op::Dropped => {
                if self.task.is_none() {
                    let task = out.call("Echo", 7);
                    out.cancel(task);
                    self.task = Some(task);
                }
                Some(0)
            }
            Op::Shows(value) => {
                if self.task.is_none() {
                    let name = format!("v{}", value % 3);
                    let set = (*value != 8).then(|| json(value));
                    out.push(Action::SetValue { name, value: set });
                    let (key, value) = (format!("t{}", value % 2), Some(value.to_string()));
                    out.push(Action::SetTag { key, value });
                    self.task = Some(0);
                }
                Some(0)
            }
            op => {
                let task = *self.task.get_or_insert_with(|| match op {
                    Op::Flaky(value, fails) => out.call_with(
                        "FailsFirst",
                        format!("[{value},{fails}]"),
                        retry(10, 5),
                        None,
                    ),
                    Op::Broken => out.call("Broken", 1),
                    Op::Timer(span) => out.timer(seen.now.0 + span),
                    Op::Child(op) => {
                        let input = Input {
                            sum: 0,
                            rounds: vec![Op::clone(op)],
                        };
                        out.child_with(
                            "Program",
                            None,
                            Some(json(serde_json::to_string(&input).unwrap())),
                            None,
                        )
                    }
                    Op::Echo(value) => out.call("Echo", value),
                    Op::Event(_) | Op::Dropped | Op::Shows(_) | Op::Seq(_) | Op::Par(_) => {
                        unreachable!("handled above")
                    }
                });
                if seen.fired.contains(&task) {
                    return Some(1);
                }
                Some(match seen.results.get(&task)? {
                    Ok(output) => output.as_ref().unwrap().as_str().parse().unwrap(),
                    Err(_) => 1_000,
                })
            }
        }
    }
}

/// Iterates up to and including the first missing value, which makes the whole result missing.
trait TakeWhileInclusive: Iterator<Item = Option<u64>> + Sized {
    fn take_while_inclusive(mut self) -> impl Iterator<Item = Option<u64>> {
        let mut open = false;
        std::iter::from_fn(move || {
            if open {
                return None;
            }
            let next = self.next()?;
            open = next.is_none();
            Some(next)
        })
    }
}

impl<I: Iterator<Item = Option<u64>>> TakeWhileInclusive for I {}

fn program() -> Logic {
    let mut root: Option<(Input, Node)> = None;
    Box::new(move |seen, out| {
        let (input, node) = root.get_or_insert_with(|| {
            let input: Input = serde_json::from_str(seen.input.as_ref().unwrap().as_str()).unwrap();
            let node = Node::new(input.rounds.first().unwrap_or(&Op::Seq(Vec::new())));
            (input, node)
        });
        let mut used = Vec::new();
        let Some(value) = node.poll(seen, out, &mut used) else {
            return waits();
        };
        let sum = input.sum + value;
        if input.rounds.len() <= 1 {
            return completes(sum);
        }
        let next = Input {
            sum,
            rounds: input.rounds[1..].to_vec(),
        };
        let unused = seen
            .events
            .iter()
            .map(|(number, _, _)| *number)
            .filter(|number| !used.contains(number))
            .collect();
        let Ending::ContinuedAsNew {
            version,
            carry_over,
            ..
        } = continues(0, unused)
        else {
            unreachable!()
        };
        Ending::ContinuedAsNew {
            input: Some(json(serde_json::to_string(&next).unwrap())),
            version,
            carry_over,
        }
    })
}

pub(super) fn world() -> World {
    let world = World::with("Program", program);
    world.activities.add("FailsFirst", |attempt| {
        let (value, fails): (u64, u32) =
            serde_json::from_str(attempt.input.unwrap().as_str()).unwrap();
        if attempt.attempt <= fails {
            return Err(Failure::retryable("Flaky", ""));
        }
        Ok(Some(json(value)))
    });
    world
}

/// Starts random programs, and returns their expected results.
fn begin(host: &Host<'_>, dice: &mut Dice) -> Vec<u64> {
    let mut values = Vec::new();
    for n in 0..4 {
        let mut events = 0;
        let rounds: Vec<Op> = (0..1 + dice.roll(3))
            .map(|_| Op::random(dice, 4, &mut events))
            .collect();
        values.push(rounds.iter().map(Op::value).sum());
        let input = Input { sum: 0, rounds };
        let id = format!("p{n}");
        host.start_with("Program", &id, serde_json::to_string(&input).unwrap());
        for event in 0..events {
            let (name, data) = (format!("e{event}"), Some(json(10_000 + event)));
            // A program that has ended takes no event.
            host.submit(Request::RaiseEvent {
                id: id.clone(),
                name,
                data,
            })
            .unwrap();
        }
    }
    values
}

fn all_ended(host: &Host<'_>) -> bool {
    (0..4).all(|n| host.row(&format!("p{n}")).unwrap().status.is_end())
}

/// Disturbs the host or an instance.
fn disturb(host: &Host<'_>, dice: &mut Dice) {
    let id = format!("p{}", dice.roll(4));
    match dice.roll(6) {
        0 => drop(host.evict_all()),
        1 => drop(
            host.submit(Request::Suspend {
                id,
                reason: None,
                recursive: false,
            })
            .unwrap(),
        ),
        2 | 3 => {
            for n in 0..4 {
                host.submit(Request::Resume {
                    id: format!("p{n}"),
                    reason: None,
                    module: None,
                    recursive: false,
                })
                .unwrap();
            }
        }
        _ => host.advance(dice.roll(30)),
    }
    for _ in 0..dice.roll(300) {
        std::thread::yield_now();
    }
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = world();
    world.config.resident_max = [0, 1, 2, 1_000][dice.roll(4) as usize];
    let values = begin(&world.open(), &mut dice);
    for life in 0.. {
        // No activity may run whose result is in the hub when it is opened.
        let (recorded, before) = (world.recorded(), world.activities.began().len());
        let host = world.open();
        let disturbances = if life < 6 { dice.roll(12) } else { u64::MAX };
        for _ in 0..disturbances {
            disturb(&host, &mut dice);
            if life >= 6 && all_ended(&host) {
                break;
            }
        }
        if life >= 6 {
            for (n, value) in values.iter().enumerate() {
                assert_eq!(
                    host.end(&format!("p{n}")),
                    value.to_string(),
                    "seed {seed}, p{n}"
                );
            }
            host.check_histories();
        }
        let again = world
            .activities
            .began()
            .into_iter()
            .skip(before)
            .find(|(key, _)| recorded.contains(key));
        assert_eq!(again, None, "seed {seed}: its result was in the hub");
        if life >= 6 {
            return;
        }
        if dice.roll(3) > 0 {
            let image = world.crash_image();
            drop(host);
            world = image;
        }
    }
}

#[test]
fn random_programs_end_as_they_should_whatever_happens() {
    (0..runs((30, 30))).for_each(check);
}
