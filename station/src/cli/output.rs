//! What the command line says, and to whom: people read standard error and plain tables, scripts read one JSON object
//! per line. Exit codes are decided here and nowhere else.

use crate::export::ExportError;
use crate::failure::{Failure, FailureCode};
use crate::records::RecordsError;
use crate::secrets::SecretsError;
use crate::station::{records_failure, secrets_failure};
use serde::Serialize;
use std::io::Write;

/// How a command ends, as the calling script sees it. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything passed.
    Pass = 0,
    /// The command line was wrong.
    Usage = 2,
    /// Some units did not pass.
    UnitsFailed = 3,
    /// The station, its files or its cables are at fault.
    Station = 4,
    /// Not allowed: rights, quota, batch closed.
    Refused = 5,
}

/// A command that could not do its work.
#[derive(Debug)]
pub struct CliError {
    /// What and what to do next.
    pub failure: Failure,
    /// How the program ends.
    pub exit: Exit,
}

/// What a command gives back.
pub type Done = Result<Exit, CliError>;

impl crate::people::gate::AsFailure for CliError {
    fn code(&self) -> FailureCode {
        self.failure.code
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let exit = exit_of(failure.code);
        Self { failure, exit }
    }
}

/// Which exit code a failure of a whole command gives.
fn exit_of(code: FailureCode) -> Exit {
    use FailureCode as C;
    match code {
        C::InvalidInput | C::LabelUnreadable | C::FileExists | C::NothingToExport => Exit::Usage,
        C::Cancelled | C::LabelMismatch => Exit::UnitsFailed,
        C::QuotaReached
        | C::AlreadyEnrolled
        | C::AgentRefused
        | C::BatchClosed
        | C::SampleDue
        | C::SerialsSpent
        | C::EnrolmentEnded
        | C::OtherBatch
        | C::Quarantined
        | C::Scrapped
        | C::NameTaken
        | C::RmaOpen
        | C::NoRma
        | C::RetestRefused
        | C::WrongPassphrase
        | C::NotAllowed
        | C::LoginNeeded
        | C::LoginFailed
        | C::LockedOut
        | C::SecondPerson
        | C::ShiftBusy
        | C::NoShift
        | C::ShiftDiffers
        | C::TokenPinWrong
        | C::TokenLocked
        | C::RegionExpired
        | C::ExportForged
        | C::ExportUnreadable => Exit::Refused,
        _ => Exit::Station,
    }
}

impl From<RecordsError> for CliError {
    fn from(error: RecordsError) -> Self {
        records_failure(error).into()
    }
}

impl From<SecretsError> for CliError {
    fn from(error: SecretsError) -> Self {
        secrets_failure(error).into()
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        error.failure().into()
    }
}

/// Standard output, as a person or a script wants it.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// One JSON object per line.
    pub json: bool,
}

impl Out {
    /// Prints one result: the object for scripts, the text for people.
    pub fn say(self, object: &impl Serialize, text: impl std::fmt::Display) {
        if self.json {
            self.line(&serde_json::to_string(object).unwrap_or_default());
        } else {
            self.line(&text.to_string());
        }
    }

    /// Prints an object for scripts only.
    pub fn object(self, object: &impl Serialize) {
        if self.json {
            self.line(&serde_json::to_string(object).unwrap_or_default());
        }
    }

    /// Prints a text for people only.
    pub fn text(self, text: impl std::fmt::Display) {
        if !self.json {
            self.line(&text.to_string());
        }
    }

    /// Prints an aligned table for people, or one object per row for scripts.
    pub fn table(self, head: &[&str], rows: &[(Vec<String>, serde_json::Value)]) {
        if self.json {
            for (_, object) in rows {
                self.line(&object.to_string());
            }
            return;
        }
        let widths: Vec<usize> = (0..head.len())
            .map(|c| {
                rows.iter()
                    .map(|(r, _)| r[c].chars().count())
                    .chain([head[c].chars().count()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let print = |cells: &[String]| {
            let line: Vec<String> =
                cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            self.line(line.join("  ").trim_end());
        };
        print(&head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
        for (row, _) in rows {
            print(row);
        }
    }

    /// One line; a reader that hung up (`| head`) is no fault of ours.
    fn line(self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Says why the command ends, and returns its exit code.
    pub fn error(self, error: &CliError) -> Exit {
        let CliError { failure, exit } = error;
        if self.json {
            self.object(&serde_json::json!({
                "event": "error",
                "code": failure.code.to_string(),
                "message": failure.sentence,
                "remedy": failure.remedy,
                "exit": *exit as u8,
            }));
        } else {
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "keywright: {} ({})\n  {}", failure.sentence, failure.code, failure.remedy);
        }
        *exit
    }
}

/// Asks whoever sits at the terminal; anything but yes is no.
pub fn ask(question: &str) -> Result<bool, CliError> {
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|e| Failure::new(FailureCode::StationFault, format!("the terminal: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_table() {
        let exit = |code| CliError::from(Failure::new(code, "")).exit as u8;
        assert_eq!(exit(FailureCode::InvalidInput), 2);
        assert_eq!(exit(FailureCode::Cancelled), 3);
        assert_eq!(exit(FailureCode::NoProbe), 4);
        assert_eq!(exit(FailureCode::RecordsFailed), 4);
        assert_eq!(exit(FailureCode::BatchClosed), 5);
        assert_eq!(exit(FailureCode::QuotaReached), 5);
        assert_eq!(exit(FailureCode::WrongPassphrase), 5);
    }

    #[test]
    fn records_errors_keep_their_meaning() {
        let not_found = RecordsError::NotFound { what: "batch", name: "B".into(), list: "batch list" };
        let error = CliError::from(not_found);
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.failure.remedy.contains("keywright batch list"));
        let refused = RecordsError::Refused(Box::new(Failure::new(FailureCode::BatchClosed, "B")));
        assert_eq!(CliError::from(refused).exit, Exit::Refused);
        assert_eq!(CliError::from(RecordsError::DiskFull { path: "p".into() }).exit, Exit::Station);
    }
}
