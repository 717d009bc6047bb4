//! Passwords and PINs: argon2id, a few at a time, on threads of their own.

use super::IdentityError;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Secrets that wait for a thread, for each thread; one more is refused.
const WAITING: usize = 32;
/// After which time somebody who was refused may try again.
const AGAIN: Duration = Duration::from_secs(2);
/// How much others are preferred to a thread that hashes what is not urgent (`nice`, from 0 to 19).
const NICE: i32 = 15;

/// Whose secret it is. No queue stands in front of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    /// Somebody ends an emergency: never refused, and at the priority of the sockets.
    Danger,
    /// Somebody who has shown a token.
    Known,
    /// Anybody: who signs up or in.
    Anybody,
}

/// Hashes and checks secrets. What a flood of sign-ins costs is bounded: threads, memory, and how many wait. The threads of
/// all but those for PINs have a low priority, so that a flood takes the processor from nobody who raises.
#[derive(Clone)]
pub struct Hasher {
    memory_kib: u32,
    danger: Arc<Threads>,
    known: Arc<Threads>,
    anybody: Arc<Threads>,
    /// Checked when there is nothing to check, so that the answer takes as long.
    decoy: Arc<str>,
}

struct Threads {
    pool: ThreadPool,
    places: Arc<Semaphore>,
}

impl Hasher {
    /// With so much memory a hash (KiB; OWASP's floor for two passes is 19,456) and so many at a time in each queue.
    ///
    /// # Errors
    /// When argon2 refuses the parameters, or there can be no more threads.
    pub fn new(memory_kib: u32, at_once: usize) -> Result<Self, IdentityError> {
        let decoy = hash(memory_kib, "nobody's secret")?.into();
        let at_once = at_once.max(1);
        let [known, anybody] =
            ["known-secrets", "secrets"].map(|name| Threads::start(name, at_once, at_once * WAITING, NICE));
        // Tries of one person take turns, so that there are never many.
        let danger = Threads::start("pins", at_once, Semaphore::MAX_PERMITS, 0)?;
        Ok(Self {
            memory_kib,
            danger: Arc::new(danger),
            known: Arc::new(known?),
            anybody: Arc::new(anybody?),
            decoy,
        })
    }

    const fn threads(&self, queue: Queue) -> &Arc<Threads> {
        match queue {
            Queue::Danger => &self.danger,
            Queue::Known => &self.known,
            Queue::Anybody => &self.anybody,
        }
    }

    /// The PHC string of a secret.
    ///
    /// # Errors
    /// [`IdentityError::Busy`] if too many wait, [`IdentityError::Internal`] when hashing failed.
    pub(super) async fn hash(&self, queue: Queue, secret: String) -> Result<String, IdentityError> {
        let memory_kib = self.memory_kib;
        self.threads(queue).run(move || hash(memory_kib, &secret)).await?
    }

    /// Whether the secret is the one that was hashed. `None` takes as long and is never right.
    ///
    /// # Errors
    /// [`IdentityError::Busy`] if too many wait, [`IdentityError::Internal`] when the check could not be made.
    pub(super) async fn check(
        &self,
        queue: Queue,
        secret: String,
        hashed: Option<String>,
    ) -> Result<bool, IdentityError> {
        let decoy = Arc::clone(&self.decoy);
        let check = move || {
            let (phc, real) = hashed.as_deref().map_or((&*decoy, false), |h| (h, true));
            let parsed = PasswordHash::new(phc).map_err(|e| IdentityError::Internal(e.to_string()))?;
            Ok(Argon2::default().verify_password(secret.as_bytes(), &parsed).is_ok() && real)
        };
        self.threads(queue).run(check).await?
    }
}

