//! A scanner that types like a keyboard, told from a person who does.
//!
//! A scanner types a whole code within a moment and ends it with Enter; a person presses one key and then looks. So what a plain key
//! does is done when the moment is over and nothing followed: the key is given back to whatever is on the screen. A code that was
//! scanned starts nothing, presses nothing and is handed on as a whole, wherever the keyboard is.

use egui::{Event, Key, Ui};
use std::time::Duration;

/// After this much silence what came was a person's key, in seconds. A scanner's characters are a few milliseconds apart.
const QUIET: f64 = 0.1;
/// So many keys in one go may be a person who starts one fixture after the other. More are a scanner's.
const MOST_KEYS: usize = 3;
/// A scanner that stops in the middle of a code has given it up after this long, in seconds.
const GIVEN_UP: f64 = 0.8;
/// Fewer characters are no code.
const SHORTEST: usize = 2;
/// More are none either.
const LONGEST: usize = 200;

/// What was typed and is not yet told apart.
#[derive(Clone, Debug, Default)]
pub struct Wedge {
    text: String,
    /// The keys behind it, to be given back if they were a person's.
    held: Vec<Event>,
    /// Keys that were pressed: a digit is a key and a character.
    keys: usize,
    /// When the last of it came, in seconds.
    at: f64,
    /// It came in this very frame: more of it may wait for the next.
    fresh: bool,
}

/// Whether a key makes a character.
fn types(key: Key) -> bool {
    let mut sign = key.symbol_or_name().chars();
    matches!((sign.next(), sign.next()), (Some(sign), None) if sign.is_ascii_graphic()) || key == Key::Minus
}

impl Wedge {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.held.is_empty()
    }

    fn len(&self) -> usize {
        self.text.chars().count().max(self.keys)
    }

    /// What a scanner has typed of a code so far; empty while it may be a person.
    pub fn text(&self) -> &str {
        if self.len() > MOST_KEYS { &self.text } else { "" }
    }

    /// Forgets what was typed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes this frame's keys out of the input, gives back those that were a person's, and tells what was scanned.
    pub fn take(&mut self, ui: &Ui) -> Option<String> {
        let now = ui.input(|i| i.time);
        let waited = now - self.at;
        let mut own = Vec::new();
        if !self.is_empty() && !self.fresh && waited >= QUIET {
            if self.len() <= MOST_KEYS {
                own = std::mem::take(&mut self.held);
                self.clear();
            } else if waited >= GIVEN_UP {
                self.clear();
            }
        }
        self.fresh = false;
        let mut scan = None;
        ui.input_mut(|i| {
            if !i.modifiers.command && !i.modifiers.alt {
                i.events.retain(|event| self.lets_pass(event, now, &mut scan));
            }
            i.events.splice(0..0, own);
        });
        if self.text.len() > LONGEST {
            self.clear();
        }
        if !self.is_empty() && self.len() <= MOST_KEYS {
            // Settled soon: a person waits for it.
            ui.ctx().request_repaint();
        } else if !self.is_empty() {
            ui.ctx().request_repaint_after(Duration::from_secs_f64(GIVEN_UP));
        }
        scan.filter(|code| !code.is_empty() && code.len() <= LONGEST)
    }

    /// Whether whatever is on the screen sees this event now.
    fn lets_pass(&mut self, event: &Event, now: f64, scan: &mut Option<String>) -> bool {
        match event {
            Event::Text(text) => {
                self.text.push_str(text);
                self.hold(event, now);
                false
            }
            Event::Key { key, pressed, repeat, .. } if types(*key) => {
                if *pressed && !repeat {
                    self.keys += 1;
                }
                // The end of a key whose beginning was given back goes the same way.
                if self.held.is_empty() && !pressed {
                    return true;
                }
                self.hold(event, now);
                false
            }
            // In the middle of a code they are part of it, or its end.
            Event::Key { key: Key::Space, .. } if self.len() >= SHORTEST => false,
            Event::Key { key: Key::Enter, pressed: true, .. } if self.len() >= SHORTEST => {
                *scan = Some(self.text.trim().to_owned());
                self.clear();
                false
            }
            _ => true,
        }
    }

    fn hold(&mut self, event: &Event, now: f64) {
        // What is too much for a person is never given back.
        if self.held.len() < 4 * MOST_KEYS {
            self.held.push(event.clone());
        }
        // A key that is let go tells nothing of what follows.
        if !matches!(event, Event::Key { pressed: false, .. }) {
            (self.at, self.fresh) = (now, true);
        }
    }
}
