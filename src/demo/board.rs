//! What the demo prints: a line for everything that happens, with the time of the story and who it is about.

use crate::clock::{Clock, Timestamp};

/// The place where the story is told.
#[derive(Clone)]
pub(super) struct Board {
    clock: Clock,
    start: Timestamp,
}

impl Board {
    /// A board whose story starts now.
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), start: clock.now() }
    }

    /// Prints a line.
    pub(super) fn say(&self, who: &str, what: &str) {
        let s = self.clock.now().since(self.start).as_secs();
        println!("{:02}:{:02}  {who:<5} {what}", s / 60, s % 60);
    }

    /// Prints who may see whom, one column a person.
    pub(super) fn may_see(&self, who: &str, people: &[(&str, bool)]) {
        let column = |(name, seen): &(&str, bool)| format!("{name} {}", if *seen { "yes" } else { "no" });
        let columns: Vec<String> = people.iter().map(column).collect();
        println!("       {who:<5} may now see: {}", columns.join(", "));
    }
}
