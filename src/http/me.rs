//! A person's own account, and who has seen them.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadQuery, Busy, NoAccess, NoStepUp, Unusable};
use super::page::{self, Page, PageQuery, Query};
use crate::identity::{Caller, Profile, ProfileChange};
use crate::services::Services;
use crate::trust::Disclosure;
use crate::usecases::account;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new()
        .routes(routes!(get_me, change_me, delete_me))
        .routes(routes!(delete_pin))
        .routes(routes!(delete_duress_pin))
        .routes(routes!(list_disclosures))
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

/// Changes to a profile; a field that is absent or null stays as it is.
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
    /// An hour to a year; 0 goes back to the server's setting.
    #[schema(minimum = 0, maximum = 31_536_000)]
    retention_s: Option<u64>,
    /// 4 to 12 digits of any script. Needs step-up.
    #[schema(pattern = "^[0-9]{4,12}$")]
    pin: Option<String>,
    /// 4 to 12 digits of any script. Needs step-up.
    #[schema(pattern = "^[0-9]{4,12}$")]
    duress_pin: Option<String>,
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
    let retention_s = retention_s.map(|s| Some(s).filter(|s| *s > 0));
    let (pin, duress_pin) = (pin.map(Some), duress_pin.map(Some));
    let change = ProfileChange { display_name, locale, time_zone, retention_s, pin, duress_pin };
    Ok(Json(services.identity.change_profile(caller.user, change).await?))
}

/// Removes my PIN. Needs step-up; the answer is the same if none was set.
#[utoipa::path(
    delete, path = "/v1/me/pin", tag = "identity",
    security(("access" = [])),
    responses((status = 204, description = "There is none any more"), NoStepUp)
)]
async fn delete_pin(State(services): State<Services>, Access(caller): Access) -> Result<StatusCode, Problem> {
    remove(&services, caller, ProfileChange { pin: Some(None), ..ProfileChange::default() }).await
}

/// Removes my duress PIN. Needs step-up; the answer is the same if none was set.
#[utoipa::path(
    delete, path = "/v1/me/duress-pin", tag = "identity",
    security(("access" = [])),
    responses((status = 204, description = "There is none any more"), NoStepUp)
)]
async fn delete_duress_pin(
    State(services): State<Services>,
    Access(caller): Access,
) -> Result<StatusCode, Problem> {
    remove(&services, caller, ProfileChange { duress_pin: Some(None), ..ProfileChange::default() }).await
}

async fn remove(services: &Services, caller: Caller, change: ProfileChange) -> Result<StatusCode, Problem> {
    services.identity.require_step_up(&caller).await?;
    services.identity.change_profile(caller.user, change).await?;
    Ok(StatusCode::NO_CONTENT)
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
    fn null_is_absent() {
        let patch: ProfilePatch = serde_json::from_str(r#"{"pin":null,"retention_s":3600}"#).unwrap();
        assert_eq!((patch.pin, patch.duress_pin, patch.retention_s), (None, None, Some(3600)));
        assert!(serde_json::from_str::<ProfilePatch>(r#"{"handle":"x"}"#).is_err());
    }
}
