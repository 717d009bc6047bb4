//! A person's own account, and who has seen them.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadQuery, Busy, NoAccess, NoStepUp, Unusable};
use super::page::{self, Page, PageQuery, Query};
use crate::identity::{Profile, ProfileChange};
use crate::services::Services;
use crate::trust::Disclosure;
use crate::usecases::account;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(get_me, change_me, delete_me)).routes(routes!(list_disclosures))
}

/// My profile. It never says whether a PIN is set.
#[utoipa::path(
    get, path = "/v1/me", tag = "identity",
    security(("access" = [])),
    responses((status = 200, description = "My profile", body = Profile), NoAccess)
)]
async fn get_me(State(services): State<Services>, Access(caller): Access) -> Result<Json<Profile>, Problem> {
    Ok(Json(services.identity.profile(caller.user).await?))
}

/// Changes to a profile; a field that is absent stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfilePatch {
    /// 1 to 64 characters; what contacts see.
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    display_name: Option<String>,
    /// A BCP 47 tag such as `de-AT`.
    #[schema(min_length = 2, max_length = 35, pattern = "^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$")]
    locale: Option<String>,
    /// An IANA zone such as `Europe/Vienna`.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")]
    time_zone: Option<String>,
    /// An hour to a year; null goes back to the server's setting.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>, minimum = 3_600, maximum = 31_536_000)]
    retention_s: Option<Option<u64>>,
    /// 4 to 12 digits; null removes it. Needs step-up.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{4,12}$")]
    pin: Option<Option<String>>,
    /// 4 to 12 digits; null removes it. Needs step-up.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{4,12}$")]
    duress_pin: Option<Option<String>>,
}

/// Tells null (remove it) from absent (leave it).
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(d).map(Some)
}

/// Changes my profile.
#[utoipa::path(
    patch, path = "/v1/me", tag = "identity",
    security(("access" = [])),
    request_body = ProfilePatch,
    responses((status = 200, description = "My profile after it", body = Profile), Unusable, NoStepUp, Busy)
)]
async fn change_me(
    State(services): State<Services>,
    Access(caller): Access,
    Body(given): Body<ProfilePatch>,
) -> Result<Json<Profile>, Problem> {
    let ProfilePatch { display_name, locale, time_zone, retention_s, pin, duress_pin } = given;
    if pin.is_some() || duress_pin.is_some() {
        services.identity.require_step_up(&caller).await?;
    }
    let change = ProfileChange { display_name, locale, time_zone, retention_s, pin, duress_pin };
    Ok(Json(services.identity.change_profile(caller.user, change).await?))
}

/// Deletes my account and everything known of me. An open emergency is ended first, and contacts are told.
#[utoipa::path(
    delete, path = "/v1/me", tag = "identity",
    security(("access" = [])),
    responses((status = 204, description = "Forgotten"), NoStepUp)
)]
async fn delete_me(State(services): State<Services>, Access(caller): Access) -> Result<StatusCode, Problem> {
    account::delete(&services, caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who has seen my position, newest first.
#[utoipa::path(
    get, path = "/v1/me/disclosures", tag = "trust",
    security(("access" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<Disclosure>), BadQuery, NoAccess)
)]
async fn list_disclosures(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<PageQuery>,
) -> Result<Json<Page<Disclosure>>, Problem> {
    let (after, limit) = (page::after(part.after.as_deref())?, page::limit(part.limit)?);
    let found = services.trust.disclosures(caller.user, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |d| d.row.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_removes_and_absence_leaves() {
        let patch: ProfilePatch = serde_json::from_str(r#"{"pin":null,"retention_s":3600}"#).unwrap();
        assert_eq!((patch.pin, patch.duress_pin, patch.retention_s), (Some(None), None, Some(Some(3600))));
        assert!(serde_json::from_str::<ProfilePatch>(r#"{"handle":"x"}"#).is_err());
    }
}
