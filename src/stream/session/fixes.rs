//! The window of fixes: read, checked, handed over, and acked when they are on disk.

use super::{Ask, Effect, Moment, Output, Session, WayIn};
use crate::clock::Timestamp;
use crate::geo::{Fix, FixRefusal, MAX_SEQ, Note, Noted, ReadFix, Terms, checked};
use crate::problem::{Code, Problem};
use crate::stream::mailbox::Written;
use crate::stream::protocol::{GivenFix, PlainFrame};
use std::time::Duration;
use tokio::time::Instant;

/// Between two frames that ask a client for fewer fixes.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What a session knows of the fixes of its device.
#[derive(Default)]
pub(super) struct Window {
    /// Fixes handed over and not yet on disk.
    unacked: usize,
    /// How long the person's fixes are kept; `None` before the first fix.
    retention: Option<Duration>,
    /// Frames handed over and not yet on disk.
    in_flight: Vec<InFlight>,
    frames: u64,
    /// The highest `seq` that came in a frame.
    top: i64,
    acked: i64,
    /// What few sockets have, and so has no place in every one.
    rare: Option<Box<Rare>>,
}

/// What only some sockets meet.
#[derive(Default)]
struct Rare {
    /// From where to where fixes came that were not taken: nothing from there on is acked before they came again.
    missing: Option<(i64, i64)>,
    /// What came too fast, from the first time on.
    pace: Option<Pace>,
    /// Until when no time refuses a place: an emergency of the person's is open, or ended lately.
    any_time_until: Option<Timestamp>,
    /// Fixes in flight whose time was replaced by that of their arrival, with their frames.
    retimed: Vec<(u64, i64)>,
    /// What was said already of fixes of which something was left out.
    noted: Noted,
}

/// A frame that is handed over and not yet on disk.
struct InFlight {
    /// Its number here.
    frame: u64,
    /// Its numbers, from where to where, in their order.
    ranges: Vec<(i64, i64)>,
}

/// Ranges without these numbers.
fn without(ranges: Vec<(i64, i64)>, numbers: &[i64]) -> Vec<(i64, i64)> {
    let mut left = ranges;
    for number in numbers {
        let cut = |(from, to): (i64, i64)| {
            let parts = if (from..=to).contains(number) {
                [(from, number - 1), (number + 1, to)]
            } else {
                [(from, to), (1, 0)]
            };
            parts.into_iter().filter(|(from, to)| from <= to)
        };
        left = left.into_iter().flat_map(cut).collect();
    }
    left
}

/// Ranges in their order, those that touch as one.
fn joined(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some((_, end)) if from <= *end + 1 => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// How fast a client may send that sent too fast.
struct Pace {
    /// When it was last told.
    told_at: Instant,
    /// Fixes that came onto the disk since.
    on_disk: u32,
}

impl Window {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether everything that was handed over is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.unacked == 0
    }

    /// Whether more is in flight than a client may have. What comes beyond is pushed back: a client that keeps to its window
    /// never sees that.
    pub(super) fn is_exceeded(&self, window: usize) -> bool {
        self.unacked > window
    }

    /// Up to where every fix is on disk, if that is to be said now: after a change when something is still in flight only
    /// if it is news.
    fn durable(&self) -> Option<i64> {
        let missing = self.rare.as_ref().and_then(|rare| rare.missing).map(|missing| missing.0);
        let in_flight = self.in_flight.iter().filter_map(|frame| frame.ranges.first()).map(|(from, _)| *from);
        let lowest = in_flight.chain(missing).min();
        let durable = lowest.map_or(self.top, |lowest| self.top.min(lowest - 1));
        (lowest.is_none() || durable > self.acked).then_some(durable)
    }
}

/// The numbers that a fix can have.
fn numbers(given: &[GivenFix]) -> impl Iterator<Item = i64> {
    let number = |read: &GivenFix| match read {
        Ok(raw) => raw.seq,
        Err(unread) => unread.seq,
    };
    given.iter().filter_map(number).filter(|seq| (1..=MAX_SEQ).contains(seq))
}

