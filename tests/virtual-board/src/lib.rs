//! The virtual board: an emulated STM32F429ZI that runs the real firmware and is
//! reached by the real tools, SWD over TCP and serial over a pseudo-terminal.
//!
//! Two ways in. A test that wants to own time takes a [`Board`] and runs it step
//! by step; the same calls give the same run, to the cycle. A person, or a test
//! of the station, starts a [`Bench`]: fixtures with a probe and a serial port
//! each, boards that run by themselves.
//!
//! ```text
//! station / probe-rs ──TCP──▶ remote ─┐
//!                                     ├─▶ board ─▶ core (rsemu) ─▶ periph, flash
//! station / terminal ──PTY──▶ serial ─┘     ▲
//! test, control socket ─────────────────────┘
//! ```
//!
//! *Architecture invariants*: `board` and everything below it never reads the
//! host's clock, never blocks and starts no thread; `bench` alone does. Nothing
//! here knows what the firmware is.

pub mod bench;
pub mod board;
pub mod control;
mod debug;
mod fast;
pub mod flash;
mod periph;
mod remote;
pub mod rng;
pub mod serial;
pub mod uid;

pub use bench::{Bench, BenchConfig, BenchError, Fixture, Status};
pub use board::{Activity, Board, BoardConfig, BoardError};
pub use flash::{FlashStore, FlashTiming, OptionBytes, ReadProtection};
pub use periph::{CORE_HZ, ResetCause};
pub use remote::Remote;
pub use uid::Uid;
