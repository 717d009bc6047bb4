//! Public zones: who enters one is told. The operator puts them, nobody owns them, and there may be millions.
//!
//! A [`Window`] is the part of them around one person, in memory; it decides what a fix means. `windows` loads them as
//! people move, and again where zones change. Zones never hold up fences: they have their own queues and tasks.

mod geojson;
mod store;
mod window;
mod windows;
mod zone;

pub use geojson::{Feature, read_features};
pub use store::{ZoneChanges, ZoneStore, ZoneVisit};
pub use window::{ZoneMoves, ZoneSink, ZoneStep};
pub(super) use windows::{Around, Windows, follow};
pub use zone::{Zone, ZoneDraft, nearest};
