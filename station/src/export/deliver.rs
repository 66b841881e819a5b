//! Files on their way to their names: all of them get there, or none.

use super::ExportError;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn hidden<'a>() -> tempfile::Builder<'a, 'a> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".keywright-").suffix(".part");
    builder
}

/// A file on its way: written under a hidden name, removed unless it is put in place.
pub(super) struct Pending {
    pub temporary: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Pending {
    pub fn create(path: &Path) -> Result<Self, ExportError> {
        let temporary = hidden().tempfile_in(folder_of(path)).map_err(|e| ExportError::io(path, e))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// A file that is on disk under its hidden name when this returns.
    pub fn with_bytes(path: &Path, bytes: &[u8]) -> Result<Self, ExportError> {
        let mut pending = Self::create(path)?;
        pending.write(bytes)?;
        Ok(pending)
    }

    /// Writes other bytes in the place of those it has.
    pub fn rewrite(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.temporary.as_file_mut().rewind().map_err(|e| ExportError::io(&self.path, e))?;
        self.write(bytes)?;
        let length = bytes.len() as u64;
        self.temporary.as_file().set_len(length).map_err(|e| ExportError::io(&self.path, e))?;
        self.sync()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.temporary.write_all(bytes).map_err(|e| ExportError::io(&self.path, e))?;
        self.sync()
    }

    /// Everything that was written is on disk: a disk that is full says so now, not when the list is in the records.
    pub fn sync(&self) -> Result<(), ExportError> {
        self.temporary.as_file().sync_all().map_err(|e| ExportError::io(&self.path, e))
    }

    fn put_in_place(self, overwrite: bool) -> Result<Placed, ExportError> {
        let path = self.path;
        let old = if overwrite && path.exists() {
            Some(keep(&path).map_err(|e| ExportError::io(&path, e))?)
        } else {
            None
        };
        let put =
            if overwrite { self.temporary.persist(&path) } else { self.temporary.persist_noclobber(&path) };
        match put {
            Ok(_) => Ok(Placed { path, old }),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(ExportError::Exists { path })
            }
            Err(e) => Err(ExportError::io(&path, e.error)),
        }
    }
}

/// A second name for what is about to be replaced; it is gone when this is dropped.
fn keep(path: &Path) -> std::io::Result<tempfile::TempPath> {
    let folder = folder_of(path);
    let linked = hidden().make_in(folder, |name| std::fs::hard_link(path, name));
    // A memory stick knows no second names.
    let kept = match linked {
        Ok(linked) => linked,
        Err(_) => hidden().make_in(folder, |name| std::fs::copy(path, name).map(drop))?,
    };
    Ok(kept.into_temp_path())
}

/// A file that has its name, and what it took the place of.
struct Placed {
    path: PathBuf,
    old: Option<tempfile::TempPath>,
}

impl Placed {
    fn undo(self) {
        let undone = match self.old {
            Some(old) => old.persist(&self.path).map_err(|e| e.error),
            None => std::fs::remove_file(&self.path),
        };
        if let Err(error) = undone {
            tracing::error!(file = %self.path.display(), %error, "what an export left can't be taken back");
        }
    }
}

/// Gives the files their names, in this order. If one of them can't have its own, the others lose theirs again.
pub(super) fn place_all(files: Vec<Pending>, folder: &Path, overwrite: bool) -> Result<(), ExportError> {
    let mut placed = Vec::with_capacity(files.len());
    let all = || -> Result<(), ExportError> {
        for file in files {
            placed.push(file.put_in_place(overwrite)?);
        }
        sync_folder(folder)
    };
    let done = all();
    if done.is_err() {
        placed.into_iter().rev().for_each(Placed::undo);
    }
    done
}

/// Makes the new names durable; only Unix needs and allows it.
fn sync_folder(folder: &Path) -> Result<(), ExportError> {
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| ExportError::io(folder, e))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
