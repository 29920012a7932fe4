//! Bounds the cost of compiling a module, before a compiler sees it.
//!
//! A compiler's time and memory grow with the number of functions, and more than linearly with the size of one: at each instruction with
//! the live values (locals and operands), and with the square of those for each enclosing loop. The bounds are far above real programs: of
//! those measured (Ruby, swc, esbuild, SQLite as WebAssembly) none has a function of more than 200 KB, more than 18,151 functions, 534
//! locals or 12 nested loops, and the hardest, swc with 18 MB, takes an eighth of [`WORK_MAX`].

use wasmparser::{
    BinaryReaderError, FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator, Parser,
    Payload, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::module_error::ModuleError;

/// Bytes of one function body.
pub const FUNCTION_BYTES_MAX: usize = 1 << 20;

/// Functions of a module, including all its parts.
pub const FUNCTIONS_MAX: usize = 100_000;

/// The maximum work for all functions of a module: see [`work_of`]. The hardest code that was found takes a minute of a processor at this
/// bound.
const WORK_MAX: u64 = 3_000_000_000;

/// The maximum nesting of components.
const DEPTH_MAX: usize = 8;

/// Core modules and components inside a component, together.
const PARTS_MAX: usize = 1_000;

/// Checks that a component or core module is valid in some version of WebAssembly, and within the bounds.
pub(super) fn check(bytes: &[u8]) -> Result<(), ModuleError> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut allocations = FuncValidatorAllocations::default();
    let (mut depth, mut parts, mut functions, mut number, mut work) = (0, 0, 0_usize, 0, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| corrupt(&error))?;
        match &payload {
            Payload::Version { .. } => {
                parts += 1;
                depth += 1;
                if depth > DEPTH_MAX + 1 || parts > PARTS_MAX {
                    return Err(ModuleError::TooComplex(format!(
                        "its parts are nested deeper than {DEPTH_MAX} or more than {PARTS_MAX}"
                    )));
                }
            }
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionStart { count, .. } => {
                functions += *count as usize;
                number = 0;
                if functions > FUNCTIONS_MAX {
                    return Err(ModuleError::TooComplex(format!(
                        "it has more than {FUNCTIONS_MAX} functions"
                    )));
                }
            }
            Payload::CodeSectionEntry(body) => {
                let length = body.range().len();
                if length > FUNCTION_BYTES_MAX {
                    return Err(ModuleError::TooComplex(format!(
                        "its function {number} has {length} bytes; {FUNCTION_BYTES_MAX} are allowed"
                    )));
                }
            }
            _ => {}
        }
        let valid = validator
            .payload(&payload)
            .map_err(|error| corrupt(&error))?;
        if let ValidPayload::Func(function, body) = valid {
            let one =
                work_of(function, &body, &mut allocations).map_err(|error| corrupt(&error))?;
            work = work.saturating_add(one);
            if work > WORK_MAX {
                return Err(ModuleError::TooComplex(format!(
                    "with its function {number} there is too much alive at once in too many places: split it into smaller ones"
                )));
            }
            number += 1;
        }
    }
    Ok(())
}

/// Proposals that a module may use but this host may not support: their common names, and how to build without them.
const PROPOSALS: [(WasmFeatures, &str, &str); 7] = [
    (
        WasmFeatures::CM_ASYNC
            .union(WasmFeatures::CM_ASYNC_STACKFUL)
            .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
            .union(WasmFeatures::CM_THREADING)
            .union(WasmFeatures::CM_ERROR_CONTEXT),
        "component-model async",
        "build it for WASI 0.2, with functions that are not async",
    ),
    (
        WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
        "threads",
        "build it without threads and shared memory",
    ),
    (
        WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        "exceptions",
        "build it without them",
    ),
    (
        WasmFeatures::GC.union(WasmFeatures::CM_GC),
        "garbage collection",
        "build it for linear memory",
    ),
    (
        WasmFeatures::MEMORY64.union(WasmFeatures::CM64),
        "64-bit memory",
        "build it for wasm32",
    ),
    (
        WasmFeatures::STACK_SWITCHING,
        "stack switching",
        "build it without",
    ),
    (
        WasmFeatures::all().difference(WasmFeatures::WASM3),
        "a WebAssembly proposal that is not finished",
        "build it for WebAssembly 3.0 or older",
    ),
];

