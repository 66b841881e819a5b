//! Keywright's station: everything between the operator and the boards.
//!
//! Code map: [`line`] runs units through fixtures, [`hardware`] reaches probes and serial ports,
//! [`agent`] issues keys, `cloud` lets units in with them, [`records`] keeps everything that happened, [`export`]
//! hands protected key lists out, [`preflight`] looks at everything before the first board, [`sound`] can be heard, [`desk`] is where QA works on units that come back, [`people`] who may do what, [`first_run`] sets a station up and [`host`] keeps it open for the window, [`anchors`] holds the root and regional keys, [`i18n`] the window's words in every language. The window and the command line
//! are thin over these.
//!
//! Architecture invariants:
//! - The UI never touches hardware, SQL or the network: commands go down, events come up.
//! - Every irreversible act has a record written before it and after it.
//! - Export reads records only.
//! - A secret has a type that redacts, zeroizes and cannot be formatted by accident.
//! - Only `records` holds SQL; only `hardware` knows probe-rs and serialport.

pub mod agent;
pub mod anchors;
pub mod backstage;
pub mod backup;
pub mod cli;
pub mod cloud;
pub mod compare;
pub mod config;
pub mod crash;
pub mod desk;
pub mod export;
pub mod failure;
pub mod figures;
pub mod first_run;
pub mod foreman;
#[cfg(feature = "gui")]
pub mod gui;
#[cfg(feature = "hardware")]
pub mod hardware;
pub mod host;
pub mod hsm;
pub mod i18n;
pub mod image;
pub mod label;
pub mod line;
pub mod matrix;
pub mod model;
pub mod office;
pub mod orders;
pub mod people;
pub mod preflight;
pub mod records;
#[cfg(feature = "hardware")]
pub mod rehearsal;
pub mod secrets;
pub mod settings;
mod settings_changes;
pub mod shift;
pub mod sound;
pub mod station;
pub mod traveler;
pub mod trust;
