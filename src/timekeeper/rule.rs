//! What a look at the store's clock means.

use super::store::Seen;
use crate::clock::{Monotonic, Timestamp};
use std::time::Duration;

/// The store's clock was set when it went another way than the monotonic one by more than this, in milliseconds. Less is
/// taken over as it is.
const STEP_MS: i64 = 1_000;
/// An answer that took longer says too little of when it was given.
const PROMPT: Duration = Duration::from_millis(500);
/// Who has looked for less long judges no step of another: it may have come after it.
const OLD_ENOUGH: Duration = Duration::from_secs(10);

/// What a node knows of the store's clock.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Known {
    /// What it showed,
    pub(super) now: Timestamp,
    /// when.
    pub(super) at: Monotonic,
    /// How often what is due had been moved.
    pub(super) steps: i64,
    /// Since when this node looks.
    pub(super) since: Monotonic,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Verdict {
    /// Nothing is learned from it.
    Goes,
    /// The time is this.
    Is(Known),
    /// What is due has to move; then look again.
    Step {
        /// By so much.
        by_ms: i64,
        /// Because another node moved it without cause.
        undoes: bool,
    },
}

/// Judges what was seen, asked for at `asked` and answered so much later.
pub(super) fn judge(known: Option<&Known>, seen: &Seen, asked: Monotonic, took: Duration) -> Verdict {
    let at = asked + took / 2;
    let since = known.map_or(at, |known| known.since);
    let is = Verdict::Is(Known { now: seen.now, at, steps: seen.steps, since });
    let Some(known) = known else {
        // It went back while nobody looked.
        let back = seen.newest.unix_ms() - seen.now.unix_ms();
        return if back > STEP_MS { Verdict::Step { by_ms: -back, undoes: false } } else { is };
    };
    if took > PROMPT || at < known.at {
        return Verdict::Goes;
    }
    let passed = i64::try_from(at.since(known.at).as_millis()).unwrap_or(i64::MAX);
    let by_ms = seen.now.unix_ms() - known.now.unix_ms() - passed;
    let stepped = by_ms.abs() > STEP_MS;
    let unsure_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX) / 2;
    match (stepped, seen.steps == known.steps) {
        // An answer may be from any moment between the question and its arrival. What may be nothing but that moves no clock:
        // a node that is busy would go back and forth.
        (false, true) if by_ms.abs() <= unsure_ms => Verdict::Goes,
        // Everything that is due has been moved by whoever saw it first.
        (true, false) | (false, true) => is,
        (true, true) => Verdict::Step { by_ms, undoes: false },
        // Somebody saw a step where none was: their own clock stood still.
        (false, false) => {
            let once = seen.steps == known.steps + 1 && !seen.undone && seen.last_step_ms.abs() > STEP_MS;
            let may_judge = at.since(known.since) > OLD_ENOUGH;
            if once && may_judge { Verdict::Step { by_ms: -seen.last_step_ms, undoes: true } } else { is }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use proptest::prelude::*;

    /// A store's clock, nodes that look at it, and something due. Monotonic time is the same for all but who stood still.
    struct World {
        store_ms: i64,
        newest_ms: i64,
        steps: i64,
        last_step_ms: i64,
        undone: bool,
        due_ms: i64,
        passed_ms: u64,
        stood_ms: Vec<u64>,
        known: Vec<Option<Known>>,
    }

    const T0: i64 = 1_800_000_000_000;

    impl World {
        fn new(nodes: usize) -> Self {
            Self {
                store_ms: T0,
                newest_ms: T0,
                steps: 0,
                last_step_ms: 0,
                undone: false,
                due_ms: T0 + 600_000,
                passed_ms: 0,
                stood_ms: vec![0; nodes],
                known: vec![None; nodes],
            }
        }
        fn monotonic(&self, node: usize) -> Monotonic {
            let zero = Clock::manual(Timestamp::from_unix_ms(0)).monotonic();
            zero + Duration::from_millis(self.passed_ms - self.stood_ms[node])
        }
        fn pass(&mut self, ms: u64) {
            self.passed_ms += ms;
            self.store_ms += i64::try_from(ms).unwrap();
        }
        /// As `Timekeeper::look` does; whether it came to an end.
        fn look(&mut self, node: usize) -> bool {
            for _ in 0..super::super::LOOKS {
                self.newest_ms = self.newest_ms.max(self.store_ms);
                let seen = Seen {
                    now: Timestamp::from_unix_ms(self.store_ms),
                    newest: Timestamp::from_unix_ms(self.newest_ms),
                    steps: self.steps,
                    last_step_ms: self.last_step_ms,
                    undone: self.undone,
                };
                match judge(self.known[node].as_ref(), &seen, self.monotonic(node), Duration::ZERO) {
                    Verdict::Goes => return true,
                    Verdict::Is(known) => {
                        self.known[node] = Some(known);
                        return true;
                    }
                    Verdict::Step { by_ms, undoes } => {
                        self.steps += 1;
                        (self.last_step_ms, self.undone) = (by_ms, undoes);
                        self.due_ms += by_ms;
                        self.newest_ms = self.store_ms;
                    }
                }
            }
            false
        }
        /// What is left until it is due, as a node sees it.
        fn left(&self, node: usize) -> i64 {
            let known = self.known[node].as_ref().unwrap();
            let now = known.now + self.monotonic(node).since(known.at);
            self.due_ms - now.unix_ms()
        }
    }

    proptest! {
        #[test]
        fn what_is_due_stays_as_far_away_whoever_looks_first(
            nodes in 1_usize..4,
            acts in prop::collection::vec((0_usize..4, prop_oneof![-3_700_000_i64..3_700_000, -1_500_i64..1_500], 1_u64..5_000, any::<bool>()), 1..12),
        ) {
            let mut world = World::new(nodes);
            for node in 0..nodes {
                world.look(node);
            }
            let mut taken_over = 0;
            for (first, by_ms, passes, steps) in acts {
                world.pass(passes);
                if steps {
                    world.store_ms += by_ms;
                    // Less than a step is taken over as it is.
                    taken_over += if by_ms.abs() > STEP_MS { 0 } else { by_ms };
                }
                for n in 0..nodes {
                    prop_assert!(world.look((first + n) % nodes));
                }
                let truly = 600_000 - i64::try_from(world.passed_ms).unwrap();
                for node in 0..nodes {
                    prop_assert_eq!(world.left(node), truly - taken_over);
                }
            }
        }
    }

    #[test]
    fn a_step_is_made_once_and_everybody_goes_by_it() {
        let mut world = World::new(3);
        (0..3).for_each(|node| assert!(world.look(node)));
        world.pass(2_000);
        world.store_ms += 3_600_000;
        (0..3).for_each(|node| assert!(world.look(node)));
        assert_eq!((world.steps, world.due_ms), (1, T0 + 600_000 + 3_600_000));
        (0..3).for_each(|node| assert_eq!(world.left(node), 598_000));
    }

    #[test]
    fn who_stood_still_moves_nobody() {
        let mut world = World::new(3);
        (0..3).for_each(|node| assert!(world.look(node)));
        world.pass(60_000);
        world.stood_ms[0] = 30_000;
        for node in [0, 1, 2, 0] {
            assert!(world.look(node));
        }
        assert_eq!((world.steps, world.due_ms), (2, T0 + 600_000), "moved and moved back");
        (0..3).for_each(|node| assert_eq!(world.left(node), 540_000));
    }

    #[test]
    fn a_clock_that_went_back_while_nobody_looked_counts_from_when_it_was_seen() {
        let mut world = World::new(1);
        world.look(0);
        world.known[0] = None;
        world.store_ms -= 3_600_000;
        world.look(0);
        assert_eq!(world.left(0), 600_000);
    }

    #[test]
    fn what_may_be_the_way_of_an_answer_moves_no_clock() {
        let mut world = World::new(1);
        world.look(0);
        world.pass(1_000);
        let judged = |off_ms, took_ms| {
            let now = Timestamp::from_unix_ms(world.store_ms + off_ms);
            let seen = Seen { now, newest: now, steps: 0, last_step_ms: 0, undone: false };
            let took = Duration::from_millis(took_ms);
            let asked = world.known[0].as_ref().unwrap().at + (Duration::from_secs(1) - took / 2);
            judge(world.known[0].as_ref(), &seen, asked, took)
        };
        for (off_ms, took_ms) in [(200, 400), (-200, 400), (0, 0), (1, 3)] {
            assert_eq!(judged(off_ms, took_ms), Verdict::Goes, "{off_ms} ms in {took_ms} ms");
        }
        for (off_ms, took_ms) in [(201, 400), (-201, 400), (5, 2)] {
            assert!(matches!(judged(off_ms, took_ms), Verdict::Is(_)), "{off_ms} ms in {took_ms} ms");
        }
    }

    #[test]
    fn a_slow_answer_teaches_nothing() {
        let mut world = World::new(1);
        world.look(0);
        let seen = Seen {
            now: Timestamp::from_unix_ms(T0 + 9_000_000),
            newest: Timestamp::from_unix_ms(T0 + 9_000_000),
            steps: 0,
            last_step_ms: 0,
            undone: false,
        };
        let verdict = judge(world.known[0].as_ref(), &seen, world.monotonic(0), Duration::from_secs(1));
        assert_eq!(verdict, Verdict::Goes);
    }
}
