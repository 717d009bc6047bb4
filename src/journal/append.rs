//! Appending: which of a group are new, the record of them, the sync, and then the memory.

use super::pending::{Heap, Pending};
use super::segment::{self, Segment};
use super::{coding, flush};
use crate::clock::Timestamp;
use crate::error::{Fault, StoreError, Stored};
use crate::id::DeviceId;
use crate::runtime::{Tasks, Writes, blocking};
use crate::tracking::{FixBatch, FixKey, FixStore, NewFix};
use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Devices whose highest number is remembered.
const REMEMBERED: usize = 65_536;

/// When fixes go to the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many are a heap: larger ones cost the store less for each fix.
    pub heap: usize,
    /// A heap that does not fill waits no longer than this.
    pub age: Duration,
    /// So many may wait for a store that does not keep up; then those that append wait.
    pub most: usize,
    /// Until they are told that it does not answer.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { heap: 32_768, age: Duration::from_secs(5), most: 300_000, patience: Duration::from_secs(5) }
    }
}

/// The journal of one node, in front of a store of fixes.
pub struct Journal {
    pub(super) inner: Arc<dyn FixStore>,
    pub(super) limits: Limits,
    pub(super) folder: PathBuf,
    brought: HashMap<DeviceId, FixKey>,
    writing: Mutex<Writing>,
    pending: RwLock<Pending>,
    /// A heap is full.
    pub(super) full: Arc<Notify>,
    /// A heap is in the store.
    pub(super) freed: Notify,
    /// One flush at a time: the heap it moves, and the segments that heap is in.
    pub(super) unfinished: Mutex<Option<(Arc<Heap>, Vec<PathBuf>)>>,
    /// Finds the fix that the store refuses for good.
    pub(super) writes: Mutex<Writes>,
}

/// What the one that appends holds.
struct Writing {
    current: Option<Segment>,
    next_number: u64,
    /// The segments of the heap that is filling.
    of_heap: Vec<PathBuf>,
    /// The highest number of each device that sent lately: what is above it is new.
    highest: HashMap<DeviceId, i64>,
}

