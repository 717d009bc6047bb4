//! `GET /v1/me/export`: all that is kept of a person, to take away.

use super::Problem;
use super::auth::Access;
use super::check_ins::{self, CheckInView};
use super::docs::{BadQuery, NoStepUp};
use super::geofences::FenceView;
use super::page::{self, Query};
use super::pieces::{self, Pieces};
use super::track::{feature, gpx};
use crate::alerts::Names;
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, UserId};
use crate::services::Services;
use crate::tracking::StoredFix;
use crate::trust::{Grant, LinkRole};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Fixes read at a time.
const FIXES: u32 = 1_000;
/// Items of other lists read at a time.
const ITEMS: u32 = 200;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(export_me))
}

/// What is written, and how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Everything.
    #[default]
    Json,
    /// The tracks, GPX 1.1: one of each device.
    Gpx,
    /// The fixes with all that is known of each, GeoJSON points.
    Geojson,
}

impl Format {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Gpx => "application/gpx+xml",
            Self::Geojson => "application/geo+json",
        }
    }
    const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Gpx => "gpx",
            Self::Geojson => "geojson",
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// `json` (if absent): everything. `gpx`, `geojson`: the tracks.
    #[serde(default)]
    #[param(inline, required = false)]
    format: Format,
}

/// Everything known of me, or my tracks, as a file. Needs step-up.
#[utoipa::path(
    get, path = "/v1/me/export", tag = "identity",
    security(("access" = [])),
    params(ExportQuery),
    responses(
        (status = 200, description = "The file, as it is read", content(
            (Object = "application/json"), (String = "application/gpx+xml"), (Object = "application/geo+json"))),
        BadQuery, NoStepUp,
    )
)]
async fn export_me(
    State(services): State<Services>,
    Access(caller): Access,
    Query(asked): Query<ExportQuery>,
) -> Result<impl IntoResponse, Problem> {
    services.identity.require_step_up(&caller).await?;
    let format = asked.format;
    let day = services.clock.now().to_string();
    let name = format!("cima-{}.{}", day.split('T').next().unwrap_or_default(), format.extension());
    let export = Export::new(services, caller.user, format).await?;
    let headers = [
        (header::CONTENT_TYPE, format.content_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, pieces::body(export).await?))
}

/// A list of the JSON export.
#[derive(Clone, Copy, PartialEq)]
enum List {
    Devices,
    PushEndpoints,
    LinksGranted,
    LinksReceived,
    Geofences,
    CheckIns,
    Emergencies,
    Alerts,
    Disclosures,
}

const LISTS: [(List, &str); 9] = [
    (List::Devices, "devices"),
    (List::PushEndpoints, "push_endpoints"),
    (List::LinksGranted, "links_granted"),
    (List::LinksReceived, "links_received"),
    (List::Geofences, "geofences"),
    (List::CheckIns, "check_ins"),
    (List::Emergencies, "emergencies"),
    (List::Alerts, "alerts"),
    (List::Disclosures, "disclosures"),
];

/// What is read next.
enum Step {
    Open,
    /// A page of one of [`LISTS`], after a cursor.
    Items(usize, Option<String>),
    /// A page of the fixes of one of the devices, after a place.
    Fixes(usize, Option<(Timestamp, i64)>),
    Close,
}

/// An export on its way.
struct Export {
    services: Services,
    user: UserId,
    format: Format,
    grant: Grant,
    devices: Vec<DeviceId>,
    names: Names,
    step: Step,
    /// Nothing has been written of the list of fixes.
    first_fix: bool,
}

#[derive(Serialize)]
struct ExportedFix<'a> {
    device: DeviceId,
    #[serde(flatten)]
    fix: &'a Fix,
    received_at: Timestamp,
}

fn json<T: Serialize>(item: &T) -> Result<String, Problem> {
    serde_json::to_string(item).map_err(|error| {
        tracing::error!(%error, "an export could not be written");
        Problem::internal()
    })
}

/// A page of items as JSON, and the cursor to go on from.
type Items = (Vec<String>, Option<String>);

fn items<T, V: Serialize>(
    found: Vec<T>,
    cursor: impl Fn(&T) -> String,
    view: impl Fn(T) -> V,
) -> Result<Items, Problem> {
    let next = found.last().filter(|_| found.len() == ITEMS as usize).map(cursor);
    let written = found.into_iter().map(|item| json(&view(item))).collect::<Result<_, _>>()?;
    Ok((written, next))
}

impl Pieces for Export {
    async fn next(mut self) -> Result<(Bytes, Option<Self>), Problem> {
        let (text, next) = match &self.step {
            Step::Open => self.open().await?,
            Step::Items(list, after) => self.page_of_items(*list, after.clone()).await?,
            Step::Fixes(device, after) => {
                let (device, after) = (*device, *after);
                self.page_of_fixes(device, after).await?
            }
            Step::Close => (self.close().to_owned(), None),
        };
        let bytes = Bytes::from(text);
        Ok((bytes, next.map(|step| Self { step, ..self })))
    }
}

impl Export {
    async fn new(services: Services, user: UserId, format: Format) -> Result<Self, Problem> {
        let grant = services.alerts.grant(user, user, None).await?.ok_or_else(Problem::not_available)?;
        let devices = services.tracking.export_devices(&grant).await?;
        let names = services.alerts.names_of(user).await?;
        Ok(Self { services, user, format, grant, devices, names, step: Step::Open, first_fix: true })
    }

