//! The promise of `life`, checked over histories: never an end earlier than a day after the last sign of life, always half an
//! hour after a warning that no sign of life has answered, and never none.
//!
//! The model knows only when signs of life came, and when a warning was given; it asks the machine for nothing of that.

use super::life::LIFETIME;
use super::sample::{T0, opening, user};
use super::{Command, Emergency, EndWith, Manner, Notice, State};
use crate::clock::Timestamp;
use crate::id::EmergencyId;
use proptest::prelude::*;
use std::time::Duration;
use uuid::Uuid;

const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);

/// What happens in the world.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A raise with one of a few ids, so that some are repeats.
    Raise(u128),
    Claim(u128),
    Unclaim(u128),
    /// A fix is stored; the emergency hears of it when a timer asks.
    Fix,
    EndUnderDuress,
    /// Time passes and each timer fires so much later than it is due.
    Runs(Duration, Duration),
    /// No node runs: nothing fires. What goes on afterwards is what was stored.
    Down(Duration),
    /// Another node's clock is behind by so much: the next things happen earlier than the last.
    Skew(Duration),
}

struct World {
    emergency: Emergency,
    now: Timestamp,
    newest_fix: Option<Timestamp>,
    last_sign: Option<Timestamp>,
    warned_at: Option<Timestamp>,
    /// The latest time that any clock has shown.
    latest: Timestamp,
}

type Held = Result<(), String>;

fn held(holds: bool, why: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(why()) }
}

impl World {
    fn new(countdown: Duration) -> Self {
        let emergency = Emergency::open(opening(countdown), T0).emergency;
        let last_sign = emergency.active_at;
        Self { emergency, now: T0, newest_fix: None, last_sign, warned_at: None, latest: T0 }
    }

    fn is_active(&self) -> bool {
        self.emergency.state == State::Active
    }

    fn sign(&mut self, at: Timestamp) {
        if self.last_sign.is_none_or(|last| at > last) {
            (self.last_sign, self.warned_at) = (Some(at), None);
        }
    }

    /// Gives a command to the machine and holds what it does to the promise.
    fn apply(&mut self, command: Command) -> Held {
        let Some(next) = self.emergency.apply(command, self.now) else { return Ok(()) };
        let became_active = !self.is_active() && next.emergency.state == State::Active;
        self.emergency = next.emergency;
        if became_active || matches!(command, Command::Join(_) | Command::Claim(_)) {
            self.sign(self.now);
        }
        if let Some(fix) = self.newest_fix.filter(|_| became_active) {
            self.sign(fix);
        }
        let last = self.last_sign;
        if next.notices.contains(&Notice::ExpiresSoon) {
            held(self.warned_at.is_none(), || "warned twice of the same end".into())?;
            held(last.is_some_and(|last| self.now >= last + (LIFETIME - HALF_AN_HOUR)), || {
                format!("warned at {} though the last sign of life was at {last:?}", self.now)
            })?;
            self.warned_at = Some(self.now);
        }
        if self.emergency.state == State::Expired {
            held(last.is_some_and(|last| self.now >= last + LIFETIME), || {
                format!("expired at {} though the last sign of life was at {last:?}", self.now)
            })?;
            let warned = self.warned_at;
            held(warned.is_some_and(|warned| self.now >= warned + HALF_AN_HOUR), || {
                format!("expired at {}, warned at {warned:?}", self.now)
            })?;
        }
        Ok(())
    }

    /// The timer looks: as `Alerts::fire` does, with the newest fix if there is an end to be looked at.
    fn fire(&mut self) -> Held {
        let newest_fix = self.newest_fix.filter(|_| self.is_active());
        self.apply(Command::Wake(newest_fix))
    }

