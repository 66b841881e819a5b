//! Paints what egui tessellated: textured triangles with a colour at each corner, premultiplied alpha, one over the other.
//!
//! A graphics card does the same with its own rounding. Here corners lie on a grid of 1/256 pixel, whether a pixel's centre is
//! inside is decided by the sign of three whole numbers (edges that two triangles share belong to one of them: the top-left rule),
//! and colours are bytes.

use egui::epaint::{ClippedPrimitive, ImageDelta, Mesh, Primitive, Vertex};
use egui::{Color32, FullOutput, ImageData, Rect, TextureFilter, TextureId, TexturesDelta};
use egui_kittest::TestRenderer;
use image::RgbaImage;
use std::collections::BTreeMap;

/// Steps of a pixel, and of a texel.
const SUB: i64 = 256;

/// The painter: give one to `HarnessBuilder::renderer`.
#[derive(Default)]
pub struct Raster {
    textures: BTreeMap<TextureId, Texture>,
}

#[derive(Default)]
struct Texture {
    size: [i64; 2],
    texels: Vec<Color32>,
    nearest: bool,
}

impl Texture {
    fn take(&mut self, delta: &ImageDelta) {
        let ImageData::Color(image) = &delta.image;
        let [width, height] = image.size;
        self.nearest = delta.options.magnification == TextureFilter::Nearest;
        match delta.pos {
            None => {
                self.size = [width as i64, height as i64];
                self.texels = image.pixels.clone();
            }
            Some([x, y]) => {
                let stride = self.size[0] as usize;
                for (row, texels) in image.pixels.chunks(width.max(1)).enumerate().take(height) {
                    let at = (y + row) * stride + x;
                    self.texels[at..at + width].copy_from_slice(texels);
                }
            }
        }
    }

    fn texel(&self, x: i64, y: i64) -> Color32 {
        let (x, y) = (x.clamp(0, self.size[0] - 1), y.clamp(0, self.size[1] - 1));
        self.texels[(y * self.size[0] + x) as usize]
    }

    /// The colour at a place given in steps of a texel.
    fn sample(&self, u: i64, v: i64) -> Color32 {
        if self.nearest {
            return self.texel(u.div_euclid(SUB), v.div_euclid(SUB));
        }
        let (u, v) = (u - SUB / 2, v - SUB / 2);
        let (x, y) = (u.div_euclid(SUB), v.div_euclid(SUB));
        let (fx, fy) = (u.rem_euclid(SUB), v.rem_euclid(SUB));
        if fx == 0 && fy == 0 {
            return self.texel(x, y);
        }
        let corners = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.texel(x + dx, y + dy).to_array());
        let shares = [(SUB - fx) * (SUB - fy), fx * (SUB - fy), (SUB - fx) * fy, fx * fy];
        let mixed: [u8; 4] = std::array::from_fn(|c| {
            let sum: i64 = corners.iter().zip(shares).map(|(texel, share)| i64::from(texel[c]) * share).sum();
            ((sum + SUB * SUB / 2) / (SUB * SUB)) as u8
        });
        Color32::from_rgba_premultiplied(mixed[0], mixed[1], mixed[2], mixed[3])
    }
}

/// A corner on the grid.
#[derive(Clone, Copy)]
struct Corner {
    x: i64,
    y: i64,
    u: i64,
    v: i64,
    color: [i64; 4],
}

/// Pixels that may be painted: `[left, top, right, bottom]`, the last two outside.
type Scissors = [i64; 4];

struct Canvas {
    width: i64,
    pixels: Vec<[u8; 4]>,
}

const fn product(a: u8, b: u8) -> u8 {
    ((a as u32 * b as u32 + 127) / 255) as u8
}

impl Canvas {
    fn over(&mut self, x: i64, y: i64, source: [u8; 4]) {
        let below = &mut self.pixels[(y * self.width + x) as usize];
        let rest = 255 - source[3];
        if rest == 0 {
            *below = source;
        } else if source != [0; 4] {
            // Glowing colours (alpha 0, premultiplied) only add.
            *below = std::array::from_fn(|c| source[c].saturating_add(product(below[c], rest)));
        }
    }

