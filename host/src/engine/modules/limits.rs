//! Limits of a module that differ from those of the host. They belong to the name of the module.

use perennial_core::Limits;
use serde::{Deserialize, Serialize};

/// The range of fuel that a turn may be given.
const FUEL: std::ops::RangeInclusive<u64> = 1_000_000..=1_000_000_000_000_000;

/// The range of memory: from one page of WebAssembly to its whole address space.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 30;

/// With fuel of its own, each event of a turn adds this part (one tenth) of it.
const FUEL_PER_EVENT_PART: u64 = 10;

/// Limits of the executions of one module that begin from now on; what is `None` is as the host gives it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ModuleLimits {
    /// Fuel of a turn, about an instruction each: each event of the turn brings a tenth of it more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Linear memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl ModuleLimits {
    /// Whether no limit is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets the fuel of a turn.
    #[must_use]
    pub fn with_fuel(mut self, fuel: Option<u64>) -> Self {
        self.fuel = fuel;
        self
    }

    /// Sets the maximum linear memory, in bytes.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: Option<u64>) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The limits of an execution on a host whose limits are `limits`.
    pub(crate) fn over(&self, mut limits: Limits) -> Limits {
        if let Some(fuel) = self.fuel {
            limits.fuel_base = fuel;
            limits.fuel_per_event = fuel / FUEL_PER_EVENT_PART;
        }
        if let Some(bytes) = self.memory_bytes {
            limits.memory_bytes = bytes;
        }
        limits
    }

    /// The first problem of the limits, if any.
    pub(crate) fn problem(&self) -> Option<String> {
        let outside = |what, value: Option<u64>, range: &std::ops::RangeInclusive<u64>| {
            let value = value.filter(|value| !range.contains(value))?;
            Some(format!(
                "{what} must be {} to {}, not {value}",
                range.start(),
                range.end()
            ))
        };
        outside("fuel", self.fuel, &FUEL)
            .or_else(|| outside("memory", self.memory_bytes, &MEMORY_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_the_host_gives_it() {
        let host = Limits::default();
        assert_eq!(ModuleLimits::default().over(host), host);
        let fuel = ModuleLimits::default().with_fuel(Some(1_000_000_000));
        let given = fuel.over(host);
        assert_eq!(given.fuel(3, 0), 1_300_000_000);
        assert_eq!(given.memory_bytes, host.memory_bytes);
        let memory = ModuleLimits::default().with_memory_bytes(Some(1 << 20));
        let expected = Limits {
            memory_bytes: 1 << 20,
            ..host
        };
        assert_eq!(memory.over(host), expected);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let with = |fuel, memory| {
            ModuleLimits::default()
                .with_fuel(fuel)
                .with_memory_bytes(memory)
                .problem()
        };
        assert_eq!(with(None, None), None);
        assert_eq!(with(Some(1_000_000), Some(4 << 30)), None);
        assert_eq!(
            with(Some(5), None).as_deref(),
            Some("fuel must be 1000000 to 1000000000000000, not 5")
        );
        assert!(
            with(None, Some(5 << 30))
                .unwrap()
                .starts_with("memory must be")
        );
    }

    #[test]
    fn it_is_stored_as_what_it_says() {
        let limits = ModuleLimits::default().with_fuel(Some(1_000_000));
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(text, r#"{"fuel":1000000}"#);
        assert_eq!(serde_json::from_str::<ModuleLimits>(&text).unwrap(), limits);
        assert!(
            serde_json::from_str::<ModuleLimits>("{}")
                .unwrap()
                .is_empty()
        );
    }
}
