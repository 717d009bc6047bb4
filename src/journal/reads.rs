//! Reads find what waits and what is stored. What waits is looked at first: a flush in between moves fixes to the store,
//! where they are then found a second time, and never out of both.

use super::Journal;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId};
use crate::tracking::{
    Bounds, FixBatch, FixKey, FixStore, Incident, NewFix, StoredFix, TrackPage, TrailPart, TrailStore,
    event_order, last_of, newest_of,
};
use async_trait::async_trait;

/// The first of both, each once.
fn merged(waiting: Vec<StoredFix>, stored: Vec<StoredFix>, page: &TrackPage) -> Vec<StoredFix> {
    if waiting.is_empty() {
        return stored;
    }
    let mut all = stored;
    all.extend(waiting);
    page.first_of(all)
}

#[async_trait]
impl FixStore for Journal {
    async fn record(&self, fixes: &[NewFix]) -> Stored<FixBatch> {
        self.append(fixes).await
    }

    async fn known(&self, asked: &[(DeviceId, i64)]) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
        let mut waiting = asked.iter().map(|number| (*number, None)).collect();
        self.pending().times(&mut waiting);
        let mut known = self.inner.known(asked).await?;
        known.retain(|(device, seq, _)| waiting.get(&(*device, *seq)).is_none_or(Option::is_none));
        known.extend(waiting.into_iter().filter_map(|((device, seq), at)| Some((device, seq, at?))));
        Ok(known)
    }

    async fn highest(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        let mut highest: Vec<(DeviceId, i64)> = {
            let pending = self.pending();
            devices.iter().map(|device| (*device, pending.highest(*device))).collect()
        };
        for (device, seq) in self.inner.highest(devices).await? {
            if let Some((_, known)) = highest.iter_mut().find(|(of, _)| *of == device) {
                *known = seq.max(*known);
            }
        }
        highest.retain(|(_, seq)| *seq > 0);
        Ok(highest)
    }

    async fn last_seq(&self, device: DeviceId) -> Stored<i64> {
        let waiting = {
            let pending = self.pending();
            pending.last_streamed(device).max(pending.highest(device))
        };
        Ok(self.inner.last_seq(device).await?.max(waiting))
    }

    async fn latest(&self, device: DeviceId) -> Stored<Option<StoredFix>> {
        let waiting = self.pending().latest(device);
        let stored = self.inner.latest(device).await?;
        Ok(last_of(stored.into_iter().chain(waiting)))
    }

    async fn at(&self, device: DeviceId, times: &[Timestamp]) -> Stored<Vec<StoredFix>> {
        let mut found: Vec<StoredFix> = {
            let pending = self.pending();
            times.iter().flat_map(|at| pending.between(device, Bounds::at(*at))).collect()
        };
        found.extend(self.inner.at(device, times).await?);
        found.sort_by_key(event_order);
        found.dedup_by_key(|fix| event_order(fix));
        Ok(found)
    }

    async fn newest(&self, devices: &[DeviceId]) -> Stored<Option<StoredFix>> {
        let waiting = {
            let pending = self.pending();
            newest_of(devices.iter().filter_map(|device| pending.newest(*device, ..)))
        };
        Ok(newest_of(self.inner.newest(devices).await?.into_iter().chain(waiting)))
    }

    async fn page(&self, devices: &[DeviceId], page: TrackPage) -> Stored<Vec<StoredFix>> {
        let waiting = {
            let pending = self.pending();
            let of = |device: &DeviceId| pending.between(*device, page.bounds(*device));
            devices.iter().flat_map(of).filter(|stored| page.is_recent(stored)).collect()
        };
        Ok(merged(waiting, self.inner.page(devices, page).await?, &page))
    }

    async fn at_or_before(&self, device: DeviceId, at: FixKey) -> Stored<Option<StoredFix>> {
        let waiting = self.pending().newest(device, ..=at);
        Ok(newest_of(self.inner.at_or_before(device, at).await?.into_iter().chain(waiting)))
    }

    async fn after(&self, device: DeviceId, after: FixKey, limit: u32) -> Stored<Vec<StoredFix>> {
        let page = TrackPage::forwards(Some((after.0, device, after.1)), limit);
        let waiting = self.pending().between(device, page.bounds(device)).collect();
        Ok(merged(waiting, self.inner.after(device, after, limit).await?, &page))
    }
}

/// Trails are made of stored fixes, so what waits is stored before anybody asks which have had their time.
#[async_trait]
impl TrailStore for Journal {
    async fn expired(&self, kept_from: &[(DeviceId, Timestamp)]) -> Stored<Vec<DeviceId>> {
        self.flush().await?;
        self.inner.expired(kept_from).await
    }
    async fn expire(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64> {
        self.inner.expire(device, before, incidents).await
    }
    async fn trail_page(
        &self,
        devices: &[DeviceId],
        parts: &[TrailPart],
        page: TrackPage,
    ) -> Stored<Vec<StoredFix>> {
        self.inner.trail_page(devices, parts, page).await
    }
    async fn newest_of_trail(&self, devices: &[DeviceId], parts: &[TrailPart]) -> Stored<Option<StoredFix>> {
        self.inner.newest_of_trail(devices, parts).await
    }
    async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64> {
        self.inner.drop_trail(emergency).await
    }
    async fn wipe_fixes(&self) -> Stored<()> {
        self.inner.wipe_fixes().await
    }
}
