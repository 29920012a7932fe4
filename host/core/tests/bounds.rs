//! The document lists the limits that the code has.

use perennial_core::bounds::table;

#[test]
fn security_md_lists_exactly_these() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../SECURITY.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once("<!-- limits -->\n")
        .expect("no table of limits");
    let (listed, after) = rest
        .split_once("<!-- end of limits -->")
        .expect("no end of the table");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let text = format!(
            "{before}<!-- limits -->\n{}<!-- end of limits -->{after}",
            table()
        );
        return std::fs::write(path, text).unwrap();
    }
    assert_eq!(
        listed,
        table(),
        "the table of limits in SECURITY.md is not that of core/src/bounds.rs: UPDATE_EXPECT=1 writes it"
    );
}
