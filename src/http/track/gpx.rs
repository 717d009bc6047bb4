//! Tracks as GPX 1.1 (<https://www.topografix.com/GPX/1/1/>), in parts.

use crate::tracking::StoredFix;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use std::io;

/// The end of the file.
pub(in crate::http) const CLOSE: &str = "</gpx>";

/// The beginning of the file.
pub(in crate::http) fn open() -> String {
    written(|xml| {
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let root = BytesStart::new("gpx").with_attributes([
            ("version", "1.1"),
            ("creator", "cima"),
            ("xmlns", "http://www.topografix.com/GPX/1/1"),
        ]);
        xml.write_event(Event::Start(root))
    })
}

/// A part of one device's track: its first part carries its name, its last ends it. A device without a fix has no track.
pub(in crate::http) fn part(fixes: &[StoredFix], opens_as: Option<&str>, closes: bool) -> String {
    if opens_as.is_some() && fixes.is_empty() {
        return String::new();
    }
    written(|xml| {
        if let Some(name) = opens_as {
            xml.write_event(Event::Start(BytesStart::new("trk")))?;
            // XML has no way to write some characters, not even escaped.
            let name: String =
                name.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
            text(xml, "name", &name)?;
            xml.write_event(Event::Start(BytesStart::new("trkseg")))?;
        }
        for stored in fixes {
            point(xml, stored)?;
        }
        if closes {
            xml.write_event(Event::End(BytesEnd::new("trkseg")))?;
            xml.write_event(Event::End(BytesEnd::new("trk")))?;
        }
        Ok(())
    })
}

fn point(xml: &mut Writer<Vec<u8>>, stored: &StoredFix) -> io::Result<()> {
    let fix = &stored.fix;
    // GPX knows the 180th meridian only as the western one.
    let lon = if fix.point.lon() >= 180.0 { -180.0 } else { fix.point.lon() };
    let (lat, lon) = (fix.point.lat().to_string(), lon.to_string());
    let point = BytesStart::new("trkpt").with_attributes([("lat", lat.as_str()), ("lon", lon.as_str())]);
    xml.write_event(Event::Start(point))?;
    if let Some(altitude) = fix.altitude_m {
        text(xml, "ele", &altitude.to_string())?;
    }
    text(xml, "time", &fix.fixed_at.to_string())?;
    xml.write_event(Event::End(BytesEnd::new("trkpt")))
}

fn text(xml: &mut Writer<Vec<u8>>, tag: &str, text: &str) -> io::Result<()> {
    xml.create_element(tag).write_text_content(BytesText::new(text)).map(|_| ())
}

fn written(write: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> String {
    let mut xml = Writer::new(Vec::new());
    // Memory takes what is written to it, and all of it is text.
    let _ = write(&mut xml);
    String::from_utf8(xml.into_inner()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::geo::{Fix, Point};
    use crate::id::DeviceId;
    use uuid::Uuid;

    #[test]
    fn parts_make_one_file() {
        let at = Timestamp::from_unix_ms(1_800_000_000_000);
        let fix = |seq: i64, lon: f64, altitude_m| Fix {
            seq,
            point: Point::new(48.25, lon).unwrap(),
            fixed_at: at + std::time::Duration::from_secs(seq.unsigned_abs()),
            accuracy_m: None,
            altitude_m,
            speed_mps: None,
            course_deg: None,
            battery: None,
        };
        let stored = |fix| StoredFix { device: DeviceId(Uuid::from_u128(1)), fix, received_at: at };
        let (first, second) = (stored(fix(1, 16.5, Some(-3.5))), stored(fix(2, 180.0, None)));
        let file =
            [open(), part(&[first], Some("A & <B>\u{1}"), false), part(&[second], None, true), CLOSE.into()];
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
            <gpx version=\"1.1\" creator=\"cima\" xmlns=\"http://www.topografix.com/GPX/1/1\">\
            <trk><name>A &amp; &lt;B&gt;</name><trkseg>\
            <trkpt lat=\"48.25\" lon=\"16.5\"><ele>-3.5</ele><time>2027-01-15T08:00:01.000Z</time></trkpt>\
            <trkpt lat=\"48.25\" lon=\"-180\"><time>2027-01-15T08:00:02.000Z</time></trkpt>\
            </trkseg></trk></gpx>";
        assert_eq!(file.concat(), expected);
        assert_eq!(part(&[], Some("unused"), true), "");
    }
}
