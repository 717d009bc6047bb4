//! Places on the earth: [`Point`], [`Fix`], [`Shape`], and the measures between them.
//!
//! Degrees are WGS 84, distances metres. Nothing here prints a coordinate: `Debug` of a point is `Point(..)`.

mod area;
mod fix;
mod measure;
mod note;
mod read;
mod shape;
mod simplify;
mod validate;

pub use area::Area;
pub use fix::{ANYWHERE_M, Fix, FixRefusal, MAX_SEQ, unnumbered};
pub use measure::distance_m;
pub use note::{Note, Noted};
pub use read::{RawFix, ReadFix, Salvaged, Terms, checked, salvage};
pub use shape::{MAX_VERTICES, Placement, RawShape, Shape};
pub use simplify::simplified;
pub use validate::ShapeFault;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A place, in WGS 84 degrees. Made only by [`Point::new`], so one that exists is on the earth.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Point {
    lat: f64,
    lon: f64,
}

impl Point {
    /// A point if both degrees are finite and in range (|lat| <= 90, |lon| <= 180).
    pub fn new(lat: f64, lon: f64) -> Option<Self> {
        (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some(Self { lat, lon })
    }
    /// Degrees north.
    pub fn lat(self) -> f64 {
        self.lat
    }
    /// Degrees east.
    pub fn lon(self) -> f64 {
        self.lon
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Point(..)")
    }
}
