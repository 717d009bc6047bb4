//! Frames that were read while the session works on something else, in their order and within a bound.

use axum::extract::ws::Utf8Bytes;
use std::collections::VecDeque;

/// Frames beyond the window of fixes.
const FRAMES: usize = 64;
/// Bytes, or as much as a window of fixes has in frames of one each.
const BYTES: usize = 256 * 1024;
/// A frame of one fix, about.
const FIX: usize = 256;

/// What waits to be given to the session.
#[derive(Default)]
pub(super) struct Parked {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
}

impl Parked {
    /// Parks a frame; gives it back if there is no room for it.
    pub(super) fn park(&mut self, frame: Utf8Bytes, window: usize) -> Result<(), Utf8Bytes> {
        let fits = self.frames.len() < window + FRAMES
            && self.bytes + frame.len() <= BYTES.max(window.saturating_mul(FIX));
        if !fits {
            return Err(frame);
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        Ok(())
    }

    /// The oldest.
    pub(super) fn take(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_order_and_their_bound() {
        let mut parked = Parked::default();
        let window = 2;
        for n in 0..window + FRAMES {
            parked.park(n.to_string().into(), window).unwrap();
        }
        assert_eq!(parked.park("one more".into(), window), Err("one more".into()));
        for n in 0..window + FRAMES {
            assert_eq!(parked.take(), Some(n.to_string().into()));
        }
        assert_eq!((parked.take(), parked.bytes), (None, 0));
    }

    #[test]
    fn large_frames_are_bounded_by_their_bytes() {
        let (mut parked, frame) = (Parked::default(), Utf8Bytes::from("x".repeat(BYTES / 4)));
        assert_eq!((0..8).filter(|_| parked.park(frame.clone(), 1).is_ok()).count(), 4);
    }
}
