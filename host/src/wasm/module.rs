//! Turns the bytes of a file into a component.

use std::panic::catch_unwind;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use super::bounds;
use super::module_error::ModuleError;

/// Larger files are refused at once: compiling takes time and memory in proportion.
pub const MODULE_BYTES_MAX: usize = crate::limits::COMPONENT_BYTES;

/// Bytes of a file that an error message shows.
const SHOWN_BYTES_MAX: usize = 16;

/// The section of a core module that describes its component.
const COMPONENT_TYPE_SECTION: &str = "component-type";

/// The kind of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A component.
    Component,
    /// A core module, which may be encoded as a component.
    Core,
}

/// Determines the kind of a file.
///
/// # Errors
/// [`ModuleError`] if the file is not WebAssembly, or too large.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, ModuleError> {
    if bytes.len() > MODULE_BYTES_MAX {
        return Err(ModuleError::TooLarge { bytes: bytes.len() });
    }
    match bytes {
        [b'\0', b'a', b's', b'm', rest @ ..] => match rest {
            [1, 0, 0, 0, ..] => Ok(Kind::Core),
            [0x0d, 0, 1, 0, ..] => Ok(Kind::Component),
            [a, b, c, d, ..] => Err(ModuleError::UnknownWasm([*a, *b, *c, *d])),
            _ => Err(ModuleError::Corrupt(
                "it ends after its first bytes".to_owned(),
            )),
        },
        _ => Err(ModuleError::NotWasm(describe(bytes))),
    }
}

/// Checks that a component or core module is valid, and within the bounds of compilation.
pub(super) fn check(bytes: &[u8]) -> Result<(), ModuleError> {
    bounds::check(bytes)
}

/// Encodes a core module as a component. The module must be [checked](check) first.
pub(super) fn encode(module: &[u8]) -> Result<Vec<u8>, ModuleError> {
    check(module)?;
    if !has_component_type(module) {
        return Err(ModuleError::NoComponentType);
    }
    // The encoder trusts the type section, and panics if that is inconsistent.
    let encoded = catch_unwind(|| {
        ComponentEncoder::default()
            .module(module)
            .and_then(|encoder| {
                encoder.adapter(
                    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
                )
            })
            .and_then(|mut encoder| encoder.encode())
    });
    let said = match encoded {
        Ok(Ok(component)) => return Ok(component),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "what it says of its types contradicts itself".to_owned(),
    };
    Err(ModuleError::NotEncodable(said))
}

/// Whether a custom section describes the component.
fn has_component_type(module: &[u8]) -> bool {
    Parser::new(0)
        .parse_all(module)
        .any(|payload| matches!(payload, Ok(Payload::CustomSection(custom)) if custom.name().starts_with(COMPONENT_TYPE_SECTION)))
}

/// Describes a file that is not WebAssembly, for error messages.
fn describe(bytes: &[u8]) -> String {
    let known = match bytes {
        [] => Some("it is empty"),
        [0x7f, b'E', b'L', b'F', ..] => {
            Some("it looks like an ELF binary; build it for a wasm32 target")
        }
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            Some("it looks like a Mach-O binary; build it for a wasm32 target")
        }
        [b'M', b'Z', ..] => Some("it looks like a Windows binary; build it for a wasm32 target"),
        [b'P', b'K', 3, 4, ..] => Some("it looks like a zip archive"),
        [0x1f, 0x8b, ..] => Some("it looks like a gzip archive"),
        _ => None,
    };
    if let Some(known) = known {
        return known.to_owned();
    }
    let start = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    if !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace()) {
        let hint = if text.trim_start().starts_with('(') {
            "; a WAT text has to be assembled first"
        } else {
            ""
        };
        return format!("it looks like a text that begins with {text:?}{hint}");
    }
    let hex: Vec<_> = start.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("its first bytes are {}", hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
        match kind(bytes)? {
            Kind::Component => Ok(bytes.to_vec()),
            Kind::Core => encode(bytes),
        }
    }

    #[track_caller]
    fn refused(bytes: &[u8], message: &str) {
        assert_eq!(component(bytes).unwrap_err().to_string(), message);
    }

    #[test]
    fn what_is_not_wasm_is_described() {
        refused(b"", "not a WebAssembly file: it is empty");
        refused(
            b"\x7fELF\x02\x01\x01",
            "not a WebAssembly file: it looks like an ELF binary; build it for a wasm32 target",
        );
        refused(
            b"# Read me\n",
            "not a WebAssembly file: it looks like a text that begins with \"# Read me\\n\"",
        );
        refused(
            "naïve äöüäöüäöü".as_bytes(),
            "not a WebAssembly file: it looks like a text that begins with \"naïve äöüä\"",
        );
        refused(
            b"(component)",
            "not a WebAssembly file: it looks like a text that begins with \"(component)\"; a WAT text has to be assembled first",
        );
        refused(
            b"\x01\x02\x03",
            "not a WebAssembly file: its first bytes are 01 02 03",
        );
    }

    #[test]
    fn wasm_of_another_kind_is_refused() {
        refused(
            b"\0asm\x07\0\0\0",
            "unknown WebAssembly format (07 00 00 00): neither a component nor a core module of version 1",
        );
        refused(
            b"\0asm",
            "damaged or truncated WebAssembly: it ends after its first bytes",
        );
    }

    #[test]
    fn a_core_module_without_a_component_type_is_refused() {
        let message = "a core module without a component type: build it with the guest SDK or another wit-bindgen for the worlds of \
            perennial:workflow, and keep its custom sections when stripping it";
        refused(&wat::parse_str("(module)").unwrap(), message);
        refused(
            &wat::parse_str("(module (@custom \"name\" \"\"))").unwrap(),
            message,
        );
    }

    #[test]
    fn a_truncated_core_module_is_refused() {
        let module =
            wat::parse_str("(module (memory 1) (@custom \"component-type:x\" \"0123456789\"))")
                .unwrap();
        refused(
            &module[..module.len() - 5],
            "damaged or truncated WebAssembly: unexpected end-of-file (at offset 0xf)",
        );
        assert!(matches!(
            component(&module),
            Err(ModuleError::NotEncodable(_))
        ));
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        refused(
            &vec![0; MODULE_BYTES_MAX + 1],
            "a module of 67108865 bytes: the limit is 67108864 bytes",
        );
    }
}
