//! `POST /v1/locations`: fixes that could not be streamed when they were taken.

use super::Problem;
use super::auth::Distress;
use super::body::{Body, LARGE};
use super::docs::{NoToken, Unusable};
use super::problem::Code;
use crate::geo::{Fix, FixRefusal, Note, Noted, RawFix, ReadFix, Terms, checked};
use crate::services::Services;
use crate::usecases::fixes as usecase;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Fixes of one request, at most.
const MAX_FIXES: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(send_fixes))
}

/// Fixes to store. Each is read on its own, so that one that is broken costs no other.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct FixesIn {
    /// Up to 10,000.
    #[schema(value_type = Vec<RawFix>, max_items = 10_000)]
    fixes: Vec<Box<RawValue>>,
}

/// What became of the fixes.
#[derive(Serialize, utoipa::ToSchema)]
struct FixesTaken {
    /// Newly stored.
    accepted: usize,
    /// There already, with the same time.
    duplicates: usize,
    /// Not stored, each with the reason.
    rejected: Vec<Rejected>,
    /// What was left out of fixes that are stored, or replaced; each is named once, with the first fix it was found in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Notes>,
}

/// What was left out of a fix that is stored.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
struct Notes {
    /// Its number; null if it has none.
    #[schema(required = true)]
    seq: Option<i64>,
    /// What, and why.
    notes: Vec<Note>,
}

/// A fix that was not stored.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
struct Rejected {
    /// Its number; null if it has none or it cannot be read.
    seq: Option<i64>,
    /// Why.
    #[schema(value_type = String)]
    code: &'static str,
}

/// The fixes of one request after they were read.
struct Sorted {
    /// In event order, which is how they are evaluated.
    fixes: Vec<Fix>,
    duplicates: usize,
    rejected: Vec<Rejected>,
    notes: Vec<Notes>,
    /// Numbers of fixes whose time was replaced by that of their arrival: again they are the same.
    retimed: HashSet<i64>,
}

/// Stores fixes. They are on disk when this answers; a repeat changes nothing.
#[utoipa::path(
    post, path = "/v1/locations", tag = "locations",
    security(("access" = []), ("distress" = [])),
    request_body = FixesIn,
    responses((status = 200, description = "What became of them", body = FixesTaken), Unusable, NoToken)
)]
async fn send_fixes(
    State(services): State<Services>,
    Distress(caller): Distress,
    Body(given): Body<FixesIn, LARGE>,
) -> Result<Json<FixesTaken>, Problem> {
    if given.fixes.len() > MAX_FIXES {
        return Err(Problem::new(Code::TooLarge, "at most 10,000 fixes in one request"));
    }
    let retention = usecase::retention(&services, caller.user).await?;
    let now = services.clock.now();
    let terms = Terms { now, retention, at_any_time: false, may_lack_number: true };
    let mut sorted = sort(&given.fixes, &terms);
    // Only who is refused something is looked up.
    if !sorted.rejected.is_empty() && usecase::any_time_until(&services, caller.user).await > Some(now) {
        sorted = sort(&given.fixes, &Terms { at_any_time: true, ..terms });
    }
    let Sorted { fixes, duplicates, mut rejected, notes, retimed } = sorted;
    let sent = fixes.len();
    let mut recorded = usecase::store(&services, caller, fixes).await?;
    let (again, conflicts) = recorded.conflicts.into_iter().partition(|seq| retimed.contains(seq));
    recorded.conflicts = conflicts;
    recorded.duplicates.extend::<Vec<i64>>(again);
    let conflict =
        |seq: &i64| Rejected { seq: Some(*seq).filter(|seq| *seq > 0), code: FixRefusal::SeqConflict.code() };
    rejected.extend(recorded.conflicts.iter().map(conflict));
    for refused in &rejected {
        metrics::counter!("cima_fixes_rejected_total", "code" => refused.code).increment(1);
    }
    Ok(Json(FixesTaken {
        accepted: sent - recorded.duplicates.len() - recorded.conflicts.len(),
        duplicates: duplicates + recorded.duplicates.len(),
        rejected,
        notes,
    }))
}

/// Reads and checks each fix; of one `seq` the first counts.
fn sort(given: &[Box<RawValue>], terms: &Terms) -> Sorted {
    let mut sorted = Sorted {
        fixes: Vec::with_capacity(given.len()),
        duplicates: 0,
        rejected: Vec::new(),
        notes: Vec::new(),
        retimed: HashSet::new(),
    };
    let (mut times, mut noted) = (HashMap::with_capacity(given.len()), Noted::default());
    for raw in given {
        let read = RawFix::read(raw.get()).map_err(|refusal| (refusal, raw.get()));
        match checked(read, terms) {
            Ok(ReadFix { fix, notes }) => match times.get(&fix.seq) {
                None => {
                    times.insert(fix.seq, fix.fixed_at);
                    if notes.iter().any(|note| note.field == "fixed_at") {
                        sorted.retimed.insert(fix.seq);
                    }
                    let notes = noted.news(notes);
                    if !notes.is_empty() {
                        sorted.notes.push(Notes { seq: fix.number(), notes });
                    }
                    sorted.fixes.push(fix);
                }
                Some(at) if *at == fix.fixed_at => sorted.duplicates += 1,
                Some(_) => {
                    let code = FixRefusal::SeqConflict.code();
                    sorted.rejected.push(Rejected { seq: fix.number(), code });
                }
            },
            Err(refusal) => {
                let seq = RawFix::number_in(raw.get());
                sorted.rejected.push(Rejected { seq, code: refusal.code() });
            }
        }
    }
    sorted.fixes.sort_by_key(Fix::order);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

    fn sorted(fixes: &[&str]) -> Sorted {
        let raw: Vec<_> = fixes.iter().map(|f| RawValue::from_string((*f).to_owned()).unwrap()).collect();
        let retention = std::time::Duration::from_secs(86_400);
        sort(&raw, &Terms { now: NOW, retention, at_any_time: false, may_lack_number: true })
    }
    fn fix(seq: i64, second: u32) -> String {
        format!(r#"{{"seq":{seq},"lat":1,"lon":2,"fixed_at":"2027-01-15T07:59:{second:02}Z"}}"#)
    }

    #[test]
    fn one_broken_fix_costs_no_other_and_is_named() {
        let good = fix(1, 1);
        let sorted = sorted(&[
            "7",
            r#"{"seq":2,"lat":1,"lon":1e999,"fixed_at":"2027-01-15T08:00:00Z"}"#,
            &good,
            r#"{"seq":3,"lat":91,"lon":1,"fixed_at":"2027-01-15T08:00:00Z"}"#,
            r#"{"seq":4,"lat":1,"lon":1}"#,
        ]);
        assert_eq!(sorted.fixes.len(), 1);
        let named: Vec<_> = sorted.rejected.iter().map(|r| (r.seq, r.code)).collect();
        let expected = [
            (None, "invalid_fix"),
            (Some(2), "not_finite"),
            (Some(3), "out_of_range"),
            (Some(4), "invalid_fix"),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn a_repeat_in_one_request_is_a_duplicate_or_a_conflict() {
        let (second, first, other) = (fix(2, 2), fix(1, 1), fix(2, 3));
        let sorted = sorted(&[&second, &first, &second, &other]);
        assert_eq!(sorted.fixes.iter().map(|f| f.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(sorted.duplicates, 1);
        assert_eq!(sorted.rejected, [Rejected { seq: Some(2), code: "seq_conflict" }]);
    }
}
