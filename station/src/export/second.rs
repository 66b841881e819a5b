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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::people::pin::PinCost;
    use crate::people::{NewPerson, Pin, Role};
    use crate::records::{AuditFilter, OpenOptions, SqliteRecords};
    use crate::secrets::{KdfCost, Passphrase};
    use std::sync::Arc;
    use std::time::Duration;

    fn shows(name: &str, pin: &str) -> SecondPerson {
        SecondPerson::Shows(Credential::Pin { name: name.into(), pin: Pin::new(pin.to_owned()) })
    }

    fn badge(text: &str) -> SecondPerson {
        SecondPerson::Shows(Credential::Badge(Pin::new(text.to_owned())))
    }

    #[test]
    fn a_name_is_enough_on_an_open_station_and_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let options = OpenOptions { cost: KdfCost::TEST, ..OpenOptions::new("bench-1") };
        let records =
            SqliteRecords::open_with(&home.path().join("station.db"), options, &Passphrase::demo()).unwrap();
        let people = People::with(records, "Vic", PinCost::TEST, Arc::new(|| Duration::ZERO)).unwrap();
        let named = |name: &str| SecondPerson::Named(name.into());
        let second = |operator: &str, given: &SecondPerson| {
            second_person(&people, operator, given, "batch=B").map_err(|f| f.code)
        };
        assert_eq!(second("Vic", &SecondPerson::Nobody), Ok(None));
        assert_eq!(second("Vic", &named(" ")), Ok(None));
        assert_eq!(second("Vic", &named(" Bea ")), Ok(Some("Bea".into())));
        assert_eq!(second("Vic", &named("vic ")), Err(FailureCode::SecondPerson));
        assert_eq!(second("Vic", &shows("Bea", "2580")), Err(FailureCode::SecondPerson));

        let person = |name: &str, role, pin: &str, badge: Option<&str>| NewPerson {
            name: name.into(),
            role,
            pin: Pin::new(pin.to_owned()),
            badge: badge.map(|b| Pin::new(b.to_owned())),
        };
        people.add(&person("Vic", Role::Admin, "729450", Some("EMP-0001"))).unwrap();
        people.add(&person("Bea", Role::Technician, "2580", Some("EMP-0042"))).unwrap();
        people.add(&person("Gone", Role::Technician, "9134", None)).unwrap();
        people.set_active("Gone", false).unwrap();
        assert_eq!(second("Vic", &named("Mickey Mouse")), Err(FailureCode::SecondPerson));
        assert_eq!(second("Vic", &shows("Mickey Mouse", "2580")), Err(FailureCode::LoginFailed));
        assert_eq!(second("Vic", &shows("Gone", "9134")), Err(FailureCode::LoginFailed));
        assert_eq!(second("Vic", &shows("Bea", "2581")), Err(FailureCode::LoginFailed));
        for own in [shows("vic", "729450"), badge("EMP-0001")] {
            assert_eq!(second("Vic", &own), Err(FailureCode::SecondPerson), "their own");
        }
        assert_eq!(second("Vic", &shows("bea", "2580")), Ok(Some("Bea".into())));
        assert_eq!(second("Vic", &badge("EMP-0042")), Ok(Some("Bea".into())));
        assert_eq!(people.operator(), "Vic", "nobody else is logged in");
        // Both names stand in the row; what was shown does not.
        let rows = people.audit(&AuditFilter::default()).unwrap();
        let row = rows.iter().find(|r| r.action == "stood-by").unwrap();
        assert_eq!((row.person.as_str(), row.subject.as_str()), ("Bea", "batch=B"));
        assert_eq!((&row.detail["operator"], &row.detail["second_person"]), (&"Vic".into(), &"Bea".into()));
        let all = format!("{rows:?}");
        assert!(!all.contains("2580") && !all.contains("EMP-0042"), "{all}");
        // Wrong tries count, and lock out as those of a login do.
        for _ in 0..People::free_tries() - 1 {
            assert_eq!(second("Vic", &shows("Bea", "0000")), Err(FailureCode::LoginFailed));
        }
        assert_eq!(second("Vic", &shows("Bea", "0000")), Err(FailureCode::LockedOut));
        assert_eq!(second("Vic", &shows("Bea", "2580")), Err(FailureCode::LockedOut));
    }
}
