//! The two ends of the board's serial line, outside virtual time: bytes waiting
//! to be clocked into the chip, and bytes it has clocked out.

use std::collections::VecDeque;
use std::sync::Mutex;

/// How much of the chip's output is kept for a listener that is late.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// A serial line's host side, shared by the board and whoever holds the cable.
///
/// Bytes sent reach the chip one per frame time (87 µs at 115200), and are lost
/// there if its receiver is off, exactly as on a wire.
#[derive(Debug, Default)]
pub struct SerialLine {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    to_board: VecDeque<u8>,
    from_board: VecDeque<u8>,
}

impl SerialLine {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().expect("no panics under this lock")
    }

    /// Put bytes on the wire towards the board.
    pub fn send(&self, bytes: &[u8]) {
        self.lock().to_board.extend(bytes);
    }

    /// Take everything the board has sent so far.
    pub fn take(&self) -> Vec<u8> {
        self.lock().from_board.drain(..).collect()
    }

    /// How many bytes are still on their way to the board.
    pub fn pending(&self) -> usize {
        self.lock().to_board.len()
    }

    /// Forget bytes in both directions, as pulling the cable does.
    pub fn clear(&self) {
        let mut lines = self.lock();
        lines.to_board.clear();
        lines.from_board.clear();
    }

    pub(crate) fn next_for_board(&self) -> Option<u8> {
        self.lock().to_board.pop_front()
    }

    pub(crate) fn push_from_board(&self, byte: u8) {
        let mut lines = self.lock();
        if lines.from_board.len() < OUTPUT_LIMIT {
            lines.from_board.push_back(byte);
        }
    }

    /// Hand the board's output to `write`, which says how much of it it took.
    pub(crate) fn drain_with(&self, mut write: impl FnMut(&[u8]) -> usize) {
        let mut lines = self.lock();
        while !lines.from_board.is_empty() {
            let taken = write(lines.from_board.as_slices().0);
            if taken == 0 {
                return;
            }
            lines.from_board.drain(..taken);
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.lock().from_board.is_empty()
    }
}
