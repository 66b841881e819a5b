//! Where the tiles go: 1 to 32 fixtures (and more, by scrolling) in any window.

use egui::{Rect, Vec2, pos2, vec2};

/// How much a tile has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Density {
    /// Steps, failure text, buttons.
    Full,
    /// State, serial, progress; the rest is in the strip of the fixture in focus.
    Compact,
    /// The same without its clock, closer together: many fixtures in a small window.
    Small,
}

/// The places of all tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Tiles in a row.
    pub columns: usize,
    /// Size of one tile.
    pub tile: Vec2,
    /// Between tiles.
    pub gap: f32,
    /// What a tile shows.
    pub density: Density,
    /// Room left of the first column, so that few tiles stand in the middle.
    pub left: f32,
}

/// The least size at which a full tile's words all fit.
pub const FULL: Vec2 = vec2(288.0, 240.0);
/// The least size at which a compact tile can be read.
pub const COMPACT: Vec2 = vec2(144.0, 92.0);
/// The least size at which a small tile can be read: its name, its word, one line.
pub const SMALL: Vec2 = vec2(112.0, 76.0);
/// The same without its line, which the strip says: better than a fixture out of sight.
const SMALLEST: Vec2 = vec2(112.0, 60.0);
/// A tile larger than this only moves its words apart.
const LARGEST: Vec2 = vec2(720.0, 560.0);
/// A tile taller than this share of its width is mostly empty.
const TALLEST: f32 = 1.05;

impl Grid {
    /// Lays `count` tiles into `room`: full ones as large as they can be, else compact ones, else small ones, else compact ones
    /// that scroll.
    pub fn new(count: usize, room: Vec2) -> Self {
        let count = count.max(1);
        Self::fit(count, room, FULL, 12.0, Density::Full)
            .or_else(|| Self::fit(count, room, COMPACT, 8.0, Density::Compact))
            .or_else(|| Self::fit(count, room, SMALL, 6.0, Density::Small))
            .or_else(|| Self::fit(count, room, SMALLEST, 6.0, Density::Small))
            .unwrap_or_else(|| {
                let gap = 8.0;
                let columns = (((room.x + gap) / (COMPACT.x + gap)) as usize).clamp(1, count);
                let width = (room.x - gap * (columns - 1) as f32) / columns as f32;
                Self { columns, tile: vec2(width, COMPACT.y), gap, density: Density::Compact, left: 0.0 }
            })
    }

    fn fit(count: usize, room: Vec2, least: Vec2, gap: f32, density: Density) -> Option<Self> {
        (1..=count)
            .filter_map(|columns| {
                let rows = count.div_ceil(columns);
                let tile = vec2(
                    (room.x - gap * (columns - 1) as f32) / columns as f32,
                    (room.y - gap * (rows - 1) as f32) / rows as f32,
                )
                .min(LARGEST);
                let tile = vec2(tile.x, tile.y.min((tile.x * TALLEST).max(least.y)));
                (tile.x >= least.x && tile.y >= least.y).then_some((columns, rows, tile))
            })
            // The scale at which the words can be painted decides; an even last row breaks ties.
            .max_by(|(ca, ra, a), (cb, rb, b)| {
                let scale = |t: &Vec2| (t.x / least.x).min(t.y / least.y);
                scale(a).total_cmp(&scale(b)).then((cb * rb).cmp(&(ca * ra)))
            })
            .map(|(columns, _, tile)| {
                let used = tile.x * columns as f32 + gap * (columns - 1) as f32;
                Self { columns, tile, gap, density, left: ((room.x - used) / 2.0).max(0.0) }
            })
    }

    /// Rows that `count` tiles take.
    pub fn rows(&self, count: usize) -> usize {
        count.div_ceil(self.columns)
    }

    /// Height that `count` tiles take.
    pub fn height(&self, count: usize) -> f32 {
        let rows = self.rows(count) as f32;
        rows * self.tile.y + (rows - 1.0).max(0.0) * self.gap
    }

    /// Place of tile `index`, with the grid's top left at `origin`.
    pub fn rect(&self, index: usize, origin: egui::Pos2) -> Rect {
        let (row, column) = (index / self.columns, index % self.columns);
        Rect::from_min_size(
            pos2(
                origin.x + self.left + column as f32 * (self.tile.x + self.gap),
                origin.y + row as f32 * (self.tile.y + self.gap),
            ),
            self.tile,
        )
    }

    /// Scale of a tile's words against its least size.
    pub fn scale(&self) -> f32 {
        // Compact tiles rather say more than say it larger.
        let (least, largest) = match self.density {
            Density::Full => (FULL, 1.7),
            Density::Compact => (COMPACT, 1.35),
            Density::Small => (SMALL, 1.15),
        };
        (self.tile.x / least.x).min(self.tile.y / least.y).clamp(1.0, largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_never_overlap_nor_leave_the_room_at_any_supported_size() {
        for room in [vec2(1248.0, 500.0), vec2(1568.0, 640.0), vec2(1888.0, 880.0), vec2(3800.0, 1900.0)] {
            for count in 1..=32 {
                let grid = Grid::new(count, room);
                let area = Rect::from_min_size(egui::Pos2::ZERO, room).expand(0.01);
                let tiles: Vec<Rect> = (0..count).map(|i| grid.rect(i, egui::Pos2::ZERO)).collect();
                for (i, a) in tiles.iter().enumerate() {
                    assert!(area.contains_rect(*a), "{count} in {room:?}: tile {i} at {a:?}");
                    assert!(a.width() >= COMPACT.x && a.height() >= COMPACT.y, "{count} in {room:?}: {a:?}");
                    for b in &tiles[..i] {
                        assert!(!a.shrink(0.5).intersects(*b), "{count} in {room:?}: {a:?} on {b:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn eight_fixtures_are_shown_in_full_on_the_smallest_window() {
        for count in 1..=4 {
            assert_eq!(Grid::new(count, vec2(1248.0, 460.0)).density, Density::Full, "{count}");
        }
        assert_eq!(Grid::new(8, vec2(1248.0, 520.0)).density, Density::Full);
    }

    #[test]
    fn thirty_two_fixtures_are_all_in_sight_in_the_smallest_window() {
        // 1024×640 without header, footer and the strip of the fixture in focus.
        let room = vec2(992.0, 355.0);
        let grid = Grid::new(32, room);
        assert_eq!(grid.density, Density::Small);
        assert!(grid.height(32) <= room.y && grid.rect(7, egui::Pos2::ZERO).right() <= room.x, "{grid:?}");
        assert!(grid.tile.x >= SMALL.x && grid.tile.y >= SMALL.y);
        // A bar above them takes their line, and none of them.
        let room = vec2(992.0, 287.0);
        let grid = Grid::new(32, room);
        assert!(grid.density == Density::Small && grid.height(32) <= room.y, "{grid:?}");
    }

    #[test]
    fn a_window_too_small_for_all_tiles_keeps_them_readable_and_scrolls() {
        let grid = Grid::new(32, vec2(500.0, 200.0));
        assert!(grid.tile.x >= COMPACT.x && grid.tile.y >= COMPACT.y);
        assert!(grid.height(32) > 200.0);
        assert!(grid.rect(2, egui::Pos2::ZERO).right() <= 500.0);
    }
}
