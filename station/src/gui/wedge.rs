//! A scanner that types like a keyboard, told from a person who does.
//!
//! A scanner types a whole code within a moment and ends it with Enter; a person presses one key and then looks. So what the line's
//! plain keys do is done when the moment is over and nothing followed, and a code that was scanned starts nothing, presses nothing and
//! is handed on as a whole, wherever the keyboard is.

use egui::{Event, Key, Ui};

/// After this much silence what came was a person's key, in seconds. A scanner's characters are a few milliseconds apart.
const QUIET: f64 = 0.1;
/// So many digits in one go may be a person who starts one fixture after the other.
const MOST_DIGITS: usize = 3;
/// Fewer characters are no code.
const SHORTEST: usize = 2;
/// More are none either.
const LONGEST: usize = 200;

const DIGITS: [Key; 9] =
    [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6, Key::Num7, Key::Num8, Key::Num9];

/// What was typed and is not yet told apart.
#[derive(Clone, Debug, Default)]
pub struct Wedge {
    text: String,
    digits: Vec<usize>,
    /// When the last of it came, in seconds.
    at: f64,
    /// It came in this very frame: more of it may wait for the next.
    fresh: bool,
}

/// What a frame came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// A code was scanned.
    pub scan: Option<String>,
    /// A person pressed these digits: fixtures, from 0.
    pub digits: Vec<usize>,
}

impl Wedge {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.digits.is_empty()
    }

    /// How many characters there are: a digit is a key and a character.
    fn len(&self) -> usize {
        self.text.chars().count().max(self.digits.len())
    }

    /// Forgets what was typed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes this frame's keys out of the input and tells what they were.
    pub fn take(&mut self, ui: &Ui) -> Typed {
        let now = ui.input(|i| i.time);
        let mut typed = Typed::default();
        if !self.is_empty() && !self.fresh && now - self.at >= QUIET {
            typed.digits = self.settle();
        }
        self.fresh = false;
        ui.input_mut(|i| {
            if i.modifiers.command || i.modifiers.alt {
                return;
            }
            i.events.retain(|event| match event {
                Event::Text(text) => {
                    self.text.push_str(text);
                    (self.at, self.fresh) = (now, true);
                    false
                }
                Event::Key { key, pressed, repeat, .. } => {
                    if let Some(digit) = DIGITS.iter().position(|d| d == key) {
                        if *pressed && !repeat {
                            self.digits.push(digit);
                            (self.at, self.fresh) = (now, true);
                        }
                        return false;
                    }
                    match key {
                        // In the middle of a code they are part of it, or its end.
                        Key::Space if self.len() >= SHORTEST => false,
                        Key::Enter if *pressed && self.len() >= SHORTEST => {
                            typed.scan = Some(std::mem::take(&mut self.text).trim().to_owned());
                            self.digits.clear();
                            false
                        }
                        _ => true,
                    }
                }
                _ => true,
            });
        });
        if self.text.len() > LONGEST {
            self.clear();
        }
        typed.scan = typed.scan.filter(|code| !code.is_empty() && code.len() <= LONGEST);
        if !self.is_empty() {
            // Settled soon: a person waits for it.
            ui.ctx().request_repaint();
        }
        typed
    }

    /// The moment is over: what came were keys of a person, or a code without an end, which is nothing.
    fn settle(&mut self) -> Vec<usize> {
        let keys = std::mem::take(&mut self.digits);
        let text = std::mem::take(&mut self.text);
        let only_digits = text.chars().all(|c| c.is_ascii_digit()) && text.chars().count() <= keys.len();
        if only_digits && keys.len() <= MOST_DIGITS { keys } else { Vec::new() }
    }
}
