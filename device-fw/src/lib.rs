//! Firmware of a Keywright unit: a library that runs on the host, and two thin binaries for the chip.
//!
//! `boot` checks slot A and jumps. `app` drives [`engine`], which owns a [`store`] of key areas over any
//! NOR flash, and talks packets over any [`traits::Link`].
#![no_std]

pub mod cloud;
pub mod engine;
pub mod image;
pub mod link;
pub mod mqtt;
pub mod store;
pub mod traits;

#[cfg(feature = "target")]
pub mod hw;
