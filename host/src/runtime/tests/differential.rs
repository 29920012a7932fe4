//! The same random programs as components and natively: in each turn, live and in replay, both must ask for the same.

use std::path::Path;
use std::sync::Arc;

use perennial_core::{Answer, Digest, Guest, GuestEvent, Limits, Mode, Stop, Timestamp};

use crate::engine::executor::{Executor, Fault, ResidentGuest};
use crate::engine::tests::programs;
use crate::wasm::{Grants, Wasm, WasmConfig};

/// Creates pairs of guests.
struct Both {
    native: Arc<dyn Executor>,
    wasm: Wasm,
    module: Digest,
}

impl Executor for Both {
    fn instantiate(
        &self,
        module: Digest,
        limits: &Limits,
        instance_id: &str,
        began: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault> {
        Ok(Box::new(Pair {
            native: self
                .native
                .instantiate(module, limits, instance_id, began)?,
            wasm: self
                .wasm
                .instantiate(self.module, limits, instance_id, began)?,
        }))
    }
}

struct Pair {
    native: Box<dyn ResidentGuest>,
    wasm: Box<dyn ResidentGuest>,
}

impl Guest for Pair {
    fn advance(&mut self, events: &[GuestEvent], mode: Mode) -> Result<Answer, Stop> {
        let native = self.native.advance(events, mode);
        let wasm = self.wasm.advance(events, mode);
        if native == wasm {
            return wasm;
        }
        // The host stops the instance, so the test finds that it did not end.
        Err(Stop::Host(format!(
            "natively it is {native:?}, as a component {wasm:?}"
        )))
    }
}

impl ResidentGuest for Pair {
    fn resident_bytes(&self) -> usize {
        self.native.resident_bytes() + self.wasm.resident_bytes()
    }

    fn committed(&mut self) {
        self.wasm.committed();
    }
}

fn both() -> Arc<dyn Executor> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), std::path::PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join(target).join("guests/interpreter.wasm");
    let bytes = std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; `make guests` makes it", file.display()));
    let source = |_| Err(Fault::Module("it is kept".to_owned()));
    let none = Arc::new(|_| Ok(Grants::default()));
    let looked_at = Wasm::new(WasmConfig::default(), Arc::new(source), none.clone())
        .unwrap()
        .inspect(&bytes)
        .unwrap();
    let component = looked_at.component;
    let source = move |_| Ok(component.clone());
    Arc::new(Both {
        native: programs::native(),
        wasm: Wasm::new(WasmConfig::default(), Arc::new(source), none).unwrap(),
        module: looked_at.digest,
    })
}

#[test]
fn random_programs_ask_for_the_same_as_components_and_natively() {
    let seeds = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => 300,
        None => 12,
    };
    let both = both();
    (1_000..1_000 + seeds).for_each(|seed| programs::check_on(seed, Arc::clone(&both)));
}
