//! State icons, painted so that they are sharp at every zoom and need no font.
//!
//! Each state has its own outline: a person who sees no colour, or a grey print of the screen, still tells them
//! apart. The test at the bottom compares the painted shapes.

use egui::{Color32, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, Vec2, pos2, vec2};

/// What an icon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Icon {
    /// PASS: a check mark in a disc.
    Check,
    /// FAIL: a cross in an octagon.
    Cross,
    /// ERROR and trouble: an exclamation mark in a triangle.
    Warning,
    /// TIMEOUT: an hourglass.
    Hourglass,
    /// ABORTED: a square in a ring.
    Stop,
    /// In work: an open ring that turns.
    Turning,
    /// A board is in the fixture: a chip with its pins.
    Board,
    /// The fixture is empty: a dashed frame.
    Empty,
    /// Start.
    Play,
    /// Try again: a ring with an arrow head.
    Retry,
    /// Hand over to somebody: a person.
    Person,
    /// Copy: two sheets.
    Copy,
    /// Opens a list.
    Down,
    /// Light theme.
    Sun,
    /// Dark theme.
    Moon,
    /// Leads to what to do next.
    Arrow,
    /// Find: a magnifier.
    Search,
    /// Alarm: a bell.
    Bell,
    /// Settings: a gear.
    Gear,
    /// The program's own sign: a key whose bow is a chip.
    Key,
}

#[cfg(test)]
impl Icon {
    /// Every icon.
    pub const ALL: [Self; 20] = [
        Self::Check,
        Self::Cross,
        Self::Warning,
        Self::Hourglass,
        Self::Stop,
        Self::Turning,
        Self::Board,
        Self::Empty,
        Self::Play,
        Self::Retry,
        Self::Person,
        Self::Copy,
        Self::Down,
        Self::Sun,
        Self::Moon,
        Self::Arrow,
        Self::Search,
        Self::Bell,
        Self::Gear,
        Self::Key,
    ];
}

/// Points on a circle; angles in turns, clockwise from the top.
fn arc(center: Pos2, radius: f32, from: f32, to: f32) -> Vec<Pos2> {
    let n = ((to - from).abs() * 48.0).ceil().max(2.0) as usize;
    (0..=n)
        .map(|i| {
            let a = (from + (to - from) * i as f32 / n as f32 - 0.25) * std::f32::consts::TAU;
            center + radius * Vec2::angled(a)
        })
        .collect()
}

/// Paints `icon` into the square `rect`. `ink` is the icon, `paper` what shows through its inner marks; `turn` (in
/// turns) moves [`Icon::Turning`].
pub fn paint(painter: &Painter, rect: Rect, icon: Icon, ink: Color32, paper: Color32, turn: f32) {
    painter.extend(shapes(rect, icon, ink, paper, turn));
}

