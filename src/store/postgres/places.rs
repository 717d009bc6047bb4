//! Questions about places: each is answered by its index, which a test of its plan holds it to.

/// The zones whose box meets the box from `$1` (west) and `$2` (south) to `$3` (east) and `$4` (north).
pub const ZONES_IN_BOX: &str = "SELECT id, name, shape, severity, revision, updated_at FROM zones
     WHERE area && ST_MakeEnvelope($1, $2, $3, $4, 4326)";
