//! What came of a run: a row for each fault, as text, as JSON and as the table of README.md.

use crate::books::{Spread, Verdict};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Where README.md has the table.
const MARKS: (&str, &str) = ("<!-- faults: begin -->\n", "<!-- faults: end -->\n");

/// Something measured, and what it must not exceed.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what: `ms`, `s`, or nothing for a count.
    pub unit: &'static str,
    /// At most so much; without it, it is only shown.
    pub at_most: Option<f64>,
    /// At least so much.
    pub at_least: Option<f64>,
}

impl Figure {
    /// A count that is only shown.
    pub fn count(what: &str, value: f64) -> Self {
        Self { what: what.to_owned(), value, unit: "", at_most: None, at_least: None }
    }
    /// Milliseconds.
    pub fn ms(what: &str, time: Duration) -> Self {
        Self { unit: "ms", ..Self::count(what, time.as_secs_f64() * 1000.0) }
    }
    /// Seconds.
    pub fn s(what: &str, time: Duration) -> Self {
        Self { unit: "s", ..Self::count(what, time.as_secs_f64()) }
    }
    /// It must not be more.
    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Self {
        self.at_most = Some(limit);
        self
    }
    /// It must not be less.
    #[must_use]
    pub fn at_least(mut self, limit: f64) -> Self {
        self.at_least = Some(limit);
        self
    }
    /// Whether it is as it must be.
    pub fn holds(&self) -> bool {
        self.at_most.is_none_or(|limit| self.value <= limit)
            && self.at_least.is_none_or(|limit| self.value >= limit)
    }
    fn text(&self) -> String {
        let of = |value: f64| {
            let digits = usize::from(value.fract() != 0.0 && value < 100.0);
            format!("{value:.digits$}{}{}", if self.unit.is_empty() { "" } else { " " }, self.unit)
        };
        let limit = match (self.at_most, self.at_least) {
            (Some(most), _) => format!(" (≤ {})", of(most)),
            (None, Some(least)) => format!(" (≥ {})", of(least)),
            (None, None) => String::new(),
        };
        format!("{} {}{limit}", self.what, of(self.value))
    }
}

/// What came of one fault.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The fault.
    pub fault: String,
    /// On what: `PostgreSQL + Redis` or `embedded`.
    pub store: &'static str,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What came of everything that was acked.
    pub verdict: Verdict,
    /// Why it could not be judged.
    pub failed: Option<String>,
}

impl Row {
    /// Nothing yet.
    pub fn new(fault: &str, store: &'static str) -> Self {
        Self {
            fault: fault.to_owned(),
            store,
            figures: Vec::new(),
            verdict: Verdict::default(),
            failed: None,
        }
    }
    /// One more figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
    /// From the frame of each SOS to its contact's alert, with the limits of its middle and of one in a hundred.
    pub fn add_told(&mut self, told: &Spread, p50: Option<f64>, p99: Option<f64>) {
        let with = |figure: Figure, limit: Option<f64>| match limit {
            Some(limit) => figure.at_most(limit),
            None => figure,
        };
        self.add(Figure::count("SOS", told.count() as f64));
        self.add(with(Figure::ms("p50", told.at(0.5)), p50));
        self.add(with(Figure::ms("p99", told.at(0.99)), p99));
        self.add(Figure::ms("max", told.max()));
    }
    /// Whether everything is as it must be.
    pub fn holds(&self) -> bool {
        self.failed.is_none() && self.verdict.is_clean() && self.figures.iter().all(Figure::holds)
    }
    fn measured(&self) -> String {
        let figures: Vec<String> = self.figures.iter().map(Figure::text).collect();
        self.failed.clone().unwrap_or_else(|| figures.join("; "))
    }
    fn acked(&self) -> String {
        let Verdict { stable, lost, doubled, forbidden } = self.verdict;
        format!("{stable} / {lost} / {doubled} / {forbidden}")
    }
}

/// One line for whoever watches.
pub fn line(row: &Row) -> String {
    let mark = if row.holds() { "ok  " } else { "BAD " };
    format!("{mark} {} [{}]: {}; acked: {}", row.fault, row.store, row.measured(), row.acked())
}

/// As README.md has it.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = "| fault | on | measured (must be) | acked: stable / lost / doubled / forbidden | |\n|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let holds = if row.holds() { "holds" } else { "**does not hold**" };
        // Text cannot fail to be written.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {holds} |",
            row.fault,
            row.store,
            row.measured().replace('|', "/").replace('\n', " "),
            row.acked(),
        );
    }
    text
}

/// Writes the table into a file that has a place for it.
///
/// # Errors
/// When it has none, or cannot be written.
pub fn write_into(file: &Path, rows: &[Row], under: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let (begin, end) = MARKS;
    let parts = text.split_once(begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let (head, tail) = parts.with_context(|| format!("{} has no place for the table", file.display()))?;
    ensure!(!rows.is_empty(), "there is nothing to write");
    let table = markdown(rows);
    std::fs::write(file, format!("{head}{begin}{table}\n{under}\n{end}{tail}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_when_all_of_it_does() {
        let mut row = Row::new("none", "embedded");
        row.add(Figure::ms("p50", Duration::from_millis(4)).at_most(10.0));
        row.add(Figure::count("pushed back", 3.0).at_least(1.0));
        assert!(row.holds());
        assert!(line(&row).starts_with("ok   none [embedded]: p50 4 ms (≤ 10 ms); pushed back 3 (≥ 1)"));
        row.verdict.lost = 1;
        assert!(!row.holds());
    }

    #[test]
    fn the_table_takes_the_place_of_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("README.md");
        let (begin, end) = MARKS;
        std::fs::write(&file, format!("head\n{begin}stale\n{end}tail\n")).unwrap();
        write_into(&file, &[Row::new("none", "embedded")], "seed 7").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("head\n") && text.ends_with("tail\n") && !text.contains("stale"));
        assert!(text.contains("| none | embedded |") && text.contains("seed 7"));
    }
}
