//! How much may be in flight to each service, and its circuit breaker: a service that fails again and again gets nothing
//! for a while, then a single send as a trial.

use super::Urgency;
use crate::clock::Monotonic;
use std::collections::HashMap;
use std::time::Duration;

/// Failures in a row after which a service is left alone.
const FAILURES: u32 = 5;
/// For how long. An emergency looks again soon.
const COOL_OFF_EMERGENCY: Duration = Duration::from_secs(2);
const COOL_OFF_ROUTINE: Duration = Duration::from_secs(30);
/// The longest pause that a service may ask for; the other deliveries to it wait too.
const ASKED_EMERGENCY: Duration = Duration::from_secs(5);
const ASKED_ROUTINE: Duration = Duration::from_secs(300);
/// Services remembered while nothing is in flight to them; anybody can name a server.
const REMEMBERED: usize = 1_024;

/// What a send says of its service.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Verdict {
    /// It answers.
    Served,
    /// It does not, or with a failure.
    Failed,
    /// It asks for a pause.
    Asked(Duration),
}

/// The services of one queue.
pub(super) struct Gates {
    /// Sends in flight to one service, at most.
    most: usize,
    cool_off: Duration,
    longest: Duration,
    services: HashMap<String, Gate>,
}

#[derive(Default)]
struct Gate {
    in_flight: usize,
    failures: u32,
    shut_until: Option<Monotonic>,
}

impl Gate {
    fn may_enter(&self, most: usize, now: Monotonic) -> bool {
        let shut = self.shut_until.is_some_and(|until| until > now);
        let most = if self.failures >= FAILURES { 1 } else { most };
        !shut && self.in_flight < most
    }
}

impl Gates {
    pub(super) fn new(urgency: Urgency, most: usize) -> Self {
        let (cool_off, longest) = match urgency {
            Urgency::Emergency => (COOL_OFF_EMERGENCY, ASKED_EMERGENCY),
            Urgency::Routine => (COOL_OFF_ROUTINE, ASKED_ROUTINE),
        };
        Self { most, cool_off, longest, services: HashMap::new() }
    }

    /// The services that take nothing now.
    pub(super) fn shut(&self, now: Monotonic) -> Vec<String> {
        let shut = self.services.iter().filter(|(_, gate)| !gate.may_enter(self.most, now));
        shut.map(|(service, _)| service.clone()).collect()
    }

    /// Counts a send in. `false` if the service takes nothing now.
    pub(super) fn enter(&mut self, service: &str, now: Monotonic) -> bool {
        if self.services.len() >= REMEMBERED {
            self.services.retain(|_, gate| gate.in_flight > 0);
        }
        let gate = self.services.entry(service.to_owned()).or_default();
        let may = gate.may_enter(self.most, now);
        gate.in_flight += usize::from(may);
        may
    }

    /// Counts a send out.
    pub(super) fn leave(&mut self, service: &str, verdict: Verdict, now: Monotonic) {
        let Some(gate) = self.services.get_mut(service) else { return };
        gate.in_flight = gate.in_flight.saturating_sub(1);
        match verdict {
            Verdict::Served => (gate.failures, gate.shut_until) = (0, None),
            Verdict::Failed => {
                gate.failures = gate.failures.saturating_add(1);
                if gate.failures >= FAILURES {
                    gate.shut_until = Some(now + self.cool_off);
                }
            }
            Verdict::Asked(pause) => gate.shut_until = Some(now + pause.min(self.longest)),
        }
        if gate.in_flight == 0 && gate.failures == 0 && gate.shut_until.is_none() {
            self.services.remove(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    fn fail(gates: &mut Gates, service: &str, times: usize, now: Monotonic) {
        for _ in 0..times {
            assert!(gates.enter(service, now));
            gates.leave(service, Verdict::Failed, now);
        }
    }

    #[test]
    fn a_failing_service_is_left_alone_then_tried_once() {
        let clock = Clock::manual(Timestamp::from_unix_ms(0));
        let mut gates = Gates::new(Urgency::Emergency, 8);
        fail(&mut gates, "a", 5, clock.monotonic());
        assert!(!gates.enter("a", clock.monotonic()));
        assert_eq!(gates.shut(clock.monotonic()), vec!["a".to_owned()]);
        assert!(gates.enter("b", clock.monotonic()), "another service is not its business");
        clock.advance(COOL_OFF_EMERGENCY);
        assert!(gates.enter("a", clock.monotonic()));
        assert!(!gates.enter("a", clock.monotonic()), "one look is enough");
        gates.leave("a", Verdict::Failed, clock.monotonic());
        assert!(!gates.enter("a", clock.monotonic()), "still broken");
        clock.advance(COOL_OFF_EMERGENCY);
        assert!(gates.enter("a", clock.monotonic()));
        gates.leave("a", Verdict::Served, clock.monotonic());
        assert!(gates.enter("a", clock.monotonic()) && gates.enter("a", clock.monotonic()));
    }

    #[test]
    fn one_service_takes_only_its_part_and_a_pause_holds_all_of_it() {
        let clock = Clock::manual(Timestamp::from_unix_ms(0));
        let mut gates = Gates::new(Urgency::Emergency, 2);
        let now = clock.monotonic();
        assert!(gates.enter("a", now) && gates.enter("a", now) && !gates.enter("a", now));
        gates.leave("a", Verdict::Asked(Duration::from_secs(600)), now);
        assert!(!gates.enter("a", now));
        clock.advance(ASKED_EMERGENCY);
        assert!(gates.enter("a", clock.monotonic()), "an emergency waits no longer");
    }

    #[test]
    fn services_that_anybody_names_are_not_remembered_for_ever() {
        let clock = Clock::manual(Timestamp::from_unix_ms(0));
        let mut gates = Gates::new(Urgency::Routine, 2);
        for n in 0..3 * REMEMBERED {
            fail(&mut gates, &n.to_string(), 1, clock.monotonic());
        }
        assert!(gates.services.len() <= REMEMBERED);
    }
}
