//! Keeps the windows of people whose fixes come in: loaded as they move, and again where zones change.
//!
//! Changes are read from the store, without hints: so they are found whoever made them, and whether or not nodes hear
//! each other.

use super::window::{MOST, RADIUS_M, View, Window};
use super::{ZoneMoves, ZoneSink, ZoneStore};
use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::geo::{Area, Fix, Point};
use crate::id::UserId;
use crate::runtime::{Refusal, Rounds, SetAside, Tasks, attempt, caught, tried};
use crate::tracking::Tracking;
use crate::tracking::person::LATE;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Windows that may wait to be loaded; beyond, the next fix asks again.
const LOADS: usize = 1_024;
/// Windows that are loaded at a time.
const AT_ONCE: usize = 4;
/// After a load that failed: its place stays taken, so that a store in trouble is asked little.
const PAUSE: Duration = Duration::from_secs(2);
/// Between looks for changes.
const LOOK: Duration = Duration::from_secs(2);
/// Changes read at a time.
const PAGE: u32 = 1_000;

/// The windows of a node: what they share.
pub(in crate::tracking) struct Windows {
    sink: ZoneSink,
    loads: mpsc::Sender<Load>,
    /// Whether there has ever been a zone.
    any: AtomicBool,
    aside: SetAside,
}

/// The zones around one person.
pub(in crate::tracking) struct Around {
    user: UserId,
    window: Mutex<Window>,
    windows: Arc<Windows>,
}

/// A window that is to be loaded, and around which place.
pub(super) struct Load(Arc<Around>, Point);

impl Windows {
    /// Starts the task that loads windows.
    pub(in crate::tracking) fn start(
        store: Arc<dyn ZoneStore>,
        sink: ZoneSink,
        clock: Clock,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let (loads, mut asked) = mpsc::channel::<Load>(LOADS);
        let stop = tasks.stop();
        // A load that dies is one person's, and is caught there.
        tasks.spawn("zone-windows", async move {
            let (mut loading, mut resting) = (FuturesUnordered::new(), FuturesUnordered::new());
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Some(load) = asked.recv(), if loading.len() < AT_ONCE => loading.push(run(&*store, &clock, load)),
                    Some(refused) = loading.next() => resting.extend(refused.map(rest)),
                    Some(()) = resting.next() => {}
                }
            }
        });
        Arc::new(Self { sink, loads, any: AtomicBool::new(false), aside: SetAside::of("window") })
    }

    /// The zones around somebody; nothing is loaded before their first fix.
    pub(in crate::tracking) fn around(self: &Arc<Self>, user: UserId) -> Arc<Around> {
        Arc::new(Around { user, window: Mutex::default(), windows: Arc::clone(self) })
    }
}

/// One whose window cannot be loaded for a reason of its own holds up no other, and asks again later.
async fn rest(around: Arc<Around>) {
    tokio::time::sleep(PAUSE).await;
    around.lock().failed();
}

/// Loads until the window needs no more, or its person has gone. Whoever is refused for good.
async fn run(store: &dyn ZoneStore, clock: &Clock, Load(around, center): Load) -> Option<Arc<Around>> {
    let why = match caught(load_all(store, clock, &around, center)).await {
        Ok(Ok(())) => return None,
        Ok(Err(why)) => why,
        Err(panicked) => panicked.into(),
    };
    around.windows.aside.note(around.user, why);
    Some(around)
}

async fn load_all(
    store: &dyn ZoneStore,
    clock: &Clock,
    around: &Arc<Around>,
    mut center: Point,
) -> Result<(), Refusal> {
    loop {
        let start = Instant::now();
        match tried(load(store, around.user, center)).await {
            Ok(view) => {
                metrics::histogram!("cima_zone_window_load_seconds").record(start.elapsed().as_secs_f64());
                around.install(view, clock.now());
            }
            Err(why @ Refusal::Lasting(_)) => return Err(why),
            Err(error) => {
                metrics::counter!("cima_zone_window_failures_total").increment(1);
                tracing::warn!(%error, "the zones around somebody could not be read; they are read again");
                tokio::time::sleep(PAUSE).await;
                around.lock().failed();
            }
        }
        let Some(Load(_, next)) = around.next_load(&mut around.lock()) else { return Ok(()) };
        if Arc::strong_count(around) == 1 {
            return Ok(());
        }
        center = next;
    }
}

