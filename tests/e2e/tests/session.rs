//! A working day in the real window, from the first admin to the last lock; the same that writes the user guide.

use keywright::i18n::Language;
use keywright_e2e::session::{Chapter, run};

#[test]
fn a_working_day_in_the_real_window() {
    let pictures = tempfile::tempdir().expect("a folder");
    let pages = match run(Language::English, pictures.path(), &mut |page| println!("{page}")) {
        Ok(pages) => pages,
        Err(failed) => {
            let kept = pictures.keep();
            panic!("{failed}; {}", kept.join("window.log").display());
        }
    };
    for chapter in [Chapter::Admin, Chapter::Vendor, Chapter::Technician, Chapter::Qa] {
        assert!(pages.iter().any(|page| page.chapter == chapter), "{chapter:?} did something");
    }
    for page in &pages {
        // A picture with something on it takes some room, however well it is packed.
        let size = std::fs::metadata(&page.picture).expect("a picture").len();
        assert!(size > 5_000, "{}: {size} bytes", page.title);
    }
}
