//! Dialogs that choose a file or a folder: the system's own, on a thread of their own, so that no frame waits for them.
//!
//! A system without such dialogs (no desktop portal, no zenity) answers nothing; the path can be typed everywhere.

use crate::i18n::tr;
use egui::Ui;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of these endings; none: any.
    File(&'static [&'static str]),
    /// A folder.
    Folder,
}

/// What was chosen and not taken yet, by the name of its field.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<Vec<(String, PathBuf)>>>);

impl Files {
    /// What was chosen for a field.
    pub(super) fn take(&self, field: &str) -> Option<PathBuf> {
        let mut chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = chosen.iter().position(|(name, _)| name == field)?;
        Some(chosen.remove(at).1)
    }

    /// As if somebody had chosen it.
    #[cfg(test)]
    pub(super) fn put(&self, field: &str, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((field.into(), path.into()));
    }

    fn ask(&self, ctx: &egui::Context, field: &str, title: &str, kind: Kind, begin: &str) {
        let (slot, ctx, field, title) = (self.0.clone(), ctx.clone(), field.to_owned(), title.to_owned());
        let begin = Path::new(begin.trim()).parent().filter(|folder| folder.is_dir()).map(Path::to_owned);
        std::thread::spawn(move || {
            let mut dialog = rfd::FileDialog::new().set_title(&title);
            if let Some(begin) = begin {
                dialog = dialog.set_directory(begin);
            }
            let chosen = match kind {
                Kind::File([]) => dialog.pick_file(),
                Kind::File(endings) => dialog.add_filter(&title, endings).pick_file(),
                Kind::Folder => dialog.pick_folder(),
            };
            if let Some(path) = chosen {
                slot.lock().unwrap_or_else(PoisonError::into_inner).push((field, path));
                ctx.request_repaint();
            }
        });
    }

    /// The button beside the field of a path; what was chosen is in `text`. True if it just came.
    pub(super) fn button(&self, ui: &mut Ui, field: &str, text: &mut String, kind: Kind) -> bool {
        let name = tr!("files-choose-for", field = field);
        let button = ui.add(egui::Button::new(tr!("files-choose")));
        button.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, ui.is_enabled(), &name));
        if button.clicked() {
            self.ask(ui.ctx(), field, field, kind, text);
        }
        match self.take(field) {
            Some(path) => {
                *text = path.display().to_string();
                true
            }
            None => false,
        }
    }
}