/// The error for valid bytes that do not compile: an unsupported proposal, or else the compiler's message.
pub(super) fn refusal(bytes: &[u8], said: String) -> ModuleError {
    let uses = |features: WasmFeatures| {
        let without = WasmFeatures::all().difference(features);
        Validator::new_with_features(without)
            .validate_all(bytes)
            .is_err()
    };
    let has_nothing_wrong = !uses(WasmFeatures::empty());
    PROPOSALS
        .into_iter()
        .find(|(features, ..)| has_nothing_wrong && uses(*features))
        .map_or(ModuleError::Corrupt(said), |(_, proposal, advice)| {
            ModuleError::Unsupported { proposal, advice }
        })
}

fn corrupt(error: &BinaryReaderError) -> ModuleError {
    ModuleError::Corrupt(format!("{error:#}"))
}

/// The estimated work to compile a function: for each instruction the values that may be live there, more if it takes many operands, times
/// the square of that for each enclosing loop.
fn work_of(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: &mut FuncValidatorAllocations,
) -> Result<u64, BinaryReaderError> {
    let mut validator = function.into_validator(std::mem::take(allocations));
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    reader.set_features(*validator.features());
    let (mut steps, mut most, mut loops, mut nested) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut frames = Vec::new();
    let mut operators = wasmparser::OperatorsReader::new(reader);
    while !operators.eof() {
        let (operator, at) = operators.read_with_offset()?;
        let before = u64::from(validator.operand_stack_height());
        validator.op(at, &operator)?;
        let after = u64::from(validator.operand_stack_height());
        most = most.max(after);
        steps += 1 + after.saturating_sub(before);
        match operator {
            Operator::Loop { .. } => {
                frames.push(true);
                loops += 1;
                nested = nested.max(loops);
                steps += before;
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                frames.push(false);
                steps += before;
            }
            Operator::End => loops -= u64::from(frames.pop() == Some(true)),
            // Each label has operands of its own.
            Operator::BrTable { targets } => steps += before * (1 + u64::from(targets.len())),
            Operator::Else
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::Return => steps += before,
            _ => {}
        }
    }
    operators.finish()?;
    let alive = u64::from(validator.len_locals()) + most;
    *allocations = validator.into_allocations();
    Ok(steps
        .saturating_mul(alive)
        .saturating_add(nested.saturating_mul(alive.saturating_mul(alive))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leb(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = (n & 0x7f) as u8;
            n >>= 7;
            bytes.push(if n == 0 { byte } else { byte | 0x80 });
            if n == 0 {
                return bytes;
            }
        }
    }

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        [&[id], leb(body.len()).as_slice(), body].concat()
    }

    fn component(parts: &[u8]) -> Vec<u8> {
        [b"\0asm\x0d\0\x01\0".as_slice(), parts].concat()
    }

    fn module(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[track_caller]
    fn refused(bytes: &[u8], words: &str) {
        let said = check(bytes).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_huge_function_is_refused_before_it_is_compiled() {
        let nops = "(nop)".repeat(FUNCTION_BYTES_MAX);
        let huge = module(&format!("(module (func {nops}))"));
        refused(&huge, "function 0 has 1048578 bytes; 1048576 are allowed");
        let inside = component(&section(1, &huge));
        refused(&inside, "function 0 has 1048578 bytes");
        refused(&component(&section(4, &inside)), "function 0");
    }

    #[test]
    fn too_many_functions_are_refused_wherever_they_are() {
        let some = module(&format!("(module {})", "(func)".repeat(60_000)));
        assert_eq!(check(&some), Ok(()));
        let twice = section(1, &some).repeat(2);
        refused(&component(&twice), "more than 100000 functions");
        // A count without items after it costs nothing.
        let claims = |id| section(id, &leb(u32::MAX as usize));
        refused(
            &[b"\0asm\x01\0\0\0".as_slice(), &claims(3)].concat(),
            "damaged",
        );
        refused(
            &[b"\0asm\x01\0\0\0".as_slice(), &claims(10)].concat(),
            "damaged",
        );
    }

    #[test]
    fn a_proposal_that_a_host_does_not_have_is_named() {
        let named = |text: &str| {
            let bytes = wat::parse_str(text).unwrap();
            refusal(&bytes, "?".to_owned()).to_string()
        };
        assert_eq!(
            named("(component (core func (canon backpressure.inc)))"),
            "the module uses component-model async, which this host does not have: build it for WASI 0.2, with functions that are not async"
        );
        for (text, proposal) in [
            (
                r#"(component (import "f" (func async)))"#,
                "component-model async",
            ),
            ("(component (type (stream u8)))", "component-model async"),
            ("(module (memory 1 1 shared))", "threads"),
            ("(module (tag))", "exceptions"),
            ("(module (type (struct)))", "garbage collection"),
            ("(module (memory i64 1))", "64-bit memory"),
            ("(module (type (cont 0)))", "damaged"),
            ("(module (memory 1 (pagesize 1)))", "not finished"),
            ("(module)", "damaged or truncated WebAssembly: ?"),
        ] {
            let said = named(text);
            assert!(said.contains(proposal), "{text}: {said}");
        }
    }

    #[test]
    fn nests_and_crowds_are_refused() {
        let mut nest = component(&[]);
        for _ in 0..=DEPTH_MAX {
            nest = component(&section(4, &nest));
        }
        refused(&nest, "nested deeper than 8");
        let crowd = section(1, b"\0asm\x01\0\0\0").repeat(PARTS_MAX);
        refused(&component(&crowd), "more than 1000");
    }

    #[test]
    fn code_that_is_small_and_hard_is_refused_by_what_makes_it_hard() {
        let hard = |body: &str| {
            module(&format!(
                "(module (type $many (func (result {}))) (func $many (type $many) unreachable) (func {body}))",
                "i32 ".repeat(1_000)
            ))
        };
        let words = "with its function 1 there is too much alive at once";
        let locals = |n: usize| format!("(local {})", "i32 ".repeat(n));
        let loops = |n: usize| format!("{}{}", "(loop ".repeat(n), ")".repeat(n));
        // A few loops with many locals, or many loops with fewer.
        refused(&hard(&format!("{} {}", locals(40_000), loops(2))), words);
        refused(&hard(&format!("{} {}", locals(2_000), loops(800))), words);
        assert_eq!(
            check(&hard(&format!("{} {}", locals(2_000), loops(20)))),
            Ok(())
        );
        // Consecutive loops are cheap.
        let row = "(loop)".repeat(1_000);
        assert_eq!(check(&hard(&format!("{} {row}", locals(2_000)))), Ok(()));
        // Calls of two bytes that leave a thousand operands each.
        refused(
            &hard(&format!("{} return", "(call $many)".repeat(1_000))),
            words,
        );
        // Tables of labels that take a thousand operands each.
        let labels = "0 ".repeat(5_000);
        let table =
            format!("(block (type $many) (br_table {labels} (call $many) (i32.const 1))) return");
        refused(&hard(&table), words);
        // Many instructions with many locals.
        let sets = "(local.set 1 (local.get 2))".repeat(200_000);
        refused(&hard(&format!("{} {sets}", locals(6_000))), words);
        assert_eq!(check(&hard(&format!("{} {sets}", locals(500)))), Ok(()));
    }
}