impl Window {
    /// These were not taken.
    fn miss(&mut self, given: &[GivenFix]) {
        // What comes for the second time is acked already: its client goes on behind it, and never sends it again.
        let acked = self.acked;
        let open = || numbers(given).filter(|seq| *seq > acked);
        let Some((low, high)) = open().min().zip(open().max()) else { return };
        let missing = &mut self.rare().missing;
        let (from, to) = missing.unwrap_or((low, high));
        *missing = Some((from.min(low), to.max(high)));
    }

    /// These were taken, perhaps for the second time.
    fn have(&mut self, given: &[GivenFix]) {
        let Some((low, high)) = numbers(given).min().zip(numbers(given).max()) else { return };
        // A number that no fix can have must not swallow the acks of those that come after.
        self.top = self.top.max(high);
        if let Some(rare) = &mut self.rare
            && let Some((from, to)) = rare.missing.filter(|(from, _)| low <= *from)
        {
            rare.missing = (high < to).then(|| (from.max(high + 1), to));
        }
    }
}

impl Session {
    /// What the session's person is shown of an emergency of theirs: no time refuses a place while it is open.
    pub(super) fn in_emergency(&mut self, until: Timestamp) {
        self.window.rare().any_time_until = Some(until);
    }

    /// Says what was left out of a fix, and remembers if it is under the time of its arrival.
    fn note(&mut self, fix: &Fix, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        if notes.iter().any(|note| note.field == "fixed_at") {
            let frame = self.window.frames + 1;
            self.window.rare().retimed.push((frame, fix.seq));
        }
        let notes = self.window.rare().noted.news(notes);
        if !notes.is_empty() {
            self.send(PlainFrame::Notes { seq: fix.number(), notes });
        }
    }

    /// Takes a frame of fixes: each is stored or refused on its own. Beyond the window, and where the close only waits for the
    /// last acks, none is taken.
    pub(super) fn take_fixes(&mut self, given: Vec<GivenFix>, moment: &Moment) {
        if self.window.is_exceeded(self.settings.window) {
            return self.push_back(&given, moment);
        }
        if self.liveness.is_due_to_close(moment.at) {
            return self.window.miss(&given);
        }
        match self.window.retention {
            Some(retention) => self.check_fixes(given, retention, moment),
            None => self.ask(Ask::OpenWayIn(given)),
        }
    }

    /// Takes none of these fixes, and says how many a second came onto the disk lately: nothing from them on is acked before
    /// they came again.
    pub(super) fn push_back(&mut self, given: &[GivenFix], moment: &Moment) {
        metrics::counter!("cima_shed_total", "what" => "fix").increment(given.len() as u64);
        self.window.miss(given);
        let window = u32::try_from(self.settings.window).unwrap_or(u32::MAX);
        let pace = self.window.rare.as_ref().and_then(|rare| rare.pace.as_ref());
        let fixes_per_s = pace.map_or(window, |pace| {
            let seconds = (moment.at - pace.told_at).as_secs_f64().max(1.0);
            (f64::from(pace.on_disk) / seconds).max(1.0) as u32
        });
        if self.may_tell_of_pace(moment) {
            let detail = "more fixes came than the window holds; send again what is not acked";
            self.refuse(Code::RateLimited.word(), detail, None);
            self.send(PlainFrame::SlowDown { fixes_per_s });
        }
    }

    /// Whether the client is to be told that it is too fast: not for every frame of a flood.
    pub(super) fn may_tell_of_pace(&mut self, moment: &Moment) -> bool {
        let pace = &mut self.window.rare().pace;
        let told = pace.as_ref().map(|pace| pace.told_at);
        let may = told.is_none_or(|told| moment.at - told >= TOLD_EVERY);
        if may {
            *pace = Some(Pace { told_at: moment.at, on_disk: 0 });
        }
        may
    }

