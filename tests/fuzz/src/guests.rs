//! Guests written by hand, and the memory of answers.

use wit_component::StringEncoding;
use wit_parser::Resolve;

const ORCHESTRATIONS: &str = "perennial:workflow/orchestrations@0.1.0";
const ACTIVITIES: &str = "perennial:workflow/activities@0.1.0";

/// Bytes of the shortest text that the guest of [`echo`] takes for what it is to answer with. Everything else that it is given is shorter.
pub(crate) const TOLD_BYTES_MIN: usize = 64;

/// Where the guest of [`echo`] puts the memory that it answers with.
const ANSWER: u32 = 0x1_0000;

/// A core module with memory and an allocator, with the contract that it keeps written into it.
fn core_module(exports: &[&str], body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 16)
            (global $next (mut i32) (i32.const 0x40000))
            (global $told (mut i32) (i32.const 0))
            (global $length (mut i32) (i32.const 0))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (if (i32.and
                        (i32.eq (local.get 2) (i32.const 1))
                        (i32.ge_u (local.get 3) (i32.const {TOLD_BYTES_MIN})))
                    (then
                        (global.set $told (local.get $at))
                        (global.set $length (local.get 3))))
                (local.get $at))
            (data (i32.const 16) "\40\00\00\00\01\00\00\00")
            (data (i32.const 64) "\00\08\00\00\01\00\00\00")
            (data (i32.const 2048) "F")
            {body})"#
    );
    let mut module = wat::parse_str(text).expect("the guest is a module");
    let mut resolve = Resolve::default();
    resolve
        .push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/0.1"))
        .expect("the contract is where it was");
    let items: String = exports
        .iter()
        .map(|export| format!("export {export}; "))
        .collect();
    let package = resolve
        .push_str(
            "fuzz.wit",
            &format!("package fuzz:guest; world guest {{ {items} }}"),
        )
        .expect("the world is one");
    let world = resolve
        .select_world(&[package], Some("guest"))
        .expect("the world is there");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the module has room");
    module
}

fn orchestration(advance: &str) -> String {
    format!(
        r#"(func (export "{ORCHESTRATIONS}#definitions") (result i32) (i32.const 16))
        (func (export "{ORCHESTRATIONS}#advance") (param i32 i32) (result i32) {advance})"#
    )
}

/// A guest that writes the hexadecimal digits it is told last into memory as bytes, and answers with those.
pub(crate) fn echo() -> Vec<u8> {
    let body = format!(
        r#"(func $digit (param $c i32) (result i32)
            (select
                (i32.sub (local.get $c) (i32.const 48))
                (i32.sub (local.get $c) (i32.const 87))
                (i32.lt_u (local.get $c) (i32.const 58))))
        {}"#,
        orchestration(&format!(
            r#"(local $from i32) (local $to i32) (local $end i32)
            (memory.fill (i32.const {ANSWER}) (i32.const 0) (i32.const 0x20000))
            (local.set $from (i32.add (global.get $told) (i32.const 1)))
            (local.set $end (i32.sub (i32.add (global.get $told) (global.get $length)) (i32.const 2)))
            (local.set $to (i32.const {ANSWER}))
            (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
                (i32.store8 (local.get $to)
                    (i32.or
                        (i32.shl (call $digit (i32.load8_u (local.get $from))) (i32.const 4))
                        (call $digit (i32.load8_u offset=1 (local.get $from)))))
                (local.set $from (i32.add (local.get $from) (i32.const 2)))
                (local.set $to (i32.add (local.get $to) (i32.const 1)))
                (br $next)))
            (global.set $next (i32.const 0x40000))
            (i32.const {ANSWER})"#
        ))
    );
    core_module(&[ORCHESTRATIONS], &body)
}

/// Modules to begin with: small ones of each kind, which differ in what their code does.
#[must_use]
pub fn modules() -> Vec<Vec<u8>> {
    let activity = format!(
        r#"(func (export "{ACTIVITIES}#definitions") (result i32) (i32.const 16))
        (func (export "{ACTIVITIES}#run") (param i32) (result i32) (i32.const 1200))"#
    );
    let both = format!("{} {activity}", orchestration("(i32.const 1024)"));
    vec![
        core_module(&[ORCHESTRATIONS], &orchestration("(i32.const 1024)")),
        core_module(
            &[ORCHESTRATIONS],
            &orchestration("(loop $l (br $l)) (unreachable)"),
        ),
        core_module(
            &[ORCHESTRATIONS],
            &orchestration("(drop (memory.grow (i32.const 999))) (unreachable)"),
        ),
        core_module(&[ORCHESTRATIONS], &orchestration("(i32.const -8)")),
        core_module(&[ACTIVITIES], &activity),
        core_module(&[ORCHESTRATIONS, ACTIVITIES], &both),
        echo(),
        b"\0asm\x0d\0\x01\0".to_vec(),
    ]
}

/// Memory of answers to begin with: one action of each kind with one end of each kind, then an answer that waits.
#[must_use]
pub fn answers() -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for kind in 0..7_u8 {
        for end in 0..4_u8 {
            let mut memory = vec![0; 256];
            memory[..4].copy_from_slice(&(ANSWER + 128).to_le_bytes());
            memory[4] = 1;
            memory[8] = end;
            memory[128] = kind;
            let mut answer = Vec::new();
            for turn in [&memory[..], &[0; 16]] {
                let length = u16::try_from(turn.len()).expect("an answer is short");
                answer.extend(length.to_le_bytes());
                answer.extend(turn);
            }
            answers.push(answer);
        }
    }
    answers
}
