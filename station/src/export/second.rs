//! The second person who stands by when keys are handed out.

use crate::failure::{Failure, FailureCode};
use crate::people::{Credential, People, same_name};

/// Who is said to stand by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecondPerson {
    /// Nobody.
    #[default]
    Nobody,
    /// Somebody of this name. A station without people takes their word for it.
    Named(String),
    /// A person of this station, who shows a PIN or a badge.
    Shows(Credential),
}

/// The name of who stands by, once it is sure that they do: on a station with people they have shown what only they have, and are not
/// the operator. Wrong tries count as those of a login do.
///
/// # Errors
/// `SecondPerson`; on a station with people those of a login.
pub fn second_person(
    people: &People,
    operator: &str,
    given: &SecondPerson,
    subject: &str,
) -> Result<Option<String>, Failure> {
    let refused = |why: &str| Failure::new(FailureCode::SecondPerson, why);
    match given {
        SecondPerson::Nobody => Ok(None),
        SecondPerson::Named(name) if name.trim().is_empty() => Ok(None),
        SecondPerson::Named(name) if same_name(name, operator) => {
            Err(super::ExportError::SamePerson.failure())
        }
        SecondPerson::Named(name) if people.is_open() => Ok(Some(name.trim().to_owned())),
        SecondPerson::Named(_) => Err(refused("a name alone proves nothing on a station with people")),
        SecondPerson::Shows(_) if people.is_open() => {
            Err(refused("nobody works here by name, so there is no PIN and no badge to show"))
        }
        SecondPerson::Shows(credential) => {
            people.stand_by(credential, operator, subject).map(|who| Some(who.name))
        }
    }
}
