//! The fixes.

use crate::world::{fix, new_fix};
use crate::{T0, World, after, id};
use cima::geo::{Fix, MAX_SEQ, unnumbered};
use cima::id::DeviceId;
use cima::tracking::{FixBatch, NewFix, Reading, StoredFix, TrackPage, event_order};

fn device() -> DeviceId {
    DeviceId(id())
}

fn kept(new: &NewFix) -> StoredFix {
    StoredFix { device: new.device, fix: new.fix.clone(), received_at: new.received_at }
}

pub(crate) async fn a_fix_reads_back_as_it_was_recorded(w: &World) {
    let phone = device();
    let full =
        Fix { speed_mps: Some(1.25), battery: Some(0.5), ..fix(3, after(3), -89.999_999_9, 179.123_456_789) };
    let bare =
        Fix { accuracy_m: None, altitude_m: None, course_deg: None, ..fix(MAX_SEQ, after(4), 0.0, -180.0) };
    let news: Vec<NewFix> = [full, bare]
        .into_iter()
        .map(|fix| NewFix { device: phone, fix, received_at: after(9), streamed: false })
        .collect();
    assert_eq!(w.fixes.record(&news).await.unwrap(), FixBatch::default());
    let read = w.fixes.after(phone, (T0, 0), 10).await.unwrap();
    assert_eq!(read, news.iter().map(kept).collect::<Vec<_>>());
    assert_eq!(w.fixes.newest(&[device(), phone]).await.unwrap(), Some(kept(&news[1])));
    assert_eq!(w.fixes.newest(&[device()]).await.unwrap(), None);
    assert_eq!(w.fixes.newest(&[]).await.unwrap(), None);
    assert_eq!(w.fixes.record(&[]).await.unwrap(), FixBatch::default());
}

pub(crate) async fn a_repeat_is_a_duplicate_and_another_time_a_conflict(w: &World) {
    let phone = device();
    let first = [new_fix(phone, 1, after(1)), new_fix(phone, 2, after(2))];
    w.fixes.record(&first).await.unwrap();
    let elsewhere = NewFix { fix: fix(2, after(2), 1.0, 1.0), ..first[1].clone() };
    let again =
        [elsewhere, new_fix(phone, 3, after(3)), new_fix(phone, 1, after(7)), new_fix(device(), 1, after(1))];
    let batch = w.fixes.record(&again).await.unwrap();
    assert_eq!(batch, FixBatch { duplicates: vec![0], conflicts: vec![2] });
    let stored = w.fixes.after(phone, (T0, 0), 10).await.unwrap();
    assert_eq!(stored, vec![kept(&first[0]), kept(&first[1]), kept(&again[1])], "the first one stays");
    let repeat = w.fixes.record(&again).await.unwrap();
    assert_eq!(repeat, FixBatch { duplicates: vec![0, 1, 3], conflicts: vec![2] });
}

pub(crate) async fn repeats_within_a_group_are_told_apart(w: &World) {
    let phone = device();
    let group = [
        new_fix(phone, 1, after(1)),
        new_fix(phone, 1, after(1)),
        new_fix(phone, 1, after(5)),
        new_fix(phone, 2, after(5)),
    ];
    let batch = w.fixes.record(&group).await.unwrap();
    assert_eq!(batch, FixBatch { duplicates: vec![1], conflicts: vec![2] });
    assert_eq!(w.fixes.after(phone, (T0, 0), 10).await.unwrap(), vec![kept(&group[0]), kept(&group[3])]);
}