    fn run(&mut self, for_: Duration, late: Duration) -> Held {
        let until = self.now + for_;
        while let Some(fires) = self.emergency.due_at.map(|due| (due + late).max(self.now))
            && fires <= until
        {
            let due = self.emergency.due_at;
            self.now = fires;
            self.fire()?;
            held(self.emergency.due_at != due, || format!("a timer that fires for ever at {fires}"))?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happens(&mut self, what: Happens) -> Held {
        match what {
            Happens::Raise(n) => self.apply(Command::Join(EmergencyId(Uuid::from_u128(n)))),
            Happens::Claim(n) => self.apply(Command::Claim(user(n))),
            Happens::Unclaim(n) => self.apply(Command::Unclaim(user(n))),
            Happens::Fix => {
                self.newest_fix = self.newest_fix.max(Some(self.now));
                if self.is_active() {
                    self.sign(self.now);
                }
                Ok(())
            }
            Happens::EndUnderDuress => self.apply(Command::End(EndWith::Resolve, Manner::Duress)),
            Happens::Runs(for_, late) => self.run(for_, late),
            Happens::Down(for_) => {
                self.now = self.now + for_;
                Ok(())
            }
            Happens::Skew(by) => {
                self.latest = self.latest.max(self.now);
                self.now = self.now - by;
                Ok(())
            }
        }
    }

    /// Nothing more happens and timers are on time: it has ended when it must, and not later.
    fn ends(mut self) -> Held {
        let silent_from = self.latest.max(self.now);
        let mut fired = 0;
        while let Some(due) = self.emergency.due_at {
            self.now = due.max(self.now);
            self.fire()?;
            fired += 1;
            held(fired < 8, || "timers fire and it does not end".into())?;
        }
        let by = self.last_sign.map(|last| last + LIFETIME).max(Some(silent_from + HALF_AN_HOUR));
        let ended = self.emergency.ended_at;
        held(ended <= by, || format!("ended at {ended:?}, though it could have at {by:?}"))
    }
}

fn play(countdown: Duration, history: &[Happens]) -> Held {
    let mut world = World::new(countdown);
    for what in history {
        world.happens(*what)?;
    }
    world.ends()
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// How long something may take: mostly around what decides.
fn wait() -> impl Strategy<Value = Duration> {
    let edges = [0, 1, 1_799, 1_800, 1_801, 36_000, 84_599, 84_600, 84_601, 86_399, 86_400, 86_401];
    prop_oneof![
        proptest::sample::select(edges.to_vec()).prop_map(seconds),
        (0..200_000_000_u64).prop_map(Duration::from_millis),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    let late = prop_oneof![3 => Just(Duration::ZERO), 1 => wait()];
    prop_oneof![
        2 => (0..6_u128).prop_map(Happens::Raise),
        2 => (10..13_u128).prop_map(Happens::Claim),
        1 => (10..13_u128).prop_map(Happens::Unclaim),
        2 => Just(Happens::Fix),
        1 => Just(Happens::EndUnderDuress),
        6 => (wait(), late).prop_map(|(for_, late)| Happens::Runs(for_, late)),
        2 => wait().prop_map(Happens::Down),
        1 => (0..5_000_u64).prop_map(|ms| Happens::Skew(Duration::from_millis(ms))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_history_ends_it_too_early_unwarned_or_never(
        countdown in 0..300_u64,
        history in proptest::collection::vec(happens(), 0..24),
    ) {
        prop_assert_eq!(play(seconds(countdown), &history), Ok(()));
    }
}

/// Every history of four things out of these, with each countdown: 2 x 17^4 of them.
#[test]
fn no_short_history_does() {
    let mut each = vec![
        Happens::Raise(5),
        Happens::Raise(6),
        Happens::Claim(10),
        Happens::Unclaim(10),
        Happens::Fix,
        Happens::EndUnderDuress,
        Happens::Skew(seconds(1)),
    ];
    for s in [1_800, 36_000, 84_600, 86_400, 100_000] {
        each.extend([Happens::Runs(seconds(s), Duration::ZERO), Happens::Down(seconds(s))]);
    }
    let (n, mut histories) = (each.len(), 0);
    for countdown in [Duration::ZERO, seconds(10)] {
        for i in 0..n.pow(4) {
            let history = [i, i / n, i / n.pow(2), i / n.pow(3)].map(|i| each[i % n]);
            assert_eq!(play(countdown, &history), Ok(()), "{history:?}");
            histories += 1;
        }
    }
    assert_eq!(histories, 2 * 17_usize.pow(4));
}
