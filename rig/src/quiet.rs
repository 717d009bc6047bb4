//! Threads for phones that flood. The machine that the phones and the server share is one: who floods takes what is left of
//! it, as a stranger on a machine of their own would take none.

use tokio::runtime::{Builder, Handle, Runtime};

/// How much others are preferred (`nice`, up to 19).
const NICE: i32 = 10;

/// A runtime whose threads everything else goes before.
pub struct Quiet(Option<Runtime>);

impl Quiet {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start() -> std::io::Result<Self> {
        let prefer_others = || {
            // On Linux the priority is a thread's own.
            let done = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            assert!(done.is_ok(), "a thread may always be less urgent: {done:?}");
        };
        let runtime = Builder::new_multi_thread().enable_all().on_thread_start(prefer_others).build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where to spawn.
    pub fn handle(&self) -> &Handle {
        self.0.as_ref().map(Runtime::handle).unwrap()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A runtime may not be waited for inside another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
