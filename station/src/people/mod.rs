//! Who works here, and what each may do.
//!
//! Code map: the roles and their rights are here, one pure table; [`pin`] is what a PIN must be and how it is kept, [`session`] who
//! is logged in and when the station locks itself, [`gate`] joins both to the records: every command of the window and of the
//! command line goes through [`People`], and every state-changing one leaves a row in the audit log. [`office`] is the thread behind
//! the window. The SQL is in `records::people_store`. Design: `docs/people.md`.
//!
//! Invariants:
//! - A station without people is *open*: everybody may do everything, under the name they give.
//! - From the first admin on nothing that changes the station runs without a person who may do it.
//! - No PIN and no badge is in any message, log or record; types that hold one redact themselves.

use crate::failure::{Failure, FailureCode};
use serde::{Deserialize, Serialize};

pub mod gate;
pub mod office;
pub mod pin;
pub mod session;

pub use gate::{Credential, NewPerson, People};
pub use office::{Office, PeopleHandle};
pub use pin::{Pin, PinCost};
pub use session::Who;

/// What a person is here for. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the line.
    Technician,
    /// Looks after units that come back, and decides whether a batch goes on.
    Qa,
    /// The vendor's engineer: orders, batches, lists.
    Vendor,
    /// Looks after the station and its people.
    Admin,
}

impl Role {
    /// Every role, the one that may do least first.
    pub const ALL: [Self; 4] = [Self::Technician, Self::Qa, Self::Vendor, Self::Admin];

    /// The word in records and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Technician => "technician",
            Self::Qa => "qa",
            Self::Vendor => "vendor",
            Self::Admin => "admin",
        }
    }

    /// The word for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Technician => "Technician",
            Self::Qa => "QA",
            Self::Vendor => "Vendor engineer",
            Self::Admin => "Admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.title())
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("a role is technician, qa, vendor or admin, got {text:?}"))
    }
}

macro_rules! rights {
    ($( $(#[$doc:meta])* $name:ident = $least:ident, $words:literal; )*) => {
        /// Something that not everybody may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Right { $( $(#[$doc])* $name, )* }

        impl Right {
            /// Every right.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// What it lets a person do, to be read after “may”.
            pub const fn words(self) -> &'static str { match self { $(Self::$name => $words),* } }
            /// The role that may do least of those that have it.
            pub const fn least(self) -> Role { match self { $(Self::$name => Role::$least),* } }
        }
    };
}

rights! {
    /// Start and cancel units, choose the batch, auto-start.
    RunLine = Technician, "run the line";
    /// Labels.
    PrintLabels = Technician, "print labels";
    /// Count the trays and end the shift.
    EndShift = Technician, "end a shift";
    /// The Units view, one unit's history, alarms.
    SeeUnits = Qa, "look at units that come back";
    /// Shifts that ended, and how they balanced.
    SeeShifts = Qa, "look at shifts that ended";
    /// New keys, a new start, another region, another cloud.
    Reprovision = Qa, "give units new keys";
    /// Set a unit aside.
    Quarantine = Qa, "set units aside";
    /// Let a unit back.
    Release = Qa, "release units from quarantine";
    /// Take back a unit from a customer.
    Rma = Qa, "take units back";
    /// Prove a unit's keys once more, or compare it with its record.
    Retest = Qa, "retest units";
    /// Take a unit out for ever.
    Scrap = Qa, "scrap units";
    /// Let a batch go on after the check of a sample.
    ApproveGate = Qa, "let a paused batch go on";
    /// Stop a batch for a while.
    PauseBatch = Qa, "pause batches";
    /// The Trust view: root, regions, what rotates when.
    SeeTrust = Qa, "look at the chain of trust";
    /// Enter product orders and change what is expected of them.
    ManageOrders = Vendor, "enter product orders";
    /// Create, close and reopen batches.
    ManageBatches = Vendor, "create, close and reopen batches";
    /// Hand lists out.
    Export = Vendor, "export lists";
    /// Read what people did.
    ReadAudit = Vendor, "read the audit log";
    /// Hand the audit log out.
    ExportAudit = Admin, "export the audit log";
    /// Add people, change their roles, PINs and badges.
    ManagePeople = Admin, "manage people";
    /// station.toml and what the window changes of it.
    Settings = Admin, "change settings";
    /// Root, regions, agent's certificate.
    Anchors = Admin, "make anchors and regions";
    /// Cloud platforms.
    Clouds = Admin, "change clouds";
    /// Make a product key count for nothing.
    InvalidateKey = Admin, "make a product key invalid";
    /// Backups of the records.
    Backup = Admin, "back up and restore the records";
}

/// Whether the role has the right. The one place that decides.
pub const fn allows(role: Role, right: Right) -> bool {
    role as u8 >= right.least() as u8
}

/// Whether two names are one person's: as the records compare them.
pub fn same_name(one: &str, other: &str) -> bool {
    one.trim().eq_ignore_ascii_case(other.trim())
}

/// The roles that have a right, for people: “QA, Vendor engineer or Admin”.
pub fn who_may(right: Right) -> String {
    let all: Vec<_> = Role::ALL.into_iter().filter(|role| allows(*role, right)).map(Role::title).collect();
    match all.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// A person may not do this.
pub fn not_allowed(who: &Who, right: Right) -> Failure {
    Failure {
        code: FailureCode::NotAllowed,
        sentence: format!("{} ({}) may not {}", who.name, who.role, right.words()),
        remedy: format!("Ask somebody who may: {}", who_may(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/people.md` shows this table; the test keeps it true.
    #[test]
    fn the_table_of_rights_is_the_documented_one() {
        let mut table =
            String::from("| may | Technician | QA | Vendor engineer | Admin |\n|---|---|---|---|---|\n");
        for right in Right::ALL {
            let cells = Role::ALL.map(|role| if allows(role, *right) { "yes" } else { "–" });
            table += &format!("| {} | {} |\n", right.words(), cells.join(" | "));
        }
        println!("{table}");
        let doc = include_str!("../../../docs/people.md");
        assert!(doc.contains(&table), "docs/people.md has another table than\n{table}");
    }

    #[test]
    fn a_role_may_do_what_the_ones_before_it_may() {
        for right in Right::ALL {
            let may = Role::ALL.map(|role| allows(role, *right));
            assert!(may[3], "an admin may do everything");
            assert!(may.windows(2).all(|pair| pair[0] <= pair[1]), "{right:?}: {may:?}");
        }
        assert!(!allows(Role::Technician, Right::SeeUnits) && !allows(Role::Technician, Right::Settings));
        assert!(allows(Role::Qa, Right::Scrap) && !allows(Role::Qa, Right::Export));
        assert!(allows(Role::Vendor, Right::ReadAudit) && !allows(Role::Vendor, Right::ExportAudit));
    }

    #[test]
    fn a_refusal_names_person_right_and_who_has_it() {
        let who = Who { id: 1, name: "Ada".into(), role: Role::Technician };
        let failure = not_allowed(&who, Right::Scrap);
        assert_eq!(failure.sentence, "Ada (Technician) may not scrap units");
        assert_eq!(failure.remedy, "Ask somebody who may: QA, Vendor engineer or Admin");
        assert_eq!(who_may(Right::Anchors), "Admin");
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
    }
}
