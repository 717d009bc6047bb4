//! The documents: what handlers cannot say of themselves for OpenAPI, and the stream's own for AsyncAPI.

use super::problem::{Code, ProblemBody, status};
use crate::refusal::FieldFault;
use crate::services::Services;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi as Document, PathItem, Ref, RefOr};
use utoipa::{IntoResponses, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "cima",
        description = "The open backend for personal safety. What is not yours is `not_found`; a position that \
            cannot be seen is `not_available`, with the same bytes for every reason. The stream, `GET /v1/stream`, \
            is described in `/asyncapi.json`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This node")),
    external_docs(url = "/asyncapi.json", description = "The stream, as AsyncAPI 3.0"),
    components(schemas(ProblemBody, FieldFault)),
    tags(
        (name = "identity", description = "Accounts, sessions, devices."),
        (name = "trust", description = "Who may know what of whom."),
        (name = "geofences", description = "Places that tell when they are entered or left."),
        (name = "locations", description = "Fixes, and who may see them."),
        (name = "emergencies", description = "Raising, ending, claiming."),
        (name = "check-ins", description = "Timers that raise an emergency unless they are completed."),
        (name = "alerts", description = "A person's inbox."),
        (name = "operations", description = "For those who run it."),
    )
)]
struct Base;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(get_asyncapi))
}

/// The AsyncAPI 3.0 document of the stream.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "operations",
    responses((status = 200, description = "The document", body = Object))
)]
async fn get_asyncapi() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| crate::stream::document().to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// The document without its paths.
pub(super) fn base() -> Document {
    let mut document = Base::openapi();
    let token = |described: &str| {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".into());
        scheme.description = Some(described.into());
        SecurityScheme::Http(scheme)
    };
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("access", token("The access token of a session; 15 minutes."));
    components.add_security_scheme(
        "distress",
        token("The distress token of a device; 180 days. Raises, ends with PIN, sends fixes, reads nothing."),
    );
    document
}

/// The document of the routes with what is true of every operation.
pub(super) fn complete(mut document: Document) -> Document {
    for (path, item) in &mut document.paths.paths {
        // What every node answers is never another's.
        let misdirected = path.starts_with("/v1/").then_some(Code::Misdirected);
        for operation in operations(item) {
            let responses = &mut operation.responses.responses;
            for code in [Code::Internal, Code::Unavailable].into_iter().chain(misdirected) {
                let status = status(code).as_u16().to_string();
                responses.entry(status).or_insert_with(|| RefOr::T(refusal(&[code])));
            }
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}

fn refusal(codes: &[Code]) -> Response {
    let words: Vec<String> = codes.iter().map(|code| format!("`{}`", code.word())).collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(words.join(", ")).content("application/problem+json", content).build()
}

fn refusals(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<Code>>::new();
    for code in codes {
        by_status.entry(status(*code).as_u16()).or_default().push(*code);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), RefOr::T(refusal(&codes)))).collect()
}

/// Sets of refusals to name in a handler's `responses(..)`; a later one of the same status takes the place.
macro_rules! refusal_sets {
    ($($(#[$doc:meta])* $name:ident: $($code:ident)+;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;
        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                refusals(&[$(Code::$code),+])
            }
        }
    )+};
}

refusal_sets! {
    /// Of a route with a body.
    Unusable: InvalidRequest TooLarge UnsupportedCoding;
    /// Of a route with query parameters.
    BadQuery: InvalidRequest;
    /// Of a route for access tokens.
    NoAccess: Unauthenticated Forbidden;
    /// Of a route for access and distress tokens.
    NoToken: Unauthenticated;
    /// Of a route that signs in.
    NotSignedIn: Unauthenticated RateLimited;
    /// Of a route that hashes a secret: too many may wait already.
    Busy: RateLimited;
    /// Of a route that needs step-up.
    NoStepUp: Unauthenticated Forbidden StepUpRequired;
    /// Of a route that takes a PIN.
    BadPin: Unauthenticated PinRequired PinWrong RateLimited;
    /// Of a route that names something.
    Missing: NotFound;
    /// Of a route that shows a position.
    Hidden: NotAvailable;
    /// Of a route that something may stand against.
    Conflicting: Conflict;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    fn document() -> serde_json::Value {
        serde_json::to_value(super::complete(crate::http::routes(true).into_openapi())).unwrap()
    }

    fn references(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                found.extend(map.get("$ref").and_then(|r| r.as_str()).map(str::to_owned));
                map.values().for_each(|v| references(v, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn every_operation_has_its_own_name_an_answer_and_its_refusals() {
        let document = document();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} twice");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|s| s.starts_with('2')), "{method} {path} has no answer");
                assert!(responses.contains_key("503"), "{method} {path}");
                assert_eq!(responses.contains_key("421"), path.starts_with("/v1/"), "{method} {path}");
                let open = operation.get("security").is_none();
                assert!(open || responses.contains_key("401"), "{method} {path} names no 401");
                assert!(operation["tags"].as_array().is_some_and(|t| !t.is_empty()), "{method} {path}");
            }
        }
        assert!(names.len() >= 39, "{}", names.len());
    }
}
