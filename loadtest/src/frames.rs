//! Frames as a phone writes and reads them, made and scanned cheaply: the generator must not be what is measured.

use cima::geo::Point;

/// A frame of fixes from its parts; `text` is used again.
pub(crate) struct Writer {
    places: Vec<String>,
    text: String,
}

impl Writer {
    /// For a phone that goes this way, again and again.
    pub(crate) fn new(way: &[Point]) -> Self {
        let place = |p: &Point| {
            format!(",\"lat\":{:.6},\"lon\":{:.6},\"accuracy_m\":5.0,\"fixed_at\":\"", p.lat(), p.lon())
        };
        Self { places: way.iter().map(place).collect(), text: String::new() }
    }

    /// The frame of `count` fixes from `seq` on; the fix `seq` is at the `seq`-th place of the way.
    pub(crate) fn frame(&mut self, seq: i64, count: u32, fixed_at: &str) -> &str {
        self.text.clear();
        self.text.push_str(r#"{"type":"fixes","fixes":["#);
        for seq in seq..seq + i64::from(count) {
            let place = usize::try_from(seq - 1).unwrap_or(0) % self.places.len();
            self.text.push_str("{\"seq\":");
            self.text.push_str(&seq.to_string());
            self.text.push_str(&self.places[place]);
            self.text.push_str(fixed_at);
            self.text.push_str("\"},");
        }
        self.text.pop();
        self.text.push_str("]}");
        &self.text
    }
}

/// The number in an `acked` frame; `None` if it is another frame. Scans, because it is called for every ack.
pub(crate) fn ack_in(frame: &str) -> Option<i64> {
    const SEQ: &str = "\"seq\":";
    if !frame.contains("\"acked\"") {
        return None;
    }
    let rest = frame[frame.find(SEQ)? + SEQ.len()..].trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_json_of_the_contract() {
        let mut writer = Writer::new(&[Point::new(34.1, -118.2).unwrap(), Point::new(34.2, -118.3).unwrap()]);
        let frame: serde_json::Value =
            serde_json::from_str(writer.frame(4, 3, "2026-11-22T10:00:00.000Z")).unwrap();
        let seqs: Vec<_> =
            frame["fixes"].as_array().unwrap().iter().map(|f| f["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, [4, 5, 6]);
        assert_eq!(frame["fixes"][0]["fixed_at"], "2026-11-22T10:00:00.000Z");
    }

    #[test]
    fn the_number_is_found_in_acks_only() {
        assert_eq!(ack_in(r#"{"type":"acked","seq":120}"#), Some(120));
        assert_eq!(ack_in(r#"{"seq": 7, "type":"acked"}"#), Some(7));
        assert_eq!(ack_in(r#"{"type":"rejected","seq":7,"code":"too_old"}"#), None);
        assert_eq!(ack_in(r#"{"type":"acked"}"#), None);
    }
}