pub(crate) async fn a_large_group_of_many_devices_is_told_apart(w: &World) {
    let phones: Vec<DeviceId> = (0..97).map(|_| device()).collect();
    let phone = |n: usize| phones[n % phones.len()];
    let first: Vec<NewFix> = (0..2_777).map(|n| new_fix(phone(n), n as i64 + 1, after(n as u64))).collect();
    assert_eq!(w.fixes.record(&first).await.unwrap(), FixBatch::default());
    // Every tenth is known already, every hundredth with another time.
    let second: Vec<NewFix> = (0..2_777)
        .map(|n| match n % 100 {
            7 => new_fix(phone(n), n as i64 + 1, after(900_000)),
            _ if n % 10 == 3 => first[n].clone(),
            _ => new_fix(phone(n), n as i64 + 10_001, after(10_000 + n as u64)),
        })
        .collect();
    let batch = w.fixes.record(&second).await.unwrap();
    let all = 0..2_777_usize;
    assert_eq!(batch.conflicts, all.clone().filter(|n| n % 100 == 7).collect::<Vec<_>>());
    assert_eq!(batch.duplicates, all.filter(|n| n % 10 == 3).collect::<Vec<_>>());
    let mut stored = 0;
    for phone in &phones {
        stored += w.fixes.after(*phone, (T0, 0), 10_000).await.unwrap().len();
    }
    assert_eq!(stored, 2 * 2_777 - batch.conflicts.len() - batch.duplicates.len());
    let newest: i64 = second.iter().filter(|f| f.device == phones[5]).map(|f| f.fix.seq).max().unwrap();
    assert_eq!(w.fixes.last_seq(phones[5]).await.unwrap(), newest);
}

pub(crate) async fn last_seq_is_the_highest_whatever_way_it_came(w: &World) {
    let (phone, other) = (device(), device());
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 0);
    let group = [new_fix(phone, 9, after(9)), new_fix(phone, 8, after(8)), new_fix(other, 70, after(1))];
    w.fixes.record(&group).await.unwrap();
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 9);
    let uploaded = NewFix { streamed: false, ..new_fix(phone, 50, after(50)) };
    w.fixes.record(&[uploaded]).await.unwrap();
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 50);
    w.fixes.record(&[new_fix(phone, 50, after(51)), new_fix(phone, 3, after(3))]).await.unwrap();
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 50, "an older one moves nothing");
    assert_eq!(w.fixes.last_seq(other).await.unwrap(), 70);
}

pub(crate) async fn the_latest_fix_is_the_one_with_the_highest_number(w: &World) {
    let phone = device();
    assert_eq!(w.fixes.latest(phone).await.unwrap(), None);
    // Its clock is set back after the second one.
    let group =
        [new_fix(phone, 1, after(7_000)), new_fix(phone, 2, after(7_001)), new_fix(phone, 3, after(100))];
    w.fixes.record(&group).await.unwrap();
    assert_eq!(w.fixes.latest(phone).await.unwrap().map(|found| found.fix.seq), Some(3));
    assert_eq!(w.fixes.newest(&[phone]).await.unwrap().map(|found| found.fix.seq), Some(2));
}

pub(crate) async fn pages_go_through_all_devices_in_event_order(w: &World) {
    let phones = [device(), device(), device()];
    let mut all = Vec::new();
    for (n, phone) in phones.iter().enumerate() {
        for seq in 1..=20 {
            // Often at the same moment, on one phone and on several.
            all.push(new_fix(*phone, seq, after((seq as u64) / (n as u64 + 1))));
        }
    }
    w.fixes.record(&all).await.unwrap();
    w.fixes.record(&[new_fix(device(), 1, after(5))]).await.unwrap();
    let (from, to) = (after(2), after(15));
    let mut expected: Vec<StoredFix> =
        all.iter().filter(|f| (from..to).contains(&f.fix.fixed_at)).map(kept).collect();
    expected.sort_by_key(|s| (s.fix.fixed_at, s.device, s.fix.seq));
    for reading in [Reading::Forwards, Reading::Backwards] {
        for limit in [1, 4, 1_000] {
            let mut seen: Vec<StoredFix> = Vec::new();
            loop {
                let page = TrackPage::between(from, to, seen.last().map(event_order), limit);
                let page = TrackPage { reading, ..page };
                let page = w.fixes.page(&phones, page).await.unwrap();
                assert!(page.len() <= limit as usize);
                if page.is_empty() {
                    break;
                }
                seen.extend(page);
            }
            assert_eq!(seen, expected, "{limit} a page, {reading:?}");
        }
        expected.reverse();
    }
    let page = TrackPage::between(from, to, None, 10);
    let empty = TrackPage { from: to, to: from, ..page };
    assert!(w.fixes.page(&phones, empty).await.unwrap().is_empty());
    assert!(w.fixes.page(&[], page).await.unwrap().is_empty());
}

