//! Writes the user guide: `guide FOLDER`. `cargo xtask guide` builds what it needs and runs it.

use keywright::i18n::Language;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: guide FOLDER");
        return ExitCode::from(2);
    };
    let pictures = tempfile::tempdir().expect("a temporary folder");
    let pages = match keywright_e2e::session::run(Language::English, pictures.path(), &mut |page| {
        eprintln!("  {page}")
    }) {
        Ok(pages) => pages,
        Err(failed) => {
            // Kept, to be looked at.
            let _ = pictures.keep();
            eprintln!("error: {failed}");
            return ExitCode::from(4);
        }
    };
    match keywright_e2e::guide::write(&pages, &folder) {
        Ok(()) => {
            println!("{} pages in {}", pages.len(), folder.join("README.md").display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}: {error}", folder.display());
            ExitCode::from(4)
        }
    }
}
