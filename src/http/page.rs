//! Pages, query parameters and ids of paths.

use super::Problem;
use super::body::fault_at;
use axum::extract::{FromRequestParts, Path, Query as RawQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Items of a page if the client does not say.
const LIMIT: u32 = 100;
/// Items of a page, at most.
const MAX_LIMIT: u32 = 1_000;

/// A part of a list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    /// The items.
    items: Vec<T>,
    /// Give it as `after` for the next page; null at the end.
    next: Option<String>,
}

impl<T> Page<T> {
    /// A page of what was found; one more than `limit` was asked for, to know whether there is another.
    pub(super) fn of(mut found: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(cursor);
        Self { items: found, next }
    }

    /// A list that is always whole.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The same page of something made of each item.
    pub(super) fn map<U>(self, make: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(make).collect(), next: self.next }
    }
}

/// Which part of a list.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// `next` of the page before.
    pub(super) after: Option<String>,
    /// Items, at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub(super) limit: Option<u32>,
}

/// How many items to show.
pub(super) fn limit(given: Option<u32>) -> Result<u32, Problem> {
    let limit = given.unwrap_or(LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) { Ok(limit) } else { Err(Problem::invalid("limit", "1 to 1,000")) }
}

/// Where to go on.
pub(super) fn after<T: FromStr>(given: Option<&str>) -> Result<Option<T>, Problem> {
    let read = |text: &str| text.parse().map_err(|_| Problem::invalid("after", "the next of a page"));
    given.map(read).transpose()
}

/// Query parameters; one that is not known is refused.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = RawQuery::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let said = text.split_once("query string: ").map_or(text.as_str(), |(_, said)| said);
            let (path, message) =
                said.split_once(": ").filter(|(p, _)| !p.contains(' ')).unwrap_or(("", said));
            Problem::invalid_fields(vec![fault_at(path, message)])
        })
    }
}

/// The id of a path. A malformed one is one that is not there.
pub(super) struct Id<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let id = text.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(Problem::not_found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn query(uri: &str) -> Result<PageQuery, Problem> {
        let (mut parts, ()) = axum::http::Request::get(uri).body(()).unwrap().into_parts();
        Query::<PageQuery>::from_request_parts(&mut parts, &()).await.map(|q| q.0)
    }

    #[tokio::test]
    async fn query_parameters_are_checked_by_name_and_value() {
        let read = query("/x?after=7&limit=5").await.unwrap();
        assert_eq!((after::<i64>(read.after.as_deref()).unwrap(), limit(read.limit).unwrap()), (Some(7), 5));
        for (uri, field) in [("/x?limit=x", "limit"), ("/x?surprise=1", "surprise"), ("/x?limit=-1", "limit")]
        {
            let Err(problem) = query(uri).await else { panic!("{uri} was taken") };
            assert!(problem.detail().starts_with(&format!("{field}: ")), "{}", problem.detail());
        }
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err() && limit(None).is_ok());
        assert!(after::<i64>(Some("x")).is_err());
    }

    #[test]
    fn only_a_page_that_is_followed_has_a_next() {
        let page = Page::of(vec![1, 2, 3], 2, ToString::to_string);
        assert_eq!((page.items, page.next.as_deref()), (vec![1, 2], Some("2")));
        assert_eq!(Page::of(vec![1, 2], 2, ToString::to_string).next, None);
    }
}
