//! Passwords and PINs: argon2id, off the threads that serve sockets, a few at a time.

use super::IdentityError;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Hashes and checks secrets. At most `at_once` run at a time: a flood of sign-ins costs bounded memory and cores. PINs, which
/// end emergencies, wait for PINs alone.
#[derive(Clone)]
pub struct Hasher {
    memory_kib: u32,
    permits: Arc<Semaphore>,
    for_pins: Arc<Semaphore>,
    /// Checked when there is nothing to check, so that the answer takes as long.
    decoy: Arc<str>,
}

impl Hasher {
    /// With so much memory a hash (KiB; OWASP's floor for two passes is 19,456) and so many at a time.
    ///
    /// # Errors
    /// When argon2 refuses the parameters.
    pub fn new(memory_kib: u32, at_once: usize) -> Result<Self, IdentityError> {
        let decoy = hash(memory_kib, "nobody's secret")?.into();
        let permits = || Arc::new(Semaphore::new(at_once.max(1)));
        Ok(Self { memory_kib, permits: permits(), for_pins: permits(), decoy })
    }

    /// The PHC string of a secret.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when hashing failed.
    pub async fn hash(&self, secret: String) -> Result<String, IdentityError> {
        let memory_kib = self.memory_kib;
        run(&self.permits, move || hash(memory_kib, &secret)).await?
    }

    /// Whether the password is the one that was hashed. `None` takes as long and is never right.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when the check could not be made.
    pub async fn check(&self, password: String, hashed: Option<String>) -> Result<bool, IdentityError> {
        self.check_by(&self.permits, password, hashed).await
    }

    /// As [`Hasher::check`], of a PIN: no password is in front of it.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when the check could not be made.
    pub async fn check_pin(&self, pin: String, hashed: Option<String>) -> Result<bool, IdentityError> {
        self.check_by(&self.for_pins, pin, hashed).await
    }

    async fn check_by(
        &self,
        permits: &Semaphore,
        secret: String,
        hashed: Option<String>,
    ) -> Result<bool, IdentityError> {
        let decoy = Arc::clone(&self.decoy);
        run(permits, move || {
            let (phc, real) = hashed.as_deref().map_or((&*decoy, false), |h| (h, true));
            let parsed = PasswordHash::new(phc).map_err(|e| IdentityError::Internal(e.to_string()))?;
            Ok(Argon2::default().verify_password(secret.as_bytes(), &parsed).is_ok() && real)
        })
        .await?
    }
}

async fn run<T: Send + 'static>(
    permits: &Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, IdentityError> {
    let internal = |_| IdentityError::Internal("the hashing thread ended".into());
    let _permit = permits.acquire().await.map_err(|e| IdentityError::Internal(e.to_string()))?;
    tokio::task::spawn_blocking(work).await.map_err(internal)
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
    use std::time::Duration;

    #[tokio::test]
    async fn no_password_is_in_front_of_a_pin() {
        let hasher = Hasher::new(64, 1).unwrap();
        let hashed = hasher.hash("2468".into()).await.unwrap();
        let _flood = hasher.permits.acquire().await.unwrap();
        let checked = hasher.check_pin("2468".into(), Some(hashed));
        assert!(tokio::time::timeout(Duration::from_secs(10), checked).await.expect("in time").unwrap());
        let sign_in = hasher.check("correct horse".into(), None);
        assert!(
            tokio::time::timeout(Duration::from_millis(50), sign_in).await.is_err(),
            "it waits for its turn"
        );
    }
}
