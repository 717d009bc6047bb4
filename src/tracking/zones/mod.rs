//! Public zones: who enters one is told. The operator puts them, nobody owns them, and there may be millions.
//!
//! A [`Window`] is the part of them around one person, in memory; it decides what a fix means. `watch` loads windows as
//! people move, and again where zones change. Zones never hold up fences: they have their own queues and tasks.

mod geojson;
mod store;
mod watch;
mod window;
mod zone;

pub use geojson::{Feature, read_features};
pub use store::{ZoneChanges, ZoneStore, ZoneVisit};
pub(super) use watch::{Around, Watch, follow};
pub use window::{ZoneMoves, ZoneSink, ZoneStep};
pub use zone::{Zone, ZoneDraft, nearest};
