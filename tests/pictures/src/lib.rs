//! Pictures of the window for tests: painted without a graphics card ([`Raster`]) and compared with those in the repository
//! ([`check`]).
//!
//! Invariant: the same triangles give the same picture on every machine. The painter counts in whole numbers and in one order; only
//! what the toolkit itself computes in floating point (layout, the edges of letters) may differ by a shade, and [`TOLERANCE`] is for
//! that.

mod compare;
mod raster;

pub use compare::{Difference, TOLERANCE, check, difference, is_updating};
pub use image::RgbaImage;
pub use raster::Raster;
