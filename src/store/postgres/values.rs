//! Values that Postgres takes only in its own way.

use crate::id::DeviceId;
use std::borrow::Cow;
use std::time::Duration;
use uuid::Uuid;

/// A duration to bind, in milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A duration as it was stored; the schema refuses negative ones.
pub(super) fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Numbers of devices as two columns of one length.
pub(super) fn numbers(asked: impl Iterator<Item = (DeviceId, i64)>) -> (Vec<Uuid>, Vec<i64>) {
    asked.map(|(device, seq)| (device.0, seq)).unzip()
}

/// Text without the one character that neither `text` nor `jsonb` takes: somebody in need is not refused for it.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_postgres_refuses_is_replaced() {
        assert_eq!(plain("a\0b"), "a\u{fffd}b");
        assert!(matches!(plain("help \u{1f198}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_duration_comes_back() {
        let long = Duration::from_millis(123_456_789);
        assert_eq!(duration(millis(long)), long);
        assert_eq!(millis(Duration::MAX), i64::MAX);
        assert_eq!(duration(-1), Duration::ZERO);
    }
}