async fn load(store: &dyn ZoneStore, user: UserId, center: Point) -> Stored<View> {
    let zones = store.zones_near(center, RADIUS_M, MOST).await?;
    Ok(View::new(center, zones, &store.zones_inside(user).await?))
}

impl Around {
    fn lock(&self) -> MutexGuard<'_, Window> {
        // A panic leaves at worst a membership that the next fix corrects.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at fixes that just came, of the tracked device. Late ones say nothing: nobody is where they were taken.
    pub(in crate::tracking) fn see(self: &Arc<Self>, fixes: &[Fix], now: Timestamp) {
        let mut window = self.lock();
        let mut moves = ZoneMoves::of(self.user);
        for fix in fixes.iter().filter(|fix| fix.fixed_at >= now - LATE) {
            window.see(fix, &mut moves);
        }
        self.send(&mut window, moves);
        if let Some(load) = self.next_load(&mut window)
            && self.windows.loads.try_send(load).is_err()
        {
            window.failed();
        }
    }

    /// The person is tracked by another device now, which may be anywhere.
    pub(in crate::tracking) fn start_anew(&self) {
        *self.lock() = Window::default();
    }

    fn next_load(self: &Arc<Self>, window: &mut Window) -> Option<Load> {
        if !self.windows.any.load(Ordering::Relaxed) {
            return None;
        }
        window.next_load().map(|center| Load(Arc::clone(self), center))
    }

    fn touch(self: &Arc<Self>, areas: &[Area]) -> Option<Load> {
        let mut window = self.lock();
        window.touch(areas);
        self.next_load(&mut window)
    }

    fn install(self: &Arc<Self>, view: View, now: Timestamp) {
        let mut window = self.lock();
        let mut moves = ZoneMoves::of(self.user);
        window.install(view, now - LATE, &mut moves);
        self.send(&mut window, moves);
    }

    fn send(&self, window: &mut Window, moves: ZoneMoves) {
        if !moves.is_empty() && self.windows.sink.try_send(moves).is_err() {
            window.forget();
        }
    }
}

/// Looks for changes of zones, and loads the windows again that they touch.
pub(in crate::tracking) fn follow(
    store: Arc<dyn ZoneStore>,
    windows: Arc<Windows>,
    tracking: Weak<Tracking>,
    tasks: &Tasks,
) {
    tasks.rounds("zone-changes", Changes { store, windows, tracking, known: None });
}

/// What was last seen of the changes.
struct Changes {
    store: Arc<dyn ZoneStore>,
    windows: Arc<Windows>,
    tracking: Weak<Tracking>,
    known: Option<i64>,
}

impl Rounds for Changes {
    type Next = ();

    async fn round(&mut self) -> Option<()> {
        if let Err(error) = look(&*self.store, &self.windows, &self.tracking, &mut self.known).await {
            tracing::warn!(%error, "changes of zones could not be read; they are looked for again");
        }
        Some(())
    }

    async fn wait(&mut self, (): ()) {
        tokio::time::sleep(LOOK).await;
    }

    fn is_cut_short(&self) -> bool {
        true
    }
}

/// Looks at the changes after the last that is known. Until one is, no window is loaded: so none misses a change.
async fn look(
    store: &dyn ZoneStore,
    windows: &Windows,
    tracking: &Weak<Tracking>,
    known: &mut Option<i64>,
) -> Stored<()> {
    let Some(mut after) = *known else {
        let newest = store.zone_changes(None, 0).await?.to;
        windows.any.store(newest > 0, Ordering::Relaxed);
        *known = Some(newest);
        return Ok(());
    };
    loop {
        let changes = store.zone_changes(Some(after), PAGE).await?;
        let more = changes.areas.len() == PAGE as usize;
        if !changes.areas.is_empty() {
            windows.any.store(true, Ordering::Relaxed);
            let areas = if changes.some_lost { vec![Area::WORLD] } else { changes.areas };
            let people = tracking.upgrade().map(|tracking| tracking.surroundings()).unwrap_or_default();
            for around in people {
                let load = attempt(|| around.touch(&areas)).unwrap_or_else(|panicked| {
                    windows.aside.note(around.user, panicked);
                    None
                });
                if let Some(load) = load
                    && windows.loads.send(load).await.is_err()
                {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
            after = changes.to;
            *known = Some(after);
        }
        if !more {
            return Ok(());
        }
    }
}
