//! What compiling a module may cost: a look at its sections before a compiler sees them.
//!
//! A compiler's time and memory grow faster than the function that it compiles, and in proportion to how many there are. So both are
//! bounded here, by numbers that no program written by people comes near.

use super::inspect::ModuleError;
use super::module::leb128;

/// Bytes of the body of one function.
pub const FUNCTION_BYTES_MAX: usize = 1 << 20;

/// Functions of a module, in all its parts.
pub const FUNCTIONS_MAX: usize = 100_000;

/// How deep components may be nested.
const DEPTH_MAX: usize = 8;

/// Core modules and components inside of a component, together.
const PARTS_MAX: usize = 1_000;

/// Bytes of the magic number and the version.
const HEAD: usize = 8;

/// Counted over all parts.
#[derive(Default)]
struct Sums {
    parts: usize,
    functions: usize,
}

/// Checks a component, or a core module, whose first bytes say what it is.
pub(super) fn check(bytes: &[u8]) -> Result<(), ModuleError> {
    part(bytes, 0, &mut Sums::default())
}

fn part(bytes: &[u8], depth: usize, sums: &mut Sums) -> Result<(), ModuleError> {
    sums.parts += 1;
    if depth > DEPTH_MAX || sums.parts > PARTS_MAX {
        return Err(ModuleError::TooComplex(format!(
            "its parts are nested deeper than {DEPTH_MAX} or more than {PARTS_MAX}"
        )));
    }
    let is_core = bytes.get(4..HEAD) == Some(&[1, 0, 0, 0]);
    let mut sections = bytes.get(HEAD..).unwrap_or_default();
    while let Some((id, rest)) = sections.split_first() {
        let broken = || ModuleError::Corrupt("its sections do not add up".to_owned());
        let (length, rest) = leb128(rest).ok_or_else(broken)?;
        let (body, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        match (is_core, id) {
            (true, 10) => code(body, sums)?,
            (false, 1 | 4) => part(body, depth + 1, sums)?,
            _ => {}
        }
        sections = rest;
    }
    Ok(())
}

/// The code section of a core module.
fn code(body: &[u8], sums: &mut Sums) -> Result<(), ModuleError> {
    let broken = || ModuleError::Corrupt("its code section does not add up".to_owned());
    let (count, mut rest) = leb128(body).ok_or_else(broken)?;
    sums.functions = sums.functions.saturating_add(count);
    if sums.functions > FUNCTIONS_MAX {
        return Err(ModuleError::TooComplex(format!(
            "it has more than {FUNCTIONS_MAX} functions"
        )));
    }
    for number in 0..count {
        let (length, after) = leb128(rest).ok_or_else(broken)?;
        if length > FUNCTION_BYTES_MAX {
            return Err(ModuleError::TooComplex(format!(
                "its function {number} has {length} bytes; {FUNCTION_BYTES_MAX} are allowed"
            )));
        }
        rest = after.get(length..).ok_or_else(broken)?;
    }
    Ok(())
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

    fn core(code: &[u8]) -> Vec<u8> {
        [b"\0asm\x01\0\0\0".as_slice(), &section(10, code)].concat()
    }

    fn component(parts: &[u8]) -> Vec<u8> {
        [b"\0asm\x0d\0\x01\0".as_slice(), parts].concat()
    }

    fn refused(bytes: &[u8], words: &str) {
        let said = check(bytes).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_huge_function_is_refused_before_it_is_compiled() {
        let length = FUNCTION_BYTES_MAX + 1;
        let code = [leb(1), leb(length), vec![1; length]].concat();
        refused(&core(&code), "function 0 has 1048577 bytes");
        let inside = component(&section(1, &core(&code)));
        refused(&inside, "function 0 has 1048577 bytes");
        refused(&component(&section(4, &inside)), "function 0");
    }

    #[test]
    fn too_many_functions_are_refused_wherever_they_are() {
        let some = [leb(60_000), [2, 0, 11].repeat(60_000)].concat();
        assert!(check(&core(&some)).is_ok());
        let twice = section(1, &core(&some)).repeat(2);
        refused(&component(&twice), "more than 100000 functions");
        // A count that nothing follows costs nothing.
        refused(&core(&leb(u32::MAX as usize)), "more than 100000 functions");
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
}
