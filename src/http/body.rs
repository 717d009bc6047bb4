//! Reading a body: bounded, and every failure names what is wrong with it.

use super::Problem;
use super::problem::Code;
use crate::json::{unmarked, whole_numbers};
use crate::refusal::FieldFault;
use axum::body::Body as RawBody;
use axum::extract::{FromRequest, Request};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use std::time::Duration;
use tokio::time::timeout;

/// A usual body, at most.
pub(super) const SMALL: usize = 64 * 1024;
/// A body that carries many fixes or a large shape, at most.
pub(super) const LARGE: usize = 8 * 1024 * 1024;
/// What is still read of a body that is too large: a client that is cut off while it writes never sees the answer.
const DRAIN: usize = 16 * 1024 * 1024;
/// For a usual body to come.
const SMALL_WITHIN: Duration = Duration::from_secs(10);
/// For a large one, over a phone's uplink.
const LARGE_WITHIN: Duration = Duration::from_secs(45);
/// A body larger than this is not parsed on a thread that serves sockets.
const PARSE_IN_PLACE: usize = 256 * 1024;

/// A JSON body. Its content type does not matter if it parses.
pub(super) struct Body<T, const LIMIT: usize = SMALL>(pub(super) T);

/// A JSON body that may be left out.
pub(super) struct OptionalBody<T>(pub(super) T);

/// Why a body could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unread {
    /// It is over the limit.
    TooLarge,
    /// The client broke off.
    Broken,
    /// It did not come whole in time.
    Slow,
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::new(Code::TooLarge, "the body is too large"),
            Unread::Broken => Self::new(
                Code::InvalidRequest,
                "the body ended before it was complete, or is not compressed as it says",
            ),
            Unread::Slow => Self::unavailable("the body did not come in time; try again"),
        }
    }
}

impl<T, S, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT>
where
    T: DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let within = if LIMIT > SMALL { LARGE_WITHIN } else { SMALL_WITHIN };
        let bytes = read(request.into_body(), LIMIT, within).await?;
        if bytes.len() <= PARSE_IN_PLACE {
            return parse(&bytes).map(Self);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|_| Problem::internal())?.map(Self)
    }
}

impl<T, S> FromRequest<S> for OptionalBody<T>
where
    T: DeserializeOwned + Default,
    S: Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = read(request.into_body(), SMALL, SMALL_WITHIN).await?;
        match unmarked(&bytes).trim_ascii() {
            b"" | b"null" => Ok(Self(T::default())),
            _ => parse(&bytes).map(Self),
        }
    }
}

/// Reads a body of at most `limit` bytes that comes whole `within` so long.
pub(super) async fn read(body: RawBody, limit: usize, within: Duration) -> Result<Vec<u8>, Unread> {
    timeout(within, read_all(body, limit)).await.unwrap_or(Err(Unread::Slow))
}

async fn read_all(body: RawBody, limit: usize) -> Result<Vec<u8>, Unread> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Unread::Broken)?;
        length += chunk.len();
        if length <= limit {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
            if length > limit + DRAIN {
                break;
            }
        }
    }
    if length > limit { Err(Unread::TooLarge) } else { Ok(bytes) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = &*whole_numbers(unmarked(bytes));
    // serde would also read a struct from an array of its fields in their order, which no contract promises.
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    if !is_object && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        return Err(Problem::invalid("body", "a JSON object"));
    }
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if error.classify() != Category::Data {
        return Err(Problem::new(Code::InvalidRequest, format!("the body is not JSON: {error}")));
    }
    // Only a refused body pays for knowing where.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Err(placed) = serde_path_to_error::deserialize::<_, T>(&mut reader) else {
        return Err(Problem::new(Code::InvalidRequest, error.to_string()));
    };
    let (path, message) = (placed.path().to_string(), placed.inner().to_string());
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(said, _)| said);
    Err(Problem::invalid_fields(vec![fault_at(&path, message)]))
}

/// The fault of a field from what serde says: a missing or unknown field is named by the message, not by the path.
pub(super) fn fault_at(path: &str, message: &str) -> FieldFault {
    let path = path.trim_start_matches('.');
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .into_iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    let field = match named {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        _ if path.is_empty() => "body".to_owned(),
        _ => path.to_owned(),
    };
    FieldFault::new(field, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SignIn;

    async fn refused(json: &str) -> serde_json::Value {
        use axum::response::IntoResponse;
        let request = Request::new(RawBody::from(json.to_owned()));
        let Err(problem) = Body::<SignIn>::from_request(request, &()).await else {
            panic!("{json} was taken")
        };
        let bytes = axum::body::to_bytes(problem.into_response().into_body(), 10_000).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
    async fn field(json: &str) -> String {
        refused(json).await["errors"][0]["field"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn each_bad_field_is_named_with_its_path() {
        assert_eq!(field(r#"{"password":"x","device":{"name":"a","platform":"ios"}}"#).await, "handle");
        assert_eq!(
            field(r#"{"handle":"a","password":"x","device":{"platform":"ios"}}"#).await,
            "device.name"
        );
        let unknown = r#"{"handle":"a","password":"x","device":{"name":"a","platform":"ios","z":1}}"#;
        assert_eq!(field(unknown).await, "device.z");
        assert_eq!(field(r#"{"handle":"a","password":"x","x":1}"#).await, "x");
        assert_eq!(field(r#"{"handle":5}"#).await, "handle");
        let variant = r#"{"handle":"a","password":"x","device":{"name":"a","platform":"vax"}}"#;
        assert_eq!(field(variant).await, "device.platform");
        assert_eq!(field(r#"["ada","password",["phone","ios"]]"#).await, "body");
    }

    #[tokio::test]
    async fn what_is_not_json_is_refused_without_a_field() {
        for bad in ["", "{", "nonsense", "{\"handle\":1e999}"] {
            let problem = refused(bad).await;
            assert_eq!(problem["code"], "invalid_request");
            assert!(problem.get("errors").is_none(), "{problem}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_told_from_a_broken_one() {
        assert_eq!(read(RawBody::from(vec![b' '; 11]), 10, SMALL_WITHIN).await, Err(Unread::TooLarge));
        assert_eq!(read(RawBody::from(vec![b' '; 10]), 10, SMALL_WITHIN).await, Ok(vec![b' '; 10]));
        let broken = futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(RawBody::from_stream(broken), 10, SMALL_WITHIN).await, Err(Unread::Broken));
    }

    #[tokio::test]
    async fn a_body_that_may_be_left_out_is_still_checked_when_it_is_there() {
        #[derive(serde::Deserialize, Default, PartialEq, Debug)]
        #[serde(deny_unknown_fields)]
        struct Pin {
            pin: Option<String>,
        }
        let read = async |json: &'static str| {
            OptionalBody::<Pin>::from_request(Request::new(RawBody::from(json)), &()).await.map(|b| b.0)
        };
        assert_eq!(read(" ").await.unwrap(), Pin::default());
        assert_eq!(read(r#"{"pin":"1234"}"#).await.unwrap().pin.as_deref(), Some("1234"));
        assert!(read(r#"{"pni":"1234"}"#).await.is_err());
    }
}