pub(crate) async fn a_page_may_begin_where_something_was_received(w: &World) {
    let phone = device();
    // Slow by an hour, and one that came late.
    let received =
        |n: i64, taken: u64, at: u64| NewFix { received_at: after(at), ..new_fix(phone, n, after(taken)) };
    let group = [received(1, 5_000, 8_600), received(2, 5_001, 5_002), received(3, 9_000, 9_000)];
    w.fixes.record(&group).await.unwrap();
    let page = TrackPage { since: after(8_000), ..TrackPage::forwards(None, 10) };
    let seqs = |found: Vec<StoredFix>| found.into_iter().map(|s| s.fix.seq).collect::<Vec<_>>();
    assert_eq!(seqs(w.fixes.page(&[phone], page).await.unwrap()), [1, 3]);
    let backwards = TrackPage { reading: Reading::Backwards, ..page };
    assert_eq!(seqs(w.fixes.page(&[phone], backwards).await.unwrap()), [3, 1]);
}

pub(crate) async fn a_fix_without_a_number_is_kept_like_any_other(w: &World) {
    let phone = device();
    let fix = |at: u64| {
        let numbered = new_fix(phone, 1, after(at));
        let seq = unnumbered(numbered.fix.fixed_at, numbered.fix.point, "");
        NewFix { fix: Fix { seq, ..numbered.fix }, ..numbered }
    };
    let (first, second) = (fix(10), fix(20));
    let none = FixBatch::default();
    assert_eq!(w.fixes.record(&[second.clone(), first.clone()]).await.unwrap(), none);
    let again = FixBatch { duplicates: vec![0], ..FixBatch::default() };
    assert_eq!(w.fixes.record(std::slice::from_ref(&first)).await.unwrap(), again);
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 0, "it has no number to go on from");
    assert_eq!(w.fixes.latest(phone).await.unwrap(), Some(kept(&second)));
    assert_eq!(w.fixes.at(phone, &[after(10), after(11)]).await.unwrap(), [kept(&first)]);
    let all = w.fixes.page(&[phone], TrackPage::forwards(None, 10)).await.unwrap();
    assert_eq!(all, [kept(&first), kept(&second)]);
    // Beside numbers, the later by its time is the last.
    w.fixes.record(&[new_fix(phone, 7, after(15))]).await.unwrap();
    assert_eq!(w.fixes.latest(phone).await.unwrap(), Some(kept(&second)));
    w.fixes.record(&[new_fix(phone, 8, after(25))]).await.unwrap();
    assert_eq!(w.fixes.latest(phone).await.unwrap().map(|s| s.fix.seq), Some(8));
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 8);
}

pub(crate) async fn after_is_in_event_order(w: &World) {
    let phone = device();
    let times = [(5, 50), (1, 10), (9, 10), (2, 70), (7, 60)];
    let fixes: Vec<NewFix> = times.iter().map(|(seq, at)| new_fix(phone, *seq, after(*at))).collect();
    w.fixes.record(&fixes).await.unwrap();
    let seqs = async |place, limit| -> Vec<i64> {
        let read = w.fixes.after(phone, place, limit).await.unwrap();
        read.into_iter().map(|s| s.fix.seq).collect()
    };
    assert_eq!(seqs((T0, 0), 10).await, vec![1, 9, 5, 7, 2]);
    assert_eq!(seqs((after(10), 1), 2).await, vec![9, 5]);
    assert_eq!(seqs((after(50), 5), 10).await, vec![7, 2]);
    assert_eq!(seqs((after(70), 2), 10).await, Vec::<i64>::new());
    let newest = w.fixes.newest(&[phone]).await.unwrap().unwrap();
    assert_eq!(newest.fix.seq, 2, "newest by its time, not its number");
}