    fn triangle(&mut self, corners: [Corner; 3], texture: &Texture, scissors: Scissors) {
        let [a, mut b, mut c] = corners;
        let cross = |p: Corner, q: Corner, x: i64, y: i64| (q.x - p.x) * (y - p.y) - (q.y - p.y) * (x - p.x);
        let mut area = cross(a, b, c.x, c.y);
        if area < 0 {
            (b, c, area) = (c, b, -area);
        }
        if area == 0 {
            return;
        }
        let (xs, ys) = ([a.x, b.x, c.x], [a.y, b.y, c.y]);
        let least = |v: [i64; 3]| v.into_iter().min().unwrap_or(0).div_euclid(SUB);
        let most = |v: [i64; 3]| v.into_iter().max().unwrap_or(0).div_euclid(SUB) + 1;
        let (left, right) = (least(xs).max(scissors[0]), most(xs).min(scissors[2]));
        let (top, bottom) = (least(ys).max(scissors[1]), most(ys).min(scissors[3]));
        let edges = [(b, c), (c, a), (a, b)];
        // A centre exactly on an edge is inside for a top or a left edge only (y grows downwards, the inside is on the right).
        let bias = edges.map(|(p, q)| {
            let is_top = p.y == q.y && q.x > p.x;
            i64::from(!(is_top || q.y < p.y))
        });
        let plain = a.color == b.color && b.color == c.color;
        let untextured = (a.u, a.v) == (b.u, b.v) && (b.u, b.v) == (c.u, c.v);
        let flat = texture.sample(a.u, a.v).to_array();
        let ink = a.color.map(|channel| channel as u8);
        let uniform: [u8; 4] = std::array::from_fn(|c| product(ink[c], flat[c]));
        for y in top..bottom {
            let centre = y * SUB + SUB / 2;
            let mut w = edges.map(|(p, q)| cross(p, q, left * SUB + SUB / 2, centre));
            let step = edges.map(|(p, q)| -(q.y - p.y) * SUB);
            let mut entered = false;
            for x in left..right {
                if w[0] >= bias[0] && w[1] >= bias[1] && w[2] >= bias[2] {
                    entered = true;
                    if plain && untextured {
                        self.over(x, y, uniform);
                    } else {
                        let mix = |i: i64, j: i64, k: i64| {
                            (w[0] * i + w[1] * j + w[2] * k + area / 2).div_euclid(area)
                        };
                        let color: [u8; 4] = if plain {
                            ink
                        } else {
                            std::array::from_fn(|n| mix(a.color[n], b.color[n], c.color[n]) as u8)
                        };
                        let texel = if untextured {
                            flat
                        } else {
                            texture.sample(mix(a.u, b.u, c.u), mix(a.v, b.v, c.v)).to_array()
                        };
                        self.over(x, y, std::array::from_fn(|n| product(color[n], texel[n])));
                    }
                } else if entered {
                    break;
                }
                for (w, step) in w.iter_mut().zip(step) {
                    *w += step;
                }
            }
        }
    }

    fn mesh(&mut self, mesh: &Mesh, texture: &Texture, pixels_per_point: f32, scissors: Scissors) {
        let grid = |value: f32| (value * SUB as f32).round() as i64;
        let corner = |v: &Vertex| Corner {
            x: grid(v.pos.x * pixels_per_point),
            y: grid(v.pos.y * pixels_per_point),
            u: grid(v.uv.x * texture.size[0] as f32),
            v: grid(v.uv.y * texture.size[1] as f32),
            color: v.color.to_array().map(i64::from),
        };
        for three in mesh.indices.chunks_exact(3) {
            let corners = [0, 1, 2].map(|n| corner(&mesh.vertices[three[n] as usize]));
            self.triangle(corners, texture, scissors);
        }
    }
}

impl TestRenderer for Raster {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        for (id, deltas) in delta.set.drain() {
            let texture = self.textures.entry(id).or_default();
            deltas.iter().for_each(|delta| texture.take(delta));
        }
        for id in delta.free.drain() {
            self.textures.remove(&id);
        }
    }

    fn render(&mut self, ctx: &egui::Context, output: &FullOutput) -> Result<RgbaImage, String> {
        let scale = ctx.pixels_per_point();
        let size = ctx.content_rect().size() * scale;
        let (width, height) = (size.x.round() as u32, size.y.round() as u32);
        let mut canvas =
            Canvas { width: i64::from(width), pixels: vec![[0; 4]; width as usize * height as usize] };
        for ClippedPrimitive { clip_rect, primitive } in ctx.tessellate(output.shapes.clone(), scale) {
            let Primitive::Mesh(mesh) = &primitive else {
                return Err("a paint callback needs a graphics card".into());
            };
            let texture = self
                .textures
                .get(&mesh.texture_id)
                .ok_or_else(|| format!("no texture {:?}", mesh.texture_id))?;
            canvas.mesh(mesh, texture, scale, scissors(clip_rect, scale, width, height));
        }
        RgbaImage::from_raw(width, height, canvas.pixels.concat()).ok_or_else(|| "too large".to_owned())
    }
}

