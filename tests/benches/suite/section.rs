//! What a workload has to say: figures against goals, tables, charts.

use serde::{Deserialize, Serialize};

/// One workload of the report.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) title: String,
    /// What exactly is done, for a reader who wants to do it again.
    pub(crate) work: String,
    pub(crate) goals: Vec<Goal>,
    pub(crate) tables: Vec<Table>,
    pub(crate) charts: Vec<Chart>,
    /// What a figure does not say by itself.
    pub(crate) notes: Vec<String>,
    pub(crate) seconds: f64,
    /// How much of the machine's processor time other programs had meanwhile, from 0 to 1: from a tenth on, times say little.
    #[serde(default)]
    pub(crate) others: Option<f64>,
}

/// What is wanted, and what is.
#[derive(Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) measured: String,
    /// By how much it was missed; `None` where it was met.
    pub(crate) missed: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// An SVG file beside the report.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chart {
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) svg: String,
}

impl Section {
    pub(crate) fn new(name: &str, title: &str, work: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            work: work.to_owned(),
            ..Self::default()
        }
    }

    /// A figure that should be at least `wanted`.
    pub(crate) fn at_least(&mut self, what: &str, wanted: f64, unit: &str, measured: f64) {
        let missed = (measured < wanted).then(|| format!("{:.2} of it", measured / wanted));
        self.goal(
            what,
            format!("≥ {}", number(wanted)),
            unit,
            measured,
            missed,
        );
    }

    /// A figure that should be at most `wanted`.
    pub(crate) fn at_most(&mut self, what: &str, wanted: f64, unit: &str, measured: f64) {
        let missed = (measured > wanted).then(|| format!("{:.2} times it", measured / wanted));
        self.goal(
            what,
            format!("≤ {}", number(wanted)),
            unit,
            measured,
            missed,
        );
    }

    fn goal(
        &mut self,
        what: &str,
        wanted: String,
        unit: &str,
        measured: f64,
        missed: Option<String>,
    ) {
        self.goals.push(Goal {
            what: what.to_owned(),
            wanted: format!("{wanted} {unit}").trim_end().to_owned(),
            measured: format!("{} {unit}", number(measured)).trim_end().to_owned(),
            missed,
        });
    }

    pub(crate) fn table<const N: usize>(
        &mut self,
        title: &str,
        head: [&str; N],
        rows: Vec<[String; N]>,
    ) {
        self.tables.push(Table {
            title: title.to_owned(),
            head: head.map(str::to_owned).to_vec(),
            rows: rows.into_iter().map(Vec::from).collect(),
        });
    }

    pub(crate) fn chart(&mut self, file: &str, title: &str, svg: String) {
        self.charts.push(Chart {
            file: file.to_owned(),
            title: title.to_owned(),
            svg,
        });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// How long it took, and what else the machine did.
    pub(crate) fn conditions(&self) -> String {
        let others = self.others.map_or_else(String::new, |others| {
            let percent = number((others * 100.0).round());
            format!("; other programs had {percent} % of the machine's processor time")
        });
        format!("{:.0} s{others}", self.seconds)
    }

    /// On the terminal, as soon as it is measured.
    pub(crate) fn print(&self) {
        println!("\n{} {} ({})", self.name, self.title, self.conditions());
        for goal in &self.goals {
            let verdict = match &goal.missed {
                None => "met".to_owned(),
                Some(missed) => format!("MISSED: {missed}"),
            };
            println!(
                "  {}: {} (goal {}), {verdict}",
                goal.what, goal.measured, goal.wanted
            );
        }
        for table in &self.tables {
            println!("  {}", table.title);
            for row in std::iter::once(&table.head).chain(&table.rows) {
                println!("    {}", row.join(" | "));
            }
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }
}

/// With as many digits as mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => thousands(value.round()),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => trimmed(format!("{value:.1}")),
        v if v >= 0.1 || v == 0.0 => trimmed(format!("{value:.2}")),
        _ => trimmed(format!("{value:.4}")),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && digit.is_ascii_digit() && (digits.len() - i).is_multiple_of(3) && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
