//! The window of fixes: read, checked, handed over, and acked when they are on disk.

use super::{Ask, Effect, Moment, Output, Session};
use crate::geo::{FixRefusal, MAX_SEQ};
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
    /// Frames handed over and not yet on disk: their number here and the lowest `seq` in them.
    in_flight: Vec<(u64, i64)>,
    frames: u64,
    /// The highest `seq` that came in a frame.
    top: i64,
    /// From where to where fixes came that were not taken: nothing from there on is acked before they came again. Rare, so
    /// it has no place in every socket.
    missing: Option<Box<(i64, i64)>>,
    acked: i64,
    /// What came too fast, from the first time on.
    pace: Option<Box<Pace>>,
}

/// How fast a client may send that sent too fast.
struct Pace {
    /// When it was last told.
    told_at: Instant,
    /// Fixes that came onto the disk since.
    on_disk: u32,
}

impl Window {
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
        let missing = self.missing.as_ref().map(|missing| missing.0);
        let lowest = self.in_flight.iter().map(|(_, lowest)| *lowest).chain(missing).min();
        let durable = lowest.map_or(self.top, |lowest| self.top.min(lowest - 1));
        (lowest.is_none() || durable > self.acked).then_some(durable)
    }
}

/// The numbers that a fix can have.
fn numbers(given: &[GivenFix]) -> impl Iterator<Item = i64> {
    let number = |read: &GivenFix| match read {
        Ok(raw) => Some(raw.seq),
        Err((seq, _)) => *seq,
    };
    given.iter().filter_map(number).filter(|seq| (1..=MAX_SEQ).contains(seq))
}

impl Window {
    /// These were not taken.
    fn miss(&mut self, given: &[GivenFix]) {
        let Some((low, high)) = numbers(given).min().zip(numbers(given).max()) else { return };
        let (from, to) = self.missing.as_deref().copied().unwrap_or((low, high));
        self.missing = Some(Box::new((from.min(low), to.max(high))));
    }

    /// These were taken, perhaps for the second time.
    fn have(&mut self, given: &[GivenFix]) {
        let Some((low, high)) = numbers(given).min().zip(numbers(given).max()) else { return };
        // A number that no fix can have must not swallow the acks of those that come after.
        self.top = self.top.max(high);
        if let Some((from, to)) = self.missing.as_deref().copied()
            && low <= from
        {
            self.missing = (high < to).then(|| Box::new((from.max(high + 1), to)));
        }
    }
}

impl Session {
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
        let fixes_per_s = self.window.pace.as_ref().map_or(window, |pace| {
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
        let told = self.window.pace.as_ref().map(|pace| pace.told_at);
        let may = told.is_none_or(|told| moment.at - told >= TOLD_EVERY);
        if may {
            self.window.pace = Some(Box::new(Pace { told_at: moment.at, on_disk: 0 }));
        }
        may
    }

    /// The device streams from here on: older sockets of it go.
    pub(super) fn way_in_opened(
        &mut self,
        given: Vec<GivenFix>,
        retention: Result<Duration, Problem>,
        moment: &Moment,
    ) {
        match retention {
            Ok(retention) => {
                self.window.retention = Some(retention);
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
        let mut fixes = Vec::with_capacity(given.len());
        for read in given {
            let seq = match &read {
                Ok(raw) => Some(raw.seq),
                Err((seq, _)) => *seq,
            };
            let checked =
                read.map_err(|(_, refusal)| refusal).and_then(|raw| raw.check(moment.now, retention));
            match checked {
                Ok(fix) => fixes.push(fix),
                Err(refusal) => {
                    metrics::counter!("cima_fixes_rejected_total", "code" => refusal.code()).increment(1);
                    self.send(PlainFrame::Rejected { seq, code: refusal.code() });
                }
            }
        }
        let Some(lowest) = fixes.iter().map(|f| f.seq).min() else { return self.ack_if_idle() };
        self.window.frames += 1;
        let frame = self.window.frames;
        self.window.unacked += fixes.len();
        self.window.in_flight.push((frame, lowest));
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
        for Written { frame, fixes, recorded } in written {
            self.window.unacked -= fixes;
            if let Some(pace) = &mut self.window.pace {
                pace.on_disk = pace.on_disk.saturating_add(u32::try_from(fixes).unwrap_or(u32::MAX));
            }
            self.window.in_flight.retain(|(n, _)| *n != frame);
            for seq in recorded.conflicts {
                let code = FixRefusal::SeqConflict.code();
                self.send(PlainFrame::Rejected { seq: Some(seq), code });
            }
        }
        if let Some(seq) = self.window.durable() {
            self.ack(seq);
        }
    }

    fn ack_if_idle(&mut self) {
        if self.window.in_flight.is_empty()
            && let Some(seq) = self.window.durable().filter(|seq| *seq > 0)
        {
            self.ack(seq);
        }
    }

    fn ack(&mut self, seq: i64) {
        self.window.acked = seq;
        self.send(PlainFrame::Acked { seq });
    }
}
