//! Compares a picture with the one in the repository, and puts a new one there if that is asked for (`UPDATE_SNAPSHOTS=1`).

use image::{Rgba, RgbaImage};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// A channel may be off by this much: the toolkit may round letters' edges a little differently with other vector instructions, and
/// kept pictures have fewer colours. The two surfaces of the window that are nearest to each other differ by more.
pub const TOLERANCE: u8 = 12;

/// By how much kept colours may differ from what was painted.
const KEPT_APART: u8 = 9;

type Colour = [u8; 4];

/// What differs.
#[derive(Debug)]
pub struct Difference {
    /// How many pixels.
    pub pixels: u32,
    /// The new picture in grey with those pixels in red.
    pub picture: RgbaImage,
}

/// Compares two pictures of one size; `None` if they are the same to the eye.
pub fn difference(old: &RgbaImage, new: &RgbaImage) -> Option<Difference> {
    let apart = |a: &Rgba<u8>, b: &Rgba<u8>| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > TOLERANCE);
    let mut picture = RgbaImage::new(new.width(), new.height());
    let mut pixels = 0;
    for ((x, y, now), shown) in new.enumerate_pixels().zip(picture.pixels_mut()) {
        let differs = old.get_pixel_checked(x, y).is_none_or(|before| apart(before, now));
        pixels += u32::from(differs);
        let grey = 128 + ((u16::from(now.0[0]) + u16::from(now.0[1]) + u16::from(now.0[2])) / 6) as u8;
        *shown = if differs { Rgba([255, 0, 0, 255]) } else { Rgba([grey, grey, grey, 255]) };
    }
    let same = pixels == 0 && old.dimensions() == new.dimensions();
    (!same).then_some(Difference { pixels, picture })
}

/// New pictures replace the old ones.
pub fn is_updating() -> bool {
    std::env::var("UPDATE_SNAPSHOTS")
        .is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false" | "no" | "off"))
}

/// Compares with `folder/name.png`. If they differ, `name.new.png` and `name.diff.png` are left beside it; if pictures are being
/// updated, it is replaced.
///
/// # Errors
/// What differs and what to do, for a person.
pub fn check(folder: &Path, name: &str, picture: &RgbaImage) -> Result<(), String> {
    let place = |end: &str| folder.join(format!("{name}{end}.png"));
    let (kept, new, diff) = (place(""), place(".new"), place(".diff"));
    for left in [&new, &diff] {
        let _ = fs::remove_file(left);
    }
    let before = match image::open(&kept) {
        Ok(before) => Some(before.to_rgba8()),
        Err(image::ImageError::IoError(e)) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(format!("{}: {e}", kept.display())),
    };
    let found = before.as_ref().map(|before| difference(before, picture));
    let told = match &found {
        Some(None) => return Ok(()),
        Some(Some(found)) => format!("{} pixels differ", found.pixels),
        None => "there is no such picture yet".into(),
    };
    let written = |path: &Path, picture: &RgbaImage| {
        write(path, picture).map_err(|e| format!("{}: {e}", path.display()))
    };
    if is_updating() {
        return written(&kept, picture);
    }
    written(&new, picture)?;
    if let Some(Some(found)) = found {
        written(&diff, &found.picture)?;
    }
    Err(format!(
        "{name}: {told}; look at {}, and if that is how it shall look, run again with UPDATE_SNAPSHOTS=1",
        new.display()
    ))
}

/// Writes a picture for keeping: with as many colours as a palette has room for, each at most [`KEPT_APART`] beside its own.
fn write(path: &Path, picture: &RgbaImage) -> Result<(), png::EncodingError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut encoder =
        png::Encoder::new(io::BufWriter::new(fs::File::create(path)?), picture.width(), picture.height());
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let data: Vec<u8> = match palette(picture) {
        Some((palette, places)) => {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.iter().flat_map(|c| [c[0], c[1], c[2]]).collect::<Vec<_>>());
            encoder.set_filter(png::Filter::NoFilter);
            picture.pixels().map(|p| places[&p.0]).collect()
        }
        None => {
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_filter(png::Filter::Adaptive);
            picture.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect()
        }
    };
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&data)?;
    writer.finish()
}

/// At most 256 colours, and which of them stands for each of its own. What covers areas stays as it is: the most
/// frequent colours come first, and one near to an earlier one (an edge of a letter) becomes that.
fn palette(picture: &RgbaImage) -> Option<(Vec<Colour>, BTreeMap<Colour, u8>)> {
    let mut counts = BTreeMap::<_, u32>::new();
    picture.pixels().for_each(|p| *counts.entry(p.0).or_default() += 1);
    let mut colours: Vec<_> = counts.into_iter().collect();
    colours.sort_by_key(|(colour, count)| (std::cmp::Reverse(*count), *colour));
    let apart = |a: &Colour, b: &Colour| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    (0..=KEPT_APART).find_map(|most| {
        let (mut palette, mut places) = (Vec::new(), BTreeMap::new());
        for (colour, _) in &colours {
            let near = palette.iter().enumerate().map(|(n, other)| (apart(colour, other), n)).min();
            let place = match near {
                Some((distance, n)) if distance <= most => n,
                _ if palette.len() == 256 => return None,
                _ => {
                    palette.push(*colour);
                    palette.len() - 1
                }
            };
            places.insert(*colour, place as u8);
        }
        Some((palette, places))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(shift: u8) -> RgbaImage {
        RgbaImage::from_fn(64, 64, |x, y| {
            let letter = x % 16 == 3 && y > 8;
            let grey = if letter { (x * 3 + y) as u8 } else { 240 };
            Rgba([grey, grey.saturating_sub(shift), 200, 255])
        })
    }

    #[test]
    fn a_picture_is_kept_small_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/a.png");
        write(&path, &gradient(0)).expect("written");
        let kept = image::open(&path).expect("read").to_rgba8();
        assert!(difference(&kept, &gradient(0)).is_none());
        assert_eq!(kept.get_pixel(0, 0).0, [240, 240, 200, 255], "areas keep their colour");
        let size = fs::metadata(&path).expect("a file").len();
        assert!(size < 2_000, "{size} bytes");
    }

    #[test]
    fn what_differs_is_counted_painted_and_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = check(folder.path(), "new", &gradient(0)).expect_err("there is none yet");
        assert!(told.contains("no such picture") && folder.path().join("new.new.png").is_file(), "{told}");
        let path = folder.path().join("old.png");
        write(&path, &gradient(0)).expect("written");
        check(folder.path(), "old", &gradient(0)).expect("the same");
        let told = check(folder.path(), "old", &gradient(TOLERANCE + KEPT_APART + 1)).expect_err("another");
        assert!(told.contains("4096 pixels differ"), "{told}");
        let diff = image::open(folder.path().join("old.diff.png")).expect("a picture").to_rgba8();
        assert_eq!(diff.get_pixel(9, 9).0, [255, 0, 0, 255]);
        check(folder.path(), "old", &gradient(0)).expect("the same");
        assert!(!folder.path().join("old.diff.png").exists() && !folder.path().join("old.new.png").exists());
        let found = difference(&gradient(0), &RgbaImage::new(64, 65)).expect("another size");
        assert_eq!(found.picture.dimensions(), (64, 65));
    }
}
