//! What a form does with what was typed into it: it stays until the answer is there, shows why it was refused, and asks before it
//! throws anything away.

use super::batches_view::{muted, press_as};
use super::copy;
use super::shell::Asked;
use super::theme::{Palette, regular, strong};
use super::widgets::Loud;
use crate::desk;
use crate::failure::Failure;
use crate::i18n::{self, tr};
use crate::office::{Answer, Command};
use egui::{RichText, Ui};
use std::sync::atomic::{AtomicU64, Ordering};

/// Every form of the window has numbers of its own: an answer to one is none to another.
static TICKETS: AtomicU64 = AtomicU64::new(1);

/// A form between its person and whoever carries it out.
#[derive(Clone, Debug, Default)]
pub struct Sending {
    /// The number it was sent with; 0: it is with its person.
    ticket: u64,
    /// Why it came back.
    refused: Option<Failure>,
    /// It is asked whether what was typed may be thrown away.
    leaving: bool,
    /// Frames for which its first field asked for the keyboard.
    shown: u8,
}

/// What was pressed at the foot of a form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pressed {
    /// Nothing.
    #[default]
    Nothing,
    /// What it is for.
    Go,
    /// What leaves it.
    Leave,
}

impl Sending {
    /// The answer is awaited.
    pub(super) const fn is_sent(&self) -> bool {
        self.ticket != 0
    }

    /// Sends it to the office.
    pub(super) fn send(&mut self, command: Command, out: &mut Asked) {
        let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
        self.sent(ticket);
        out.desk.push(desk::Command::Ask(ticket, command));
    }

    /// It was sent, and this tells its answer from others.
    pub(super) fn sent(&mut self, ticket: u64) {
        (self.ticket, self.refused, self.leaving) = (ticket, None, false);
    }

    /// The number it was sent with, while it is awaited.
    pub(super) const fn ticket(&self) -> u64 {
        self.ticket
    }

    /// It came back.
    pub(super) fn refuse(&mut self, failure: Failure) {
        (self.ticket, self.refused) = (0, Some(failure));
    }

    /// Whether the office has done what it was sent for, so that it may close.
    pub(super) fn is_done(&mut self, answer: Option<&Answer>) -> bool {
        let Some(answer) = answer.filter(|a| self.is_sent() && a.ticket == self.ticket) else { return false };
        match &answer.refused {
            None => return true,
            Some(failure) => self.refuse(failure.clone()),
        }
        false
    }

    /// Its first field gets the keyboard. A dialog is laid out once before it is shown, so one frame is not enough.
    pub(super) fn wants_focus(&mut self) -> bool {
        let first = self.shown < 3;
        self.shown = self.shown.saturating_add(1);
        first
    }

    /// The foot of a form: why it came back, what it is for, and the way out.
    pub(super) fn foot(
        &self,
        ui: &mut Ui,
        (word, off, loud): (&str, Option<&str>, Loud),
        p: &Palette,
        more: impl FnOnce(&mut Ui),
    ) -> Pressed {
        if let Some(failure) = &self.refused {
            let (sentence, remedy) = i18n::failure(failure);
            copy::offer(ui, &copy::told(failure));
            let first = format!("{} {sentence}", failure.code);
            ui.label(RichText::new(first).font(strong(14.0)).color(p.fail.ink));
            ui.label(RichText::new(remedy).font(regular(13.5)).color(p.text));
        }
        let mut pressed = Pressed::Nothing;
        if self.leaving {
            ui.label(RichText::new(tr!("form-lost")).font(strong(14.0)).color(p.error.ink));
        } else if self.is_sent() {
            ui.label(muted(tr!("told-working"), p));
        }
        ui.horizontal_wrapped(|ui| {
            if self.leaving {
                if press_as(ui, tr!("form-go-on"), None, Loud::Primary) {
                    pressed = Pressed::Go;
                }
                if press_as(ui, tr!("form-throw-away"), None, Loud::Danger) {
                    pressed = Pressed::Leave;
                }
                return;
            }
            more(ui);
            let off = if self.is_sent() { Some(tr!("told-working")) } else { off };
            if press_as(ui, word, off, loud) {
                pressed = Pressed::Go;
            }
            if press_as(ui, tr!("dialog-leave"), None, Loud::Quiet) {
                pressed = Pressed::Leave;
            }
        });
        pressed
    }

    /// Whether it goes; what only takes the question back does not.
    pub(super) fn goes(&mut self, pressed: Pressed, entered: bool) -> bool {
        if self.leaving {
            self.leaving = pressed != Pressed::Go;
            return false;
        }
        !self.is_sent() && (pressed == Pressed::Go || entered)
    }

    /// Whether it closes: at once if nothing was typed, else when it was said twice. Escape takes the question back.
    pub(super) fn closes(&mut self, pressed: Pressed, closed: bool, typed: bool) -> bool {
        match (pressed, self.leaving) {
            (Pressed::Leave, true) => true,
            (Pressed::Leave, false) => {
                self.leaving = typed;
                !typed
            }
            _ if !closed => false,
            (_, true) => {
                self.leaving = false;
                false
            }
            (_, false) => {
                self.leaving = typed;
                !typed
            }
        }
    }
}