fn shapes(rect: Rect, icon: Icon, ink: Color32, paper: Color32, turn: f32) -> Vec<Shape> {
    let c = rect.center();
    // The design grid is 24 units wide, origin in the middle.
    let u = rect.width().min(rect.height()) / 24.0;
    let at = |x: f32, y: f32| pos2(c.x + x * u, c.y + y * u);
    let line = |points: &[(f32, f32)], width: f32, color: Color32| {
        let points: Vec<Pos2> = points.iter().map(|&(x, y)| at(x, y)).collect();
        let caps: Vec<Shape> =
            points.iter().map(|p| Shape::circle_filled(*p, width * u / 2.0, color)).collect();
        let mut all = vec![Shape::line(points, Stroke::new(width * u, color))];
        all.extend(caps);
        Shape::Vec(all)
    };
    let poly = |points: &[(f32, f32)], color: Color32| {
        Shape::convex_polygon(points.iter().map(|&(x, y)| at(x, y)).collect(), color, Stroke::NONE)
    };
    let ring = |radius: f32, width: f32| Shape::circle_stroke(c, radius * u, Stroke::new(width * u, ink));
    match icon {
        Icon::Check => vec![
            Shape::circle_filled(c, 11.0 * u, ink),
            line(&[(-5.0, 0.5), (-1.5, 4.0), (5.5, -4.0)], 2.8, paper),
        ],
        Icon::Cross => {
            let k = 11.0 * 0.4142;
            vec![
                poly(
                    &[
                        (-k, -11.0),
                        (k, -11.0),
                        (11.0, -k),
                        (11.0, k),
                        (k, 11.0),
                        (-k, 11.0),
                        (-11.0, k),
                        (-11.0, -k),
                    ],
                    ink,
                ),
                line(&[(-4.2, -4.2), (4.2, 4.2)], 2.8, paper),
                line(&[(-4.2, 4.2), (4.2, -4.2)], 2.8, paper),
            ]
        }
        Icon::Warning => vec![
            poly(&[(0.0, -9.5), (10.5, 8.8), (-10.5, 8.8)], ink),
            line(&[(0.0, -9.5), (10.5, 8.8), (-10.5, 8.8), (0.0, -9.5)], 2.0, ink),
            line(&[(0.0, -4.0), (0.0, 2.2)], 2.4, paper),
            Shape::circle_filled(at(0.0, 6.2), 1.6 * u, paper),
        ],
        Icon::Hourglass => vec![
            line(&[(-7.0, -10.0), (7.0, -10.0)], 2.4, ink),
            line(&[(-7.0, 10.0), (7.0, 10.0)], 2.4, ink),
            poly(&[(-6.0, -9.0), (6.0, -9.0), (5.0, -4.5), (0.8, 0.0), (-0.8, 0.0), (-5.0, -4.5)], ink),
            line(&[(-5.6, 9.0), (-4.8, 4.6), (0.0, 0.0), (4.8, 4.6), (5.6, 9.0)], 1.8, ink),
            poly(&[(-4.4, 9.0), (0.0, 5.2), (4.4, 9.0)], ink),
        ],
        Icon::Stop => vec![
            ring(9.8, 2.4),
            Shape::rect_filled(Rect::from_center_size(c, Vec2::splat(8.4 * u)), 1.2 * u, ink),
        ],
        Icon::Turning => vec![
            Shape::circle_stroke(c, 9.4 * u, Stroke::new(3.0 * u, ink.gamma_multiply(0.25))),
            Shape::line(arc(c, 9.4 * u, turn, turn + 0.32), Stroke::new(3.0 * u, ink)),
        ],
        Icon::Board => {
            let mut all = Vec::new();
            for i in [-1.0f32, 0.0, 1.0] {
                let d = i * 4.4;
                all.push(line(&[(d, -10.5), (d, 10.5)], 1.8, ink));
                all.push(line(&[(-10.5, d), (10.5, d)], 1.8, ink));
            }
            all.push(Shape::rect_filled(Rect::from_center_size(c, Vec2::splat(15.0 * u)), 2.4 * u, ink));
            all.push(Shape::circle_filled(at(-3.8, -3.8), 1.7 * u, paper));
            all
        }
        Icon::Empty => {
            let r = Rect::from_center_size(c, Vec2::splat(18.0 * u));
            let corners = [r.left_top(), r.right_top(), r.right_bottom(), r.left_bottom(), r.left_top()];
            Shape::dashed_line(&corners, Stroke::new(2.0 * u, ink), 3.6 * u, 3.6 * u)
        }
        Icon::Play => vec![
            poly(&[(-5.0, -8.0), (8.0, 0.0), (-5.0, 8.0)], ink),
            line(&[(-5.0, -8.0), (8.0, 0.0), (-5.0, 8.0), (-5.0, -8.0)], 2.0, ink),
        ],
        Icon::Retry => vec![
            Shape::line(arc(c, 8.2 * u, 0.12, 0.88), Stroke::new(2.6 * u, ink)),
            poly(&[(1.4, -11.6), (9.0, -8.4), (2.6, -2.6)], ink),
        ],
        Icon::Person => {
            let mut body = arc(at(0.0, 10.0), 9.4 * u, -0.25, 0.25);
            body.push(at(9.4, 10.0));
            vec![
                Shape::circle_filled(at(0.0, -5.4), 4.9 * u, ink),
                Shape::convex_polygon(body, ink, Stroke::NONE),
            ]
        }
        Icon::Copy => vec![
            Shape::rect_stroke(
                Rect::from_min_max(at(-9.0, -9.0), at(4.0, 4.0)),
                2.0 * u,
                Stroke::new(2.0 * u, ink),
                StrokeKind::Middle,
            ),
            Shape::rect_filled(Rect::from_min_max(at(-4.0, -4.0), at(9.0, 9.0)), 2.0 * u, ink),
        ],
        Icon::Down => vec![line(&[(-6.0, -3.0), (0.0, 3.5), (6.0, -3.0)], 2.6, ink)],
        Icon::Sun => {
            let mut all = vec![Shape::circle_filled(c, 5.0 * u, ink)];
            for i in 0..8 {
                let v = Vec2::angled(i as f32 / 8.0 * std::f32::consts::TAU);
                all.push(Shape::line_segment([c + v * 7.6 * u, c + v * 10.8 * u], Stroke::new(2.2 * u, ink)));
            }
            all
        }
        Icon::Gear => {
            let mut all = vec![Shape::circle_filled(c, 7.4 * u, ink)];
            for i in 0..8 {
                let v = Vec2::angled((i as f32 + 0.5) / 8.0 * std::f32::consts::TAU);
                all.push(Shape::line_segment([c + v * 6.0 * u, c + v * 10.6 * u], Stroke::new(4.0 * u, ink)));
            }
            all.push(Shape::circle_filled(c, 3.4 * u, paper));
            all
        }
        Icon::Moon => vec![
            Shape::circle_filled(c, 9.0 * u, ink),
            Shape::circle_filled(c + vec2(4.6, -3.6) * u, 7.6 * u, paper),
        ],
        Icon::Arrow => vec![
            line(&[(-8.0, 0.0), (7.0, 0.0)], 2.4, ink),
            line(&[(1.5, -5.5), (7.5, 0.0), (1.5, 5.5)], 2.4, ink),
        ],
        Icon::Search => vec![
            Shape::circle_stroke(at(-2.4, -2.4), 6.6 * u, Stroke::new(2.4 * u, ink)),
            line(&[(2.8, 2.8), (9.0, 9.0)], 3.0, ink),
        ],
        Icon::Bell => vec![
            line(&[(0.0, -9.8), (0.0, -7.0)], 2.4, ink),
            Shape::circle_filled(at(0.0, -2.4), 6.2 * u, ink),
            poly(&[(-6.2, -2.4), (6.2, -2.4), (6.2, 3.0), (9.4, 6.6), (-9.4, 6.6), (-6.2, 3.0)], ink),
            Shape::circle_filled(at(0.0, 8.6), 2.4 * u, ink),
        ],
        Icon::Key => {
            let bow = Rect::from_center_size(at(-5.0, 0.0), Vec2::splat(11.0 * u));
            vec![
                line(&[(-9.0, -8.4), (-9.0, 8.4)], 1.5, ink),
                line(&[(-5.0, -8.4), (-5.0, 8.4)], 1.5, ink),
                line(&[(-1.0, -8.4), (-1.0, 8.4)], 1.5, ink),
                Shape::rect_filled(bow, 2.2 * u, ink),
                Shape::circle_filled(bow.center(), 2.4 * u, paper),
                line(&[(0.0, 0.0), (10.8, 0.0)], 2.6, ink),
                line(&[(6.0, 0.0), (6.0, 4.6)], 2.4, ink),
                line(&[(10.6, 0.0), (10.6, 4.6)], 2.4, ink),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_icons_share_a_shape() {
        let rect = Rect::from_min_size(Pos2::ZERO, Vec2::splat(24.0));
        let drawn: Vec<Vec<Shape>> =
            Icon::ALL.iter().map(|i| shapes(rect, *i, Color32::BLACK, Color32::WHITE, 0.0)).collect();
        for a in 0..drawn.len() {
            assert!(!drawn[a].is_empty(), "{:?} paints nothing", Icon::ALL[a]);
            for b in 0..a {
                assert_ne!(drawn[a], drawn[b], "{:?} and {:?} look the same", Icon::ALL[a], Icon::ALL[b]);
            }
        }
    }

    #[test]
    fn icons_stay_in_their_square() {
        let rect = Rect::from_min_size(pos2(100.0, 50.0), Vec2::splat(48.0));
        for icon in Icon::ALL {
            for shape in shapes(rect, icon, Color32::BLACK, Color32::WHITE, 0.6) {
                let painted = shape.visual_bounding_rect();
                assert!(rect.expand(1.5).contains_rect(painted), "{icon:?} paints {painted:?}");
            }
        }
    }
}
