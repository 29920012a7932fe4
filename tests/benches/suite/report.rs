//! The page: everything that was measured, with its goals, and the charts beside it.

use std::fmt::Write;
use std::path::PathBuf;

use crate::machine;
use crate::section::{Section, Table};

fn dir() -> PathBuf {
    perennial_tests::root().join("tests/bench")
}

/// Writes the page and its charts, and says where.
pub(crate) fn write(sections: &[Section]) {
    let dir = dir();
    std::fs::create_dir_all(&dir).unwrap();
    for chart in sections.iter().flat_map(|section| &section.charts) {
        std::fs::write(dir.join(&chart.file), &chart.svg).unwrap();
    }
    let page = dir.join("report.md");
    std::fs::write(&page, text(sections)).unwrap();
    println!("\nthe report is {}", page.display());
}

fn text(sections: &[Section]) -> String {
    let mut page = String::from(
        "# What it costs, measured\n\n\
         Made by `make bench` (W1 to W6, and PostgreSQL) and `make bench-long` (W7 and W8); run them for the figures of your own machine. Figures are medians of at \
         least five rounds, and what is compared is measured in turn in the same rounds: times on shared machines mean little, ratios and counts \
         more.\n\n\
         Durability: every turn is on disk before anything follows from it or anybody is told (`journal_mode=WAL`, `synchronous=FULL`: each commit is \
         one sync; in PostgreSQL `fsync` and `synchronous_commit` are on). So it is for the limits here, which are programs that do nothing but write. The suite is built as the \
         command line is published: link-time optimisation, and mimalloc as its allocator.\n\n",
    );
    let _ = writeln!(page, "| the machine | |\n| --- | --- |");
    for (what, value) in machine::description() {
        let _ = writeln!(page, "| {what} | {value} |");
    }
    let _ = writeln!(
        page,
        "\n## Goals\n\n| workload | what | goal | measured | |\n| --- | --- | --- | --- | --- |"
    );
    for section in sections {
        for goal in &section.goals {
            let verdict = goal.missed.as_ref().map_or_else(
                || "met".to_owned(),
                |missed| format!("**missed**: {missed}"),
            );
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {verdict} |",
                section.name, goal.what, goal.wanted, goal.measured
            );
        }
    }
    for section in sections {
        let _ = writeln!(
            page,
            "\n## {}: {}\n\n{}",
            section.name, section.title, section.work
        );
        for chart in &section.charts {
            let _ = writeln!(page, "\n![{}]({})", chart.title, chart.file);
        }
        section
            .tables
            .iter()
            .for_each(|table| add(&mut page, table));
        for note in &section.notes {
            let _ = writeln!(page, "\n{note}");
        }
        if section.seconds >= 1.0 {
            let _ = writeln!(page, "\nIt took {}.", section.conditions());
        }
    }
    page
}

fn add(page: &mut String, table: &Table) {
    let _ = writeln!(page, "\n{}\n\n| {} |", table.title, table.head.join(" | "));
    let _ = writeln!(page, "|{}", " --- |".repeat(table.head.len()));
    for row in &table.rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
}