impl Journal {
    /// Opens the folder, brings what a crash left in it to the store, and starts the task that flushes.
    ///
    /// # Errors
    /// When the folder cannot be used or the store does not take what was left.
    pub async fn open(
        folder: &Path,
        inner: Arc<dyn FixStore>,
        limits: Limits,
        tasks: &Tasks,
    ) -> Stored<Arc<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed(folder, e))?;
        let mut writes = flush::writes();
        let (next_number, brought) = flush::replay(folder, &inner, &mut writes).await?;
        let writing = Writing { current: None, next_number, of_heap: Vec::new(), highest: HashMap::new() };
        let journal = Arc::new(Self {
            inner,
            limits,
            folder: folder.to_owned(),
            brought,
            writing: Mutex::new(writing),
            pending: RwLock::default(),
            full: Arc::default(),
            freed: Notify::new(),
            unfinished: Mutex::default(),
            writes: Mutex::new(writes),
        });
        flush::start(&journal, tasks);
        Ok(journal)
    }

    /// The devices of which a crash had left fixes here, each with the first place of them. They are in the store now,
    /// and nobody knows whether they were evaluated.
    pub fn brought(&self) -> &HashMap<DeviceId, FixKey> {
        &self.brought
    }

    pub(super) fn pending(&self) -> RwLockReadGuard<'_, Pending> {
        // A panic while inserting leaves fixes that are in the segment: the next start finds them.
        self.pending.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pending_mut(&self) -> RwLockWriteGuard<'_, Pending> {
        self.pending.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a group: on the disk when this returns.
    pub(super) async fn append(&self, fixes: &[NewFix]) -> Stored<FixBatch> {
        let mut writing = self.writing.lock().await;
        self.wait_for_room().await?;
        let (batch, new) = self.sort_out(&mut writing, fixes).await?;
        let again: Vec<usize> = {
            let pending = self.pending();
            let unheard =
                |n: &usize| fixes[*n].streamed && fixes[*n].fix.seq > pending.last_streamed(fixes[*n].device);
            batch.duplicates.iter().copied().filter(unheard).collect()
        };
        let noted: Vec<&NewFix> = new.iter().chain(&again).map(|n| &fixes[*n]).collect();
        if noted.is_empty() {
            return Ok(batch);
        }
        self.write(&mut writing, coding::encode(noted.into_iter())).await?;
        let filling = {
            let mut pending = self.pending_mut();
            pending.insert(new.iter().map(|n| fixes[*n].clone()));
            pending.streamed_again(again.iter().map(|n| fixes[*n].clone()));
            pending.filling()
        };
        for fix in new.iter().map(|n| &fixes[*n]) {
            let highest = writing.highest.entry(fix.device).or_insert(0);
            *highest = fix.fix.seq.max(*highest);
        }
        if filling >= self.limits.heap {
            self.full.notify_one();
        }
        Ok(batch)
    }

    /// A store that does not keep up slows the phones down, by their windows.
    async fn wait_for_room(&self) -> Stored<()> {
        let room = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                // From here on: a flush that ends while we look is heard.
                freed.as_mut().enable();
                if self.pending().len() < self.limits.most {
                    return;
                }
                freed.await;
            }
        };
        let full =
            || StoreError::new(Fault::Busy, "the store of fixes does not answer, and the journal is full");
        tokio::time::timeout(self.limits.patience, room).await.map_err(|_| full())
    }

    async fn write(&self, writing: &mut Writing, payload: Vec<u8>) -> Stored<()> {
        // Taken out: a write that fails, or whose caller goes, leaves a segment that takes no more.
        let current = writing.current.take();
        let (folder, number) = (self.folder.clone(), writing.next_number);
        if current.is_none() {
            writing.next_number += 1;
        }
        let written = blocking(move || {
            let segment = current.map_or_else(|| Segment::create(&folder, number), Ok)?;
            let appended = segment.append(&payload);
            Ok::<_, io::Error>((segment, appended))
        });
        let (segment, appended) = written.await.map_err(|e| failed(&self.folder, e))?;
        if writing.of_heap.last() != Some(&segment.path) {
            writing.of_heap.push(segment.path.clone());
        }
        appended.map_err(|e| failed(&segment.path, e))?;
        writing.current = Some(segment);
        Ok(())
    }

    /// Which of the group are new, by their places in it; and of the others what they are.
    async fn sort_out(&self, writing: &mut Writing, fixes: &[NewFix]) -> Stored<(FixBatch, Vec<usize>)> {
        self.remember(writing, fixes).await?;
        let mut highest: HashMap<DeviceId, i64> = HashMap::new();
        let (mut new, mut unsure) = (Vec::with_capacity(fixes.len()), Vec::new());
        for (n, fix) in fixes.iter().enumerate() {
            let known = || writing.highest.get(&fix.device).copied().unwrap_or(0);
            let highest = highest.entry(fix.device).or_insert_with(known);
            if fix.fix.seq > *highest {
                *highest = fix.fix.seq;
                new.push(n);
            } else {
                unsure.push(n);
            }
        }
        let mut batch = FixBatch::default();
        if unsure.is_empty() {
            return Ok((batch, new));
        }
        let mut times = self.times(unsure.iter().map(|n| &fixes[*n])).await?;
        for n in &new {
            let fix = &fixes[*n];
            times.entry((fix.device, fix.fix.seq)).or_insert(None).get_or_insert(fix.fix.fixed_at);
        }
        for n in unsure {
            let fix = &fixes[n];
            let time = times.entry((fix.device, fix.fix.seq)).or_insert(None);
            match time {
                None => {
                    *time = Some(fix.fix.fixed_at);
                    new.push(n);
                }
                Some(at) if *at == fix.fix.fixed_at => batch.duplicates.push(n),
                Some(_) => batch.conflicts.push(n),
            }
        }
        Ok((batch, new))
    }

    /// Finds the highest number of devices that have not sent for long.
    async fn remember(&self, writing: &mut Writing, fixes: &[NewFix]) -> Stored<()> {
        if writing.highest.len() > REMEMBERED {
            writing.highest.clear();
        }
        let unknown: HashSet<DeviceId> = fixes
            .iter()
            .map(|fix| fix.device)
            .filter(|device| !writing.highest.contains_key(device))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<DeviceId> = unknown.into_iter().collect();
        // First what waits and then the store: a flush in between moves fixes from there to here.
        let waiting: Vec<(DeviceId, i64)> = {
            let pending = self.pending();
            unknown.iter().map(|device| (*device, pending.highest(*device))).collect()
        };
        let stored = self.inner.highest(&unknown).await?;
        for (device, seq) in waiting.into_iter().chain(stored) {
            let highest = writing.highest.entry(device).or_insert(0);
            *highest = seq.max(*highest);
        }
        Ok(())
    }

    /// The times of these fixes' numbers, as far as they are known.
    async fn times<'f>(
        &self,
        fixes: impl Iterator<Item = &'f NewFix>,
    ) -> Stored<HashMap<(DeviceId, i64), Option<Timestamp>>> {
        let mut asked: HashMap<(DeviceId, i64), Option<Timestamp>> =
            fixes.map(|fix| ((fix.device, fix.fix.seq), None)).collect();
        self.pending().times(&mut asked);
        let rest: Vec<(DeviceId, i64)> =
            asked.iter().filter(|(_, time)| time.is_none()).map(|(number, _)| *number).collect();
        if !rest.is_empty() {
            for (device, seq, at) in self.inner.known(&rest).await? {
                asked.insert((device, seq), Some(at));
            }
        }
        Ok(asked)
    }

    /// A number for a segment that is not of any heap.
    pub(super) async fn next_number(&self) -> u64 {
        let mut writing = self.writing.lock().await;
        writing.next_number += 1;
        writing.next_number - 1
    }

    /// What is to be flushed, with the segments it is in; further fixes go to a new heap and a new segment.
    pub(super) async fn take_heap(&self) -> (Arc<Heap>, Vec<PathBuf>) {
        let mut writing = self.writing.lock().await;
        writing.current = None;
        (self.pending_mut().take(), std::mem::take(&mut writing.of_heap))
    }
}

pub(super) fn failed(path: &Path, error: io::Error) -> StoreError {
    StoreError::caused(Fault::Gone, format!("the journal {}: {error}", path.display()), error)
}

/// The segments that were left, and the number after theirs.
pub(super) fn left(folder: &Path) -> io::Result<(Vec<PathBuf>, u64)> {
    let found = segment::list(folder)?;
    let next = found.last().map_or(1, |(number, _)| number + 1);
    Ok((found.into_iter().map(|(_, path)| path).collect(), next))
}
