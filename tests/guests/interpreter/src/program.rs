//! Random programs of the operations that the SDK has, and what each comes to, whatever the order in which things happen.

use serde::{Deserialize, Serialize};

/// Small numbers from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's generator; its upper bits are good enough to choose between a few things.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is caught of a failure.
pub(crate) const CAUGHT: u64 = 1_000;

/// What a saga that was undone comes to.
pub(crate) const UNDONE: u64 = 2_000;

/// The data of the first event; each later one carries one more.
pub(crate) const FIRST_EVENT: u64 = 10_000;

/// A program. Its value is a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// An activity that gives its input.
    Echo(u64),
    /// One that fails so often before it gives its value, and is tried again.
    Flaky(u64, u32),
    /// One that fails more often than it is tried.
    Exhausted(u32),
    /// One that fails for good.
    Broken,
    /// Waits so many milliseconds.
    Timer(u64),
    /// Waits for the event of this number.
    Event(u64),
    /// Waits so many milliseconds for an event that never comes.
    Within(u64),
    /// Gives a call that never ends so many milliseconds.
    Timeout(u64),
    /// Two activities that give the same: whoever wins.
    Tie(u64),
    /// Two timers: the shorter wins.
    Duel(u64, u64),
    /// Against an event that never comes.
    Unrivalled(Box<Self>),
    /// An activity that is started and dropped.
    Dropped,
    /// An activity that is started and goes on by itself.
    Detached,
    /// Shows a number as the custom status, as a named value and as a tag.
    Status(u64),
    /// Hands drawn numbers, the time and an identifier to an activity, and looks whether it gives them back.
    Draws,
    /// The same in an instance of its own.
    Child(Box<Self>),
    /// The same, twice, in an instance whose id each round gives anew.
    Named(u64, Box<Self>),
    /// A child that fails after this.
    FailingChild(Box<Self>),
    /// One after the other.
    Seq(Vec<Self>),
    /// All at once, in order.
    Par(Vec<Self>),
    /// All at once, as they come.
    Unordered(Vec<Self>),
    /// At most so many at once.
    Map(usize, Vec<Self>),
    /// Steps that are undone if it fails in the end.
    Saga(Vec<Self>, bool),
}

impl Op {
    pub(crate) fn random(dice: &mut Dice, depth: u32, events: &mut u64) -> Self {
        let mut few = |dice: &mut Dice| -> Vec<Self> {
            (0..dice.roll(5))
                .map(|_| Self::random(dice, depth - 1, events))
                .collect()
        };
        match dice.roll(if depth == 0 { 14 } else { 25 }) {
            0 | 1 => Self::Echo(dice.roll(100)),
            2 => Self::Flaky(dice.roll(100), dice.roll(4) as u32),
            3 => Self::Exhausted(1 + dice.roll(3) as u32),
            4 => Self::Broken,
            5 => Self::Timer(dice.roll(60)),
            6 => Self::Within(dice.roll(60)),
            7 => Self::Timeout(dice.roll(60)),
            8 => Self::Tie(dice.roll(100)),
            9 => {
                let shorter = dice.roll(30);
                Self::Duel(shorter, shorter + 1 + dice.roll(30))
            }
            10 => Self::Dropped,
            11 => Self::Detached,
            12 => Self::Status(dice.roll(100)),
            13 => Self::Draws,
            // The events are those of the instance: a child gets none.
            14 => Self::Child(Box::new(Self::random(dice, 0, events))),
            15 => Self::FailingChild(Box::new(Self::random(dice, 0, events))),
            16 | 17 => {
                *events += 1;
                Self::Event(*events - 1)
            }
            18 => Self::Unrivalled(Box::new(Self::random(dice, depth - 1, events))),
            19 | 20 => Self::Seq(few(dice)),
            21 => Self::Par(few(dice)),
            22 => Self::Named(0, Box::new(Self::random(dice, 0, events))),
            23 => match dice.roll(2) {
                0 => Self::Unordered(few(dice)),
                _ => Self::Map(1 + dice.roll(3) as usize, few(dice)),
            },
            _ => Self::Saga(few(dice), dice.roll(2) == 0),
        }
    }

    /// What it comes to.
    pub(crate) fn value(&self) -> u64 {
        match self {
            Self::Echo(value) | Self::Flaky(value, _) | Self::Tie(value) => *value,
            Self::Exhausted(_) | Self::Broken | Self::FailingChild(_) => CAUGHT,
            Self::Timer(_) => 1,
            Self::Within(_) => 2,
            Self::Timeout(_) => 3,
            Self::Duel(shorter, _) => *shorter,
            Self::Event(number) => FIRST_EVENT + number,
            Self::Dropped | Self::Detached | Self::Status(_) => 0,
            Self::Draws => 4,
            Self::Child(op) | Self::Named(_, op) | Self::Unrivalled(op) => op.value(),
            Self::Seq(ops) | Self::Par(ops) | Self::Unordered(ops) | Self::Map(_, ops) => {
                ops.iter().map(Self::value).sum()
            }
            Self::Saga(_, true) => UNDONE,
            Self::Saga(ops, false) => ops.iter().map(Self::value).sum(),
        }
    }
}

impl Op {
    /// Gives each named child of a round another name.
    fn name(&mut self, next: &mut u64) {
        match self {
            Self::Named(name, _) => {
                *name = *next;
                *next += 1;
            }
            Self::Unrivalled(op) => op.name(next),
            Self::Seq(ops)
            | Self::Par(ops)
            | Self::Unordered(ops)
            | Self::Map(_, ops)
            | Self::Saga(ops, _) => ops.iter_mut().for_each(|op| op.name(next)),
            _ => {}
        }
    }
}

/// What an execution begins with: it runs the first round, and continues as new for the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) sum: u64,
    pub(crate) rounds: Vec<Op>,
}

impl Input {
    /// A program, what it comes to, and how many events it waits for.
    pub(crate) fn random(dice: &mut Dice, depth: u32) -> (Self, u64, u64) {
        let mut events = 0;
        let mut rounds: Vec<Op> = (0..1 + dice.roll(3))
            .map(|_| Op::random(dice, depth, &mut events))
            .collect();
        rounds.iter_mut().for_each(|round| round.name(&mut 0));
        let value = rounds.iter().map(Op::value).sum();
        (Self { sum: 0, rounds }, value, events)
    }
}
