//! A value that is read once for all who ask for it within [`INTERVAL`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// How old a value may be that is given out.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What was read, or a sentence that says why it could not be.
type Read<T> = Result<Arc<T>, String>;

/// See the module.
pub struct Shared<T>(Mutex<Option<(Instant, Read<T>)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared(Mutex::default())
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// The value; `read` reads it on another thread, while those who ask wait, if there is none that is young enough. That it could not
    /// be read is remembered as long.
    pub async fn get(&self, read: impl FnOnce() -> Result<T> + Send + 'static) -> Read<T> {
        let mut last = self.0.lock().await;
        if let Some((at, value)) = &*last
            && at.elapsed() < INTERVAL
        {
            return value.clone();
        }
        let value = spawn_blocking(read).await.context("cannot read").and_then(|read| read);
        let value = value.map(Arc::new).map_err(|error| format!("{error:#}"));
        *last = Some((Instant::now(), value.clone()));
        value
    }

    /// Lets go of a value that is too old to be given out.
    pub async fn forget(&self) {
        let mut last = self.0.lock().await;
        if last.as_ref().is_some_and(|(at, _)| at.elapsed() >= INTERVAL) {
            *last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::bail;

    use super::*;

    #[test]
    fn many_who_ask_at_once_have_it_read_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (shared, reads) = (Arc::new(Shared::default()), Arc::new(AtomicU32::new(0)));
        let values = runtime.block_on(async {
            let asking = (0..50).map(|_| {
                let (shared, reads) = (shared.clone(), reads.clone());
                tokio::spawn(async move { shared.get(move || Ok(reads.fetch_add(1, Ordering::SeqCst))).await })
            });
            let mut values = Vec::new();
            for asked in asking.collect::<Vec<_>>() {
                values.push(*asked.await.unwrap().unwrap());
            }
            values
        });
        // As long as nothing holds this thread up for a second, all have the first value; a later one is as good.
        assert!(values.iter().all(|value| *value < reads.load(Ordering::SeqCst)));
        assert!(reads.load(Ordering::SeqCst) < 50);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_read_again_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shared = Shared::<u32>::default();
            let began = Instant::now();
            assert_eq!(shared.get(|| bail!("nothing is loaded")).await.unwrap_err(), "nothing is loaded");
            let again = shared.get(|| Ok(1)).await;
            // Where something holds this thread up, it is time to read again.
            assert!(again.is_err() || began.elapsed() >= INTERVAL);
        });
    }
}
