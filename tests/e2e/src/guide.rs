//! The user guide, written from what a session did ([`crate::session`]).
//!
//! Invariant: no sentence here is about a view, a key or a button; those come from the pages, which exist because it happened.

use crate::session::{Chapter, Page};
use std::fmt::Write;
use std::io;
use std::path::Path;

const INTRO: &str = "# User guide

What each of the people at a station does all day, in the order of one working day. Every picture was taken in the real window while
it happened: `cargo xtask guide` lives through that day on virtual boards and writes these pages; they are not edited by hand. All keys
stand in the window's help and in [The window](../window.md).
";

impl Chapter {
    const ALL: [Self; 4] = [Self::Technician, Self::Qa, Self::Vendor, Self::Admin];

    const fn title(self) -> &'static str {
        match self {
            Self::Technician => "Technician: making units",
            Self::Qa => "QA: samples, and units that come back",
            Self::Vendor => "Vendor engineer: orders, batches, lists",
            Self::Admin => "Admin: people, settings, histories",
        }
    }
}

/// A title as a file name and as GitHub makes it an anchor.
fn slug(title: &str) -> String {
    let kept = title.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// Writes `README.md` and the pictures into `folder`, in place of what was there.
///
/// # Errors
/// The folder can't be written.
pub fn write(pages: &[Page], folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "png") {
            std::fs::remove_file(path)?;
        }
    }
    for page in pages {
        std::fs::copy(&page.picture, folder.join(format!("{}.png", slug(page.title))))?;
    }
    std::fs::write(folder.join("README.md"), text(pages))
}

fn text(pages: &[Page]) -> String {
    let mut text = INTRO.to_owned();
    text.push('\n');
    for chapter in Chapter::ALL {
        let _ = writeln!(text, "- [{}](#{})", chapter.title(), slug(chapter.title()));
    }
    for chapter in Chapter::ALL {
        let _ = writeln!(text, "\n## {}", chapter.title());
        for page in pages.iter().filter(|page| page.chapter == chapter) {
            let _ = writeln!(text, "\n### {}", page.title);
            for (n, did) in page.did.iter().enumerate() {
                let _ = writeln!(text, "{}. {did}", n + 1);
            }
            let _ = writeln!(text, "\n![{}]({}.png)\n\n{}", page.title, slug(page.title), page.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stand_under_their_role_in_order_and_old_pictures_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let picture = folder.path().join("shot.bin");
        std::fs::write(&picture, "P").expect("a picture");
        let page = |chapter, title, did: &[&str]| Page {
            chapter,
            title,
            did: did.iter().map(|d| (*d).to_owned()).collect(),
            text: "What it means.",
            picture: picture.clone(),
        };
        let pages = [
            page(Chapter::Admin, "Let people in", &["Press **People**.", "Press `F8`."]),
            page(Chapter::Technician, "It's ready", &[]),
        ];
        let out = folder.path().join("guide");
        std::fs::create_dir(&out).expect("a folder");
        std::fs::write(out.join("old.png"), "O").expect("an old picture");
        write(&pages, &out).expect("written");
        let text = std::fs::read_to_string(out.join("README.md")).expect("the text");
        assert!(text.contains(
            "### Let people in\n1. Press **People**.\n2. Press `F8`.\n\n![Let people in](let-people-in.png)"
        ));
        assert!(
            text.find("### Its").is_none() && text.find("(its-ready.png)") < text.find("(let-people-in.png)")
        );
        assert!(text.contains("(#admin-people-settings-histories)"));
        assert!(out.join("its-ready.png").is_file() && !out.join("old.png").exists());
    }
}