    async fn open(&self) -> Result<(String, Option<Step>), Problem> {
        let fixes = if self.devices.is_empty() { Step::Close } else { Step::Fixes(0, None) };
        Ok(match self.format {
            Format::Json => {
                let profile = json(&self.services.identity.profile(self.user).await?)?;
                let at = json(&self.services.clock.now())?;
                let open = format!("{{\"exported_at\":{at},\"profile\":{profile},\"{}\":[", LISTS[0].1);
                (open, Some(Step::Items(0, None)))
            }
            Format::Gpx => (gpx::open(), Some(fixes)),
            Format::Geojson => ("{\"type\":\"FeatureCollection\",\"features\":[".to_owned(), Some(fixes)),
        })
    }

    fn close(&self) -> &'static str {
        match self.format {
            Format::Json | Format::Geojson => "]}",
            Format::Gpx => gpx::CLOSE,
        }
    }

    async fn page_of_items(
        &self,
        list: usize,
        after: Option<String>,
    ) -> Result<(String, Option<Step>), Problem> {
        let (items, next) = self.items(LISTS[list].0, after.as_deref()).await?;
        let comma = if after.is_some() && !items.is_empty() { "," } else { "" };
        let mut text = format!("{comma}{}", items.join(","));
        if next.is_some() {
            return Ok((text, Some(Step::Items(list, next))));
        }
        let name = LISTS.get(list + 1).map_or("fixes", |(_, name)| name);
        text.push_str(&format!("],\"{name}\":["));
        let step = match list + 1 {
            more if more < LISTS.len() => Step::Items(more, None),
            _ if self.devices.is_empty() => Step::Close,
            _ => Step::Fixes(0, None),
        };
        Ok((text, Some(step)))
    }

    async fn items(&self, list: List, after: Option<&str>) -> Result<Items, Problem> {
        let Services { identity, trust, tracking, alerts, push, .. } = &self.services;
        let user = self.user;
        match list {
            List::Devices => {
                let found = identity.devices(user, page::after(after)?, ITEMS).await?;
                items(found, |d| d.id.to_string(), |d| d)
            }
            List::PushEndpoints => {
                // A few a device: they come whole.
                let found = push.kept(user).await?;
                Ok((found.iter().map(json).collect::<Result<_, _>>()?, None))
            }
            List::LinksGranted | List::LinksReceived => {
                let role = if list == List::LinksGranted { LinkRole::Subject } else { LinkRole::Contact };
                let found = trust.links(user, role, page::after(after)?, ITEMS).await?;
                items(found, |l| l.id.to_string(), |l| l)
            }
            List::Geofences => {
                let found = tracking.fences().list(user, page::after(after)?, ITEMS).await?;
                items(found, |f| f.id.to_string(), FenceView::from)
            }
            List::CheckIns => {
                let after = page::after::<check_ins::Cursor>(after)?;
                let found = alerts.check_ins().list(user, after.map(|c| c.0), ITEMS).await?;
                items(found, check_ins::cursor, CheckInView::from)
            }
            List::Emergencies => {
                let found = alerts.list(user, LinkRole::Subject, None, page::after(after)?, ITEMS).await?;
                items(found, |e| e.id.to_string(), |e| e)
            }
            List::Alerts => {
                let after = page::after(after)?.unwrap_or(0);
                let found = alerts.inbox_after(user, after, ITEMS).await?;
                items(found, |a| a.cursor.unwrap_or(after).to_string(), |a| a)
            }
            List::Disclosures => {
                let found = trust.disclosures(user, page::after(after)?, ITEMS).await?;
                items(found, |d| d.row.to_string(), |d| d)
            }
        }
    }

    async fn page_of_fixes(
        &mut self,
        device: usize,
        after: Option<(Timestamp, i64)>,
    ) -> Result<(String, Option<Step>), Problem> {
        let id = self.devices[device];
        let found = self.services.tracking.export_fixes(&self.grant, id, after, FIXES).await?;
        let next = found.last().filter(|_| found.len() == FIXES as usize).map(|f| f.fix.order());
        let text = match self.format {
            Format::Gpx => {
                let name = self.names.device(id);
                gpx::part(&found, after.is_none().then_some(name.as_str()), next.is_none())
            }
            Format::Json => {
                let one = |f: &StoredFix| {
                    json(&ExportedFix { device: f.device, fix: &f.fix, received_at: f.received_at })
                };
                let written = found.iter().map(one).collect::<Result<_, _>>()?;
                self.more_of_the_list(written)
            }
            Format::Geojson => {
                let written = found.iter().map(|f| feature(f).to_string()).collect();
                self.more_of_the_list(written)
            }
        };
        let step = match next {
            Some(place) => Step::Fixes(device, Some(place)),
            None if device + 1 < self.devices.len() => Step::Fixes(device + 1, None),
            None => Step::Close,
        };
        Ok((text, Some(step)))
    }

    fn more_of_the_list(&mut self, written: Vec<String>) -> String {
        if written.is_empty() {
            return String::new();
        }
        let comma = if std::mem::take(&mut self.first_fix) { "" } else { "," };
        format!("{comma}{}", written.join(","))
    }
}
