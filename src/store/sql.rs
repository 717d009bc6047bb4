//! The text of a statement for both dialects, and the values it is run with.
//!
//! Both drivers take `$1`, `$2`, ... To SQLite the cast in `$1::uuid` is a part of the parameter's name and so has no
//! effect. What differs otherwise is written in place: after `pg` for PostgreSQL alone (locks, above all: SQLite has one
//! writer), after `lite` for SQLite alone, after `among` as a list of ids, after `past` as the id that a page begins after.
//!
//! ```ignore
//! sql!("SELECT token FROM folds WHERE device_id " among "$1" pg " ORDER BY device_id FOR UPDATE")
//! ```

use super::value::{ToValue, Value};

/// The text of a statement, in each dialect.
#[derive(Clone, Copy)]
pub(super) struct Sql {
    pub(super) lite: &'static str,
    pub(super) pg: &'static str,
}

/// One text that both dialects understand.
impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self { lite: text, pg: text }
    }
}

/// A [`Sql`] from parts: literals, `pg "..."`, `lite "..."`, `among "$1"` (is one of the ids of a bound list), `past "id"
/// "$2"` (is more than a bound id; any id is, if that is NULL), and `name!` for a macro that gives a literal when called
/// with `lite` or `pg`.
macro_rules! sql {
    (@lite ($($done:expr,)*)) => { concat!($($done),*) };
    (@lite ($($done:tt)*) pg $text:literal $($rest:tt)*) => { sql!(@lite ($($done)*) $($rest)*) };
    (@lite ($($done:tt)*) lite $text:literal $($rest:tt)*) => { sql!(@lite ($($done)* $text,) $($rest)*) };
    (@lite ($($done:tt)*) among $list:literal $($rest:tt)*) => {
        sql!(@lite ($($done)* "IN (SELECT unhex(value) FROM json_each(", $list, "))",) $($rest)*)
    };
    (@lite ($($done:tt)*) past $id:literal $after:literal $($rest:tt)*) => {
        sql!(@lite ($($done)* "(", $id, " > coalesce(", $after, ", x''))",) $($rest)*)
    };
    (@lite ($($done:tt)*) $text:literal $($rest:tt)*) => { sql!(@lite ($($done)* $text,) $($rest)*) };
    (@lite ($($done:tt)*) $name:ident ! $($rest:tt)*) => { sql!(@lite ($($done)* $name!(lite),) $($rest)*) };
    (@pg ($($done:expr,)*)) => { concat!($($done),*) };
    (@pg ($($done:tt)*) pg $text:literal $($rest:tt)*) => { sql!(@pg ($($done)* $text,) $($rest)*) };
    (@pg ($($done:tt)*) lite $text:literal $($rest:tt)*) => { sql!(@pg ($($done)*) $($rest)*) };
    (@pg ($($done:tt)*) among $list:literal $($rest:tt)*) => {
        sql!(@pg ($($done)* "= ANY (", $list, ")",) $($rest)*)
    };
    (@pg ($($done:tt)*) past $id:literal $after:literal $($rest:tt)*) => {
        sql!(@pg ($($done)* "(", $after, "::uuid IS NULL OR ", $id, " > ", $after, ")",) $($rest)*)
    };
    (@pg ($($done:tt)*) $text:literal $($rest:tt)*) => { sql!(@pg ($($done)* $text,) $($rest)*) };
    (@pg ($($done:tt)*) $name:ident ! $($rest:tt)*) => { sql!(@pg ($($done)* $name!(pg),) $($rest)*) };
    ($($part:tt)+) => {
        $crate::store::sql::Sql { lite: sql!(@lite () $($part)+), pg: sql!(@pg () $($part)+) }
    };
}
pub(super) use sql;

/// A statement with its values.
pub(super) struct Statement {
    pub(super) sql: Sql,
    pub(super) values: Vec<Value>,
}

/// A statement, to bind values to in the order of their numbers.
pub(super) fn query(sql: impl Into<Sql>) -> Statement {
    Statement { sql: sql.into(), values: Vec::new() }
}

impl Statement {
    /// The value of the next number.
    pub(super) fn bind(mut self, value: impl ToValue) -> Self {
        self.values.push(ToValue::to_value(Some(value)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! columns {
        (lite) => {
            "hex(id)"
        };
        (pg) => {
            "id::text"
        };
    }

    #[test]
    fn each_dialect_gets_its_parts_in_order() {
        const BOTH: Sql =
            sql!("SELECT " columns! " FROM t WHERE id " among "$1" lite " LIMIT 1" pg " FOR UPDATE");
        assert_eq!(
            BOTH.lite,
            "SELECT hex(id) FROM t WHERE id IN (SELECT unhex(value) FROM json_each($1)) LIMIT 1"
        );
        assert_eq!(BOTH.pg, "SELECT id::text FROM t WHERE id = ANY ($1) FOR UPDATE");
    }
}