impl Threads {
    fn start(name: &'static str, count: usize, places: usize, nice: i32) -> Result<Self, IdentityError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(move |n| format!("cima-{name}-{n}"))
            .start_handler(move |_| prefer_others(nice))
            .build()
            .map_err(|e| IdentityError::Internal(e.to_string()))?;
        Ok(Self { pool, places: Arc::new(Semaphore::new(places)) })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IdentityError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics::counter!("cima_shed_total", "what" => "sign-in").increment(1);
            return Err(IdentityError::Busy(AGAIN));
        };
        let (done, result) = oneshot::channel();
        self.pool.spawn(move || {
            // Nobody waits for what a client has given up.
            if !done.is_closed() {
                let _ = done.send(work());
            }
            drop(place);
        });
        result.await.map_err(|_| IdentityError::Internal("the hashing thread ended".into()))
    }
}

/// Gives this thread a lower priority, where the system can.
fn prefer_others(nice: i32) {
    #[cfg(target_os = "linux")]
    if nice > 0 {
        // On Linux the priority is a thread's own. Without it hashing works as well, only in front of others.
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
            tracing::warn!(%error, "a thread that hashes passwords keeps its priority");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

fn hash(memory_kib: u32, secret: &str) -> Result<String, IdentityError> {
    let internal = |e: String| IdentityError::Internal(e);
    let params = Params::new(memory_kib, 2, 1, None).map_err(|e| internal(e.to_string()))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hashed = argon2.hash_password(secret.as_bytes()).map_err(|e| internal(e.to_string()))?;
    Ok(hashed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    /// Keeps every thread of a queue busy, and every place but so many taken, until the sender goes.
    fn occupy(threads: &Threads, left: usize) -> (std::sync::mpsc::Sender<()>, impl Sized + use<>) {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        for _ in 0..threads.pool.current_num_threads() {
            let wait = Arc::clone(&wait);
            threads.pool.spawn(move || {
                let _ = wait.lock().unwrap().recv();
            });
        }
        let taken = u32::try_from(threads.places.available_permits() - left).unwrap();
        (end, Arc::clone(&threads.places).try_acquire_many_owned(taken).unwrap())
    }

    #[tokio::test]
    async fn no_password_is_in_front_of_a_pin_and_no_stranger_in_front_of_who_is_known() {
        let hasher = Hasher::new(64, 1).unwrap();
        let hashed = hasher.hash(Queue::Known, "2468".into()).await.unwrap();
        let _flood = occupy(&hasher.anybody, 1);
        for queue in [Queue::Danger, Queue::Known] {
            let checked = hasher.check(queue, "2468".into(), Some(hashed.clone()));
            assert!(tokio::time::timeout(Duration::from_secs(10), checked).await.expect("in time").unwrap());
        }
        let sign_in = hasher.check(Queue::Anybody, "correct horse".into(), None);
        let in_time = tokio::time::timeout(Duration::from_millis(50), sign_in).await;
        assert!(in_time.is_err(), "it waits for its turn");
    }

    #[tokio::test]
    async fn one_too_many_is_told_when_to_come_again_and_a_pin_never_is() {
        let hasher = Hasher::new(64, 1).unwrap();
        let (end, _taken) = occupy(&hasher.anybody, 0);
        let refused = hasher.check(Queue::Anybody, "correct horse".into(), None).await;
        assert!(matches!(refused, Err(IdentityError::Busy(again)) if again == AGAIN), "{refused:?}");
        drop(end);
        let pins = (0..WAITING * 2).map(|_| hasher.check(Queue::Danger, "2468".into(), None));
        assert!(join_all(pins).await.into_iter().all(|checked| matches!(checked, Ok(false))));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_not_urgent_is_hashed_at_a_low_priority() {
        let hasher = Hasher::new(64, 1).unwrap();
        let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let usual = nice();
        assert_eq!(hasher.danger.run(nice).await.unwrap(), usual);
        for threads in [&hasher.known, &hasher.anybody] {
            assert_eq!(threads.run(nice).await.unwrap(), NICE);
        }
    }
}
