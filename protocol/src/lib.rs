//! (filled in by the next commits)
#![no_std]