fn scissors(clip: Rect, scale: f32, width: u32, height: u32) -> Scissors {
    let pixel = |value: f32, most: u32| (value * scale).round().clamp(0.0, most as f32) as i64;
    [pixel(clip.min.x, width), pixel(clip.min.y, height), pixel(clip.max.x, width), pixel(clip.max.y, height)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{Vec2, pos2, vec2};
    use egui_kittest::Harness;

    fn painted(size: Vec2, scale: f32, paint: impl FnMut(&mut egui::Ui) + 'static) -> RgbaImage {
        let mut harness = Harness::builder()
            .with_size(size)
            .with_pixels_per_point(scale)
            .renderer(Raster::default())
            .build_ui(paint);
        harness.run();
        harness.render().expect("a picture")
    }

    fn white() -> Texture {
        Texture { size: [1, 1], texels: vec![Color32::WHITE], nearest: false }
    }

    fn corner(x: f32, y: f32) -> Corner {
        let grid = |v: f32| (v * SUB as f32) as i64;
        Corner { x: grid(x), y: grid(y), u: 0, v: 0, color: [100, 0, 0, 100] }
    }

    #[test]
    fn triangles_that_share_an_edge_paint_every_pixel_once() {
        // A fan around an odd point: a pixel painted twice would be darker than its neighbours, one left out empty.
        let rim: Vec<_> = [
            (0.0, 0.0),
            (9.0, 0.0),
            (16.0, 0.0),
            (16.0, 7.0),
            (16.0, 16.0),
            (3.5, 16.0),
            (0.0, 16.0),
            (0.0, 4.0),
        ]
        .to_vec();
        let mut canvas = Canvas { width: 16, pixels: vec![[0; 4]; 256] };
        for (i, (x, y)) in rim.iter().enumerate() {
            let (nx, ny) = rim[(i + 1) % rim.len()];
            // The middle lies on pixel centres, and the order of corners changes.
            let mut three = [corner(7.5, 8.5), corner(*x, *y), corner(nx, ny)];
            if i % 2 == 0 {
                three.swap(0, 2);
            }
            canvas.triangle(three, &white(), [0, 0, 16, 16]);
        }
        assert!(canvas.pixels.iter().all(|p| *p == [100, 0, 0, 100]), "{:?}", canvas.pixels);
    }

    #[test]
    fn scissors_cut_and_colours_are_mixed_between_corners() {
        let mut canvas = Canvas { width: 8, pixels: vec![[0; 4]; 64] };
        let mut corners = [corner(-8.0, 0.0), corner(8.0, 0.0), corner(0.0, 16.0)];
        corners[0].color = [0, 0, 0, 255];
        corners[1].color = [255, 0, 0, 255];
        corners[2].color = [0, 0, 255, 255];
        canvas.triangle(corners, &white(), [2, 1, 5, 3]);
        for (i, pixel) in canvas.pixels.iter().enumerate() {
            let (x, y) = (i % 8, i / 8);
            assert_eq!(pixel[3] == 255, (2..5).contains(&x) && (1..3).contains(&y), "{x} {y}");
        }
        let [near, far] = [canvas.pixels[8 + 2], canvas.pixels[8 + 4]];
        assert!(far[0] > near[0] && near[2] > 0, "{near:?} {far:?}");
    }

    #[test]
    fn a_texture_is_read_between_texels_and_beyond_its_edge() {
        let texels = vec![Color32::from_gray(0), Color32::from_gray(200)];
        let mut texture = Texture { size: [2, 1], texels, nearest: false };
        assert_eq!(texture.sample(SUB / 2, 0).r(), 0);
        assert_eq!(texture.sample(SUB, 5 * SUB).r(), 100);
        assert_eq!(texture.sample(9 * SUB, -SUB).r(), 200);
        texture.nearest = true;
        assert_eq!(texture.sample(SUB, 0).r(), 200);
    }

    #[test]
    fn a_window_is_painted_with_words_and_at_any_scale() {
        for scale in [1.0, 2.4] {
            let picture = painted(vec2(100.0, 40.0), scale, |ui| {
                let rect = Rect::from_min_max(pos2(10.0, 10.0), pos2(50.0, 30.0));
                ui.painter().rect_filled(ui.ctx().content_rect(), 0.0, Color32::WHITE);
                ui.painter().rect_filled(rect, 0.0, Color32::from_rgb(9, 80, 30));
                ui.painter().text(
                    pos2(60.0, 12.0),
                    egui::Align2::LEFT_TOP,
                    "abc",
                    egui::FontId::default(),
                    Color32::BLACK,
                );
            });
            assert_eq!(picture.dimensions(), ((100.0 * scale) as u32, (40.0 * scale) as u32));
            let at = |x: f32, y: f32| picture.get_pixel((x * scale) as u32, (y * scale) as u32).0;
            assert_eq!(at(30.0, 20.0), [9, 80, 30, 255]);
            assert_eq!(at(5.0, 5.0), [255; 4]);
            let dark = picture.pixels().filter(|p| p.0[1] < 60).count();
            assert!(dark > 20, "letters: {dark} dark pixels");
        }
    }

    #[test]
    fn what_needs_a_graphics_card_is_refused() {
        let mut harness = Harness::builder().renderer(Raster::default()).build_ui(|ui| {
            ui.painter().add(egui::PaintCallback { rect: ui.max_rect(), callback: std::sync::Arc::new(()) });
        });
        harness.run();
        assert!(harness.render().is_err_and(|e| e.contains("graphics card")));
    }
}
