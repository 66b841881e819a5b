//! Who goes on with the guide: the lock screen's own card inside the guide, while there is no line yet and so no lock screen.
//!
//! Invariants: those of the lock screen; what is typed goes to the host, which asks the same gate.

use super::ViewState;
use super::lock_screen::{self, LockState};
use super::shell::{Asked, Seen};
use super::theme::{Palette, regular};
use crate::desk;
use crate::host::{Command, Login};
use crate::i18n::tr;
use crate::line;
use crate::people::office::{self, Gate, Told};
use egui::{RichText, Ui};

/// Width of name, PIN and keys.
const WIDTH: f32 = 400.0;

/// Begins and ends with nothing typed.
pub(super) fn observe(login: Option<&Login>, asked: &mut bool, view: &mut ViewState) {
    if login.is_some() != *asked {
        *asked = login.is_some();
        view.people.lock = LockState::default();
    }
}

/// The card; what it asks of the host.
pub(super) fn show(ui: &mut Ui, login: &Login, view: &mut ViewState, p: &Palette) -> Vec<Command> {
    ui.add(egui::Label::new(RichText::new(tr!("first-login")).font(regular(15.0)).color(p.text)).wrap());
    let told = match (&login.failure, login.works) {
        (_, true) => Told::Working,
        (Some(failure), false) => Told::Failed(failure.clone()),
        (None, false) => Told::Nothing,
    };
    let people = office::Snapshot {
        gate: Gate::People { who: None, locked: true },
        names: login.names.clone(),
        told,
        wait_until: login.wait_until,
        ..office::Snapshot::default()
    };
    let (line, desk) = (line::Snapshot::default(), desk::Snapshot::default());
    let seen = Seen { line: &line, desk: &desk, people: &people };
    let mut asked = Asked::default();
    ui.scope(|ui| {
        ui.set_max_width(WIDTH);
        lock_screen::login(ui, seen, view, &mut asked, p);
    });
    let logs_in = |command| match command {
        office::Command::Login(credential) => Some(Command::Login(credential)),
        _ => None,
    };
    asked.people.into_iter().filter_map(logs_in).collect()
}