    /// The device streams from here on: older sockets of it go.
    pub(super) fn way_in_opened(
        &mut self,
        given: Vec<GivenFix>,
        way_in: Result<WayIn, Problem>,
        moment: &Moment,
    ) {
        match way_in {
            Ok(WayIn { retention, any_time_until }) => {
                self.window.retention = Some(retention);
                if let Some(until) = any_time_until {
                    self.in_emergency(until);
                }
                self.out(Output::Do(Effect::Overtake));
                self.check_fixes(given, retention, moment);
            }
            Err(problem) => {
                self.window.miss(&given);
                self.problem(&problem, None);
            }
        }
    }

    fn check_fixes(&mut self, given: Vec<GivenFix>, retention: Duration, moment: &Moment) {
        self.window.have(&given);
        let until = self.window.rare.as_ref().and_then(|rare| rare.any_time_until);
        let at_any_time = until.is_some_and(|until| moment.now < until);
        let terms = Terms { now: moment.now, retention, at_any_time, may_lack_number: false };
        let mut fixes = Vec::with_capacity(given.len());
        for given in given {
            let (seq, checked) = match given {
                Ok(raw) => (raw.seq, checked(Ok(raw), &terms)),
                Err(unread) => (unread.seq, checked(Err((unread.refusal, &unread.text)), &terms)),
            };
            match checked {
                Ok(ReadFix { fix, notes }) => {
                    self.note(&fix, notes);
                    fixes.push(fix);
                }
                Err(refusal) => {
                    metrics::counter!("cima_fixes_rejected_total", "code" => refusal.code()).increment(1);
                    self.send(PlainFrame::Rejected { seq, code: refusal.code() });
                }
            }
        }
        if fixes.is_empty() {
            return self.ack_if_idle();
        }
        self.window.frames += 1;
        let frame = self.window.frames;
        self.window.unacked += fixes.len();
        let ranges = joined(fixes.iter().filter_map(Fix::number).map(|seq| (seq, seq)).collect());
        self.window.in_flight.push(InFlight { frame, ranges });
        self.out(Output::Ingest { frame, fixes });
    }

    pub(super) fn ingested(&mut self, taken: bool) {
        if !taken {
            self.refuse(Code::Unavailable.word(), "the node is stopping", None);
        }
    }

    /// Frames are on disk: acks up to the lowest fix that is not, whatever order they came in.
    pub(super) fn take_written(&mut self, written: Vec<Written>) {
        if written.is_empty() {
            return;
        }
        let mut on_disk = Vec::new();
        for Written { frame, fixes, recorded } in written {
            self.window.unacked -= fixes;
            if let Some(pace) = self.window.rare.as_mut().and_then(|rare| rare.pace.as_mut()) {
                pace.on_disk = pace.on_disk.saturating_add(u32::try_from(fixes).unwrap_or(u32::MAX));
            }
            // A fix that comes again has arrived at another time, and is the same.
            let mut conflicts = recorded.conflicts;
            if let Some(rare) = &mut self.window.rare {
                conflicts.retain(|seq| !rare.retimed.contains(&(frame, *seq)));
                rare.retimed.retain(|(n, _)| *n != frame);
            }
            let place = self.window.in_flight.iter().position(|written| written.frame == frame);
            let ranges = place.map(|place| self.window.in_flight.swap_remove(place).ranges);
            on_disk.extend(without(ranges.unwrap_or_default(), &conflicts));
            for seq in conflicts {
                let (seq, code) = (Some(seq).filter(|seq| *seq > 0), FixRefusal::SeqConflict.code());
                self.send(PlainFrame::Rejected { seq, code });
            }
        }
        match self.window.durable() {
            Some(seq) => self.ack(seq, joined(on_disk)),
            // What came before older fixes is said too.
            None if !on_disk.is_empty() => self.ack(self.window.acked, joined(on_disk)),
            None => {}
        }
    }

    fn ack_if_idle(&mut self) {
        if self.window.in_flight.is_empty()
            && let Some(seq) = self.window.durable().filter(|seq| *seq > 0)
        {
            self.ack(seq, Vec::new());
        }
    }

    fn ack(&mut self, seq: i64, ranges: Vec<(i64, i64)>) {
        self.window.acked = seq;
        let ranges = ranges.into_iter().map(|(from, to)| [from, to]).collect();
        self.send(PlainFrame::Acked { seq, ranges });
    }
}
