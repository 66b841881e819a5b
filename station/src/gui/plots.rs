//! The line's figures as pictures, and the same in words and tables.
//!
//! Invariant: what a plot shows is said in one sentence beside it, in its AccessKit label, and in full in its table; nothing is told by
//! its colour alone.

use super::theme::{Palette, regular, strong};
use crate::figures::{Cause, Cycle, Figures, Interval, QUARTER};
use crate::i18n::{self, tr};
use egui::{Align2, Color32, Id, Rect, RichText, Role, Sense, Stroke, Ui, UiBuilder, WidgetInfo, vec2};
use egui_plot::{AxisHints, Bar, BarChart, GridInput, GridMark, Line, Plot, PlotPoint, Points, Text};

const HOUR: f64 = 3_600_000.0;
/// Height of a table's row.
pub(super) const ROW: f32 = 23.0;
/// Rows of a table without a scroll of its own.
const MOST_ROWS: usize = 100;
/// Failure codes in the picture; the table has all of them.
const CAUSES: usize = 8;

/// Which picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Trend,
    Yield,
    Cycle,
    Causes,
}

impl Which {
    pub(super) const ALL: [Self; 4] = [Self::Trend, Self::Yield, Self::Cycle, Self::Causes];

    fn title(self, f: &Figures) -> String {
        match self {
            Self::Trend if f.interval_ms == QUARTER => tr!("shift-trend-quarter").into(),
            Self::Trend if f.interval_ms == 4 * QUARTER => tr!("shift-trend-hour").into(),
            Self::Trend => tr!("shift-trend-day").into(),
            Self::Yield => tr!("shift-yield-title").into(),
            Self::Cycle => tr!("shift-cycle-title").into(),
            Self::Causes => tr!("shift-causes-title").into(),
        }
    }

    /// The picture in one sentence.
    fn sentence(self, f: &Figures) -> String {
        match self {
            Self::Trend => match f.trend.iter().max_by_key(|t| (t.passed, t.at_ms)) {
                None => tr!("shift-nothing-yet").into(),
                Some(most) => tr!(
                    "shift-trend-sentence",
                    most = i18n::number(most.passed),
                    at = moment(most.at_ms, f.interval_ms),
                    last = i18n::number(f.trend.last().map_or(0, |t| t.passed))
                ),
            },
            Self::Yield => match lowest(&f.trend) {
                None => tr!("shift-nothing-yet").into(),
                Some((at_ms, low)) => tr!(
                    "shift-yield-sentence",
                    all = percent(f.first_pass_yield()),
                    low = percent(Some(low)),
                    at = moment(at_ms, f.interval_ms)
                ),
            },
            Self::Cycle => match &f.cycle {
                None => tr!("shift-no-pass-yet").into(),
                Some(c) => {
                    tr!("shift-cycle-sentence", median = seconds(c.median_ms), p90 = seconds(c.p90_ms))
                }
            },
            Self::Causes => match f.causes.first() {
                None => tr!("shift-no-cause").into(),
                Some(first) => tr!(
                    "shift-causes-sentence",
                    code = code(first),
                    what = what(first),
                    share = percent(Some(first.share)),
                    count = first.count,
                    all = i18n::number(f.not_passed)
                ),
            },
        }
    }

    /// Height of its card as a table, so that the view's own scroll is enough.
    pub(super) fn table_height(self, f: &Figures) -> f32 {
        let rows = match self {
            Self::Trend | Self::Yield => f.trend.len(),
            Self::Cycle => f.cycle.as_ref().map_or(0, |c| c.bars.iter().filter(|n| **n > 0).count()),
            Self::Causes => f.causes.len(),
        };
        70.0 + ROW * (rows.min(MOST_ROWS) + 1) as f32
    }

    fn is_empty(self, f: &Figures) -> bool {
        match self {
            Self::Trend => f.trend.is_empty(),
            Self::Yield => lowest(&f.trend).is_none(),
            Self::Cycle => f.cycle.is_none(),
            Self::Causes => f.causes.is_empty(),
        }
    }
}

fn lowest(trend: &[Interval]) -> Option<(i64, f64)> {
    trend
        .iter()
        .filter_map(|t| Some((t.at_ms, t.first_pass_yield()?)))
        .min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
}

/// `93.2 %`, or a dash.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".into(), |s| tr!("count-percent", value = i18n::decimal(s * 100.0, 1)))
}

/// `21.4 s`.
pub(super) fn seconds(ms: u32) -> String {
    tr!("shift-seconds", value = i18n::decimal(f64::from(ms) / 1000.0, 1))
}

fn moment(at_ms: i64, interval_ms: i64) -> String {
    if interval_ms > 4 * QUARTER { i18n::day(at_ms) } else { i18n::time(at_ms) }
}

/// `K304`.
fn code(cause: &Cause) -> String {
    format!("K{:03}", cause.code)
}

/// The code's sentence in the window's language.
fn what(cause: &Cause) -> String {
    cause.known().map_or_else(String::new, |code| i18n::failure(&crate::failure::Failure::new(code, "")).0)
}

fn from_to(c: &Cycle, i: usize) -> String {
    let (width, at) = (c.width_ms / 1000, i as u32);
    if c.open_ended && i + 1 == c.bars.len() {
        tr!("shift-bar-open", from = (width * at).to_string())
    } else {
        tr!("shift-bar", from = (width * at).to_string(), to = (width * (at + 1)).to_string())
    }
}

/// One of the four, as a picture or as a table.
pub(super) fn card(ui: &mut Ui, rect: Rect, which: Which, f: &Figures, table: bool, p: &Palette) {
    ui.painter().rect(rect, 14.0, p.surface, Stroke::new(1.0, p.border), egui::StrokeKind::Inside);
    let inner = rect.shrink2(vec2(14.0, 10.0));
    let title = Rect::from_min_size(inner.min, vec2(inner.width(), 20.0));
    super::widgets::line(ui, title, Align2::LEFT_CENTER, &which.title(f), strong(15.0), p.text);
    let sentence = Rect::from_min_size(title.left_bottom(), vec2(inner.width(), 18.0));
    let told = which.sentence(f);
    super::widgets::line(ui, sentence, Align2::LEFT_CENTER, &told, regular(13.0), p.muted);
    let body = Rect::from_min_max(sentence.left_bottom() + vec2(0.0, 6.0), inner.max);
    if which.is_empty(f) || body.height() < 40.0 {
        return;
    }
    // A child of its own: the cards have their places already, and move nothing.
    let mut inside = ui.new_child(UiBuilder::new().max_rect(body).id_salt(("figures", which as u8)));
    inside.set_clip_rect(body.intersect(ui.clip_rect()));
    if table {
        tables(&mut inside, which, f, p);
    } else {
        let name = tr!("shift-picture", title = which.title(f), told = told);
        picture(&mut inside, body, which, f, &name, p);
    }
}

fn plot<'a>(which: Which, rect: Rect, p: &Palette, x: AxisHints<'a>, y: AxisHints<'a>) -> Plot<'a> {
    let axis = |hints: AxisHints<'a>| hints.tick_label_font(regular(12.0)).tick_label_color(p.muted);
    Plot::new(("plot", which as u8))
        .width(rect.width())
        .height(rect.height())
        .show_background(false)
        .show_crosshair(false)
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_axis_zoom_drag(false)
        .allow_double_click_reset(false)
        .sense(Sense::hover())
        .grid_color(p.border)
        .cursor_color(Color32::TRANSPARENT)
        .include_y(0.0)
        .set_margin_fraction(vec2(0.02, 0.06))
        .custom_x_axes(vec![axis(x)])
        .custom_y_axes(vec![axis(y).min_thickness(34.0)])
}

/// Marks at whole steps of the wall clock, so few that their words have room.
fn hours(span: f64, width: f32) -> impl Fn(GridInput) -> Vec<GridMark> {
    const STEPS: [f64; 12] = [0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0, 168.0, 720.0, 2160.0];
    let most = f64::from(width / 62.0).clamp(2.0, 10.0);
    let step = STEPS.into_iter().find(|s| span / s <= most).unwrap_or(8760.0);
    move |input: GridInput| {
        let (from, to) = input.bounds;
        let (first, last) = ((from / step).ceil() as i64, (to / step).floor() as i64);
        (first..=last.min(first + 100))
            .map(|i| GridMark { value: i as f64 * step, step_size: step })
            .collect()
    }
}

/// Marks at whole numbers.
fn whole(input: GridInput) -> Vec<GridMark> {
    let (from, to) = (input.bounds.0.ceil().max(0.0) as i64, input.bounds.1.floor() as i64);
    let steps = (0..15).flat_map(|e| [1, 2, 5].map(|m| m * 10_i64.pow(e)));
    let step = steps.into_iter().find(|step| (to - from) / step <= 6).unwrap_or(i64::MAX);
    (from / step..=to / step).map(|i| GridMark { value: (i * step) as f64, step_size: step as f64 }).collect()
}

fn picture(ui: &mut Ui, rect: Rect, which: Which, f: &Figures, name: &str, p: &Palette) {
    let response = match which {
        Which::Trend => trend(ui, rect, f, p),
        Which::Yield => first_pass(ui, rect, f, p),
        Which::Cycle => match &f.cycle {
            Some(cycle) => histogram(ui, rect, cycle, p),
            None => return,
        },
        Which::Causes => pareto(ui, rect, f, p),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
}

/// Where the first day of a trend begins on the wall, and how long the trend is in hours.
fn begin(f: &Figures) -> (i64, f64) {
    let (Some(first), Some(last)) = (f.trend.first(), f.trend.last()) else { return (0, 1.0) };
    let midnight = i18n::midnight(first.at_ms);
    (midnight, (last.at_ms + f.interval_ms - first.at_ms) as f64 / HOUR)
}

fn clock_axis<'a>(f: &Figures) -> AxisHints<'a> {
    let (midnight, interval_ms) = (begin(f).0, f.interval_ms);
    AxisHints::new_x()
        .formatter(move |mark, _| moment(midnight + (mark.value * HOUR) as i64, interval_ms))
        .label_spacing(egui::Rangef::new(30.0, 31.0))
}

fn trend(ui: &mut Ui, rect: Rect, f: &Figures, p: &Palette) -> egui::Response {
    let (midnight, span) = begin(f);
    let width = f.interval_ms as f64 / HOUR;
    let interval_ms = f.interval_ms;
    let bars = f.trend.iter().map(|t| {
        let x = (t.at_ms - midnight) as f64 / HOUR + width / 2.0;
        Bar::new(x, f64::from(t.passed))
            .width(width * 0.86)
            .fill(p.pass.solid)
            .stroke(Stroke::NONE)
            .name(tr!("shift-trend-bar", at = moment(t.at_ms, interval_ms), count = t.passed))
    });
    let chart = BarChart::new("units", bars.collect()).color(p.pass.solid);
    let chart = chart.element_formatter(Box::new(|bar, _| bar.name.clone()));
    let y = AxisHints::new_y().formatter(|mark, _| i18n::decimal(mark.value, 0));
    plot(Which::Trend, rect, p, clock_axis(f), y.label_spacing(egui::Rangef::new(14.0, 15.0)))
        .x_grid_spacer(hours(span, rect.width()))
        .y_grid_spacer(whole)
        .show(ui, |plot| plot.bar_chart(chart))
        .response
}

fn first_pass(ui: &mut Ui, rect: Rect, f: &Figures, p: &Palette) -> egui::Response {
    let (midnight, span) = begin(f);
    let half = f.interval_ms as f64 / HOUR / 2.0;
    let points: Vec<[f64; 2]> = f
        .trend
        .iter()
        .filter_map(|t| Some([(t.at_ms - midnight) as f64 / HOUR + half, t.first_pass_yield()? * 100.0]))
        .collect();
    let line = Line::new("yield", points.clone()).color(p.running.solid).width(2.0).allow_hover(false);
    let dots = Points::new("yield at", points).color(p.running.solid).radius(3.5);
    let (interval_ms, ms) = (f.interval_ms, move |x: f64| midnight + ((x - half) * HOUR).round() as i64);
    plot(Which::Yield, rect, p, clock_axis(f), percent_axis())
        .include_y(100.0)
        .x_grid_spacer(hours(span, rect.width()))
        .y_grid_spacer(quarters)
        .label_formatter(move |at| match at {
            egui_plot::HoverPosition::NearDataPoint { position, .. } => Some(format!(
                "{}: {}",
                moment(ms(position.x), interval_ms),
                percent(Some(position.y / 100.0))
            )),
            egui_plot::HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            plot.line(line);
            plot.points(dots);
        })
        .response
}

fn percent_axis<'a>() -> AxisHints<'a> {
    AxisHints::new_y()
        .formatter(|mark, _| tr!("count-percent", value = i18n::decimal(mark.value, 0)))
        .label_spacing(egui::Rangef::new(14.0, 15.0))
}

fn quarters(_: GridInput) -> Vec<GridMark> {
    (0..=4).map(|i| GridMark { value: f64::from(i) * 25.0, step_size: 25.0 }).collect()
}

fn histogram(ui: &mut Ui, rect: Rect, cycle: &Cycle, p: &Palette) -> egui::Response {
    let width = f64::from(cycle.width_ms) / 1000.0;
    // Units never take no time: the picture begins where the first of them is.
    let first = cycle.bars.iter().position(|n| *n > 0).unwrap_or(0);
    let bars = cycle.bars.iter().enumerate().skip(first).map(|(i, count)| {
        Bar::new((i as f64 + 0.5) * width, f64::from(*count))
            .width(width * 0.92)
            .fill(p.running.solid)
            .stroke(Stroke::NONE)
            .name(tr!("shift-cycle-bar", range = from_to(cycle, i), count = *count))
    });
    let chart = BarChart::new("cycle", bars.collect()).color(p.running.solid);
    let chart = chart.element_formatter(Box::new(|bar, _| bar.name.clone()));
    let x =
        AxisHints::new_x().formatter(|mark, _| tr!("shift-seconds", value = i18n::decimal(mark.value, 0)));
    let y = AxisHints::new_y().formatter(|mark, _| i18n::decimal(mark.value, 0));
    let lines = [(cycle.median_ms, p.text), (cycle.p90_ms, p.muted)];
    plot(
        Which::Cycle,
        rect,
        p,
        x.label_spacing(egui::Rangef::new(30.0, 31.0)),
        y.label_spacing(egui::Rangef::new(14.0, 15.0)),
    )
    .include_x(first.saturating_sub(1) as f64 * width)
    .x_grid_spacer(move |input| seconds_marks(&input, width))
    .y_grid_spacer(whole)
    .show(ui, move |plot| {
        plot.bar_chart(chart);
        for (ms, ink) in lines {
            let at = f64::from(ms) / 1000.0;
            plot.vline(
                egui_plot::VLine::new(format!("at {ms}"), at).color(ink).width(1.5).allow_hover(false),
            );
        }
    })
    .response
}

/// Marks at the borders of bars, so few that they have room.
fn seconds_marks(input: &GridInput, width: f64) -> Vec<GridMark> {
    let (from, to) = input.bounds;
    let bars = ((to - from) / width / 7.0).ceil().max(1.0);
    let step = bars * width;
    let (first, last) = ((from / step).ceil() as i64, (to / step).floor() as i64);
    (first..=last.min(first + 50)).map(|i| GridMark { value: i as f64 * step, step_size: step }).collect()
}

fn pareto(ui: &mut Ui, rect: Rect, f: &Figures, p: &Palette) -> egui::Response {
    let shown: Vec<Cause> = f.causes.iter().take(CAUSES).cloned().collect();
    let bars = shown.iter().enumerate().map(|(i, cause)| {
        Bar::new(i as f64, cause.share * 100.0)
            .width(0.7)
            .fill(p.fail.solid)
            .stroke(Stroke::NONE)
            .name(format!("{} {}: {}", code(cause), what(cause), cause.count))
    });
    let chart = BarChart::new("causes", bars.collect()).color(p.fail.solid);
    let chart = chart.element_formatter(Box::new(|bar, _| bar.name.clone()));
    let sums: Vec<[f64; 2]> =
        shown.iter().enumerate().map(|(i, cause)| [i as f64, cause.cumulative * 100.0]).collect();
    let line = Line::new("together", sums.clone()).color(p.text).width(1.5).allow_hover(false);
    let dots = Points::new("together at", sums).color(p.text).radius(3.0).allow_hover(false);
    let codes: Vec<String> = shown.iter().map(code).collect();
    let x = AxisHints::new_x()
        .formatter(move |mark, _| codes.get(mark.value.round() as usize).cloned().unwrap_or_default())
        .label_spacing(egui::Rangef::new(20.0, 21.0));
    let count = shown.len();
    let (ink, inside) = (p.text, p.fail.on_solid);
    plot(Which::Causes, rect, p, x, percent_axis())
        .include_y(108.0)
        .include_x(-0.6)
        .include_x(CAUSES.min(count.max(3)) as f64 - 0.4)
        .x_grid_spacer(move |_| (0..count).map(|i| GridMark { value: i as f64, step_size: 1.0 }).collect())
        .y_grid_spacer(quarters)
        .show(ui, move |plot| {
            plot.bar_chart(chart);
            plot.line(line);
            plot.points(dots);
            for (i, cause) in shown.iter().enumerate() {
                let words = RichText::new(cause.count.to_string()).font(strong(12.0));
                // In the bar where it has room, else on it.
                let (height, paint) = if cause.share > 0.15 {
                    (cause.share * 50.0, inside)
                } else {
                    (cause.share * 100.0 + 6.0, ink)
                };
                plot.text(Text::new(format!("n{i}"), PlotPoint::new(i as f64, height), words).color(paint));
            }
        })
        .response
}

fn tables(ui: &mut Ui, which: Which, f: &Figures, p: &Palette) {
    let heads: Vec<&str> = match which {
        Which::Trend => vec![tr!("shift-col-from"), tr!("shift-col-passed"), tr!("shift-col-not-passed")],
        Which::Yield => {
            vec![
                tr!("shift-col-from"),
                tr!("shift-col-first"),
                tr!("shift-col-at-once"),
                tr!("shift-col-yield"),
            ]
        }
        Which::Cycle => vec![tr!("shift-col-took"), tr!("shift-col-passed")],
        Which::Causes => vec![
            tr!("shift-col-code"),
            tr!("shift-col-attempts"),
            tr!("shift-col-share"),
            tr!("shift-col-together"),
            tr!("shift-col-what"),
        ],
    };
    let rows: Vec<Vec<String>> = match which {
        Which::Trend => f
            .trend
            .iter()
            .rev()
            .map(|t| vec![moment(t.at_ms, f.interval_ms), i18n::number(t.passed), i18n::number(t.not_passed)])
            .collect(),
        Which::Yield => f
            .trend
            .iter()
            .rev()
            .map(|t| {
                vec![
                    moment(t.at_ms, f.interval_ms),
                    i18n::number(t.first_tries),
                    i18n::number(t.first_passes),
                    percent(t.first_pass_yield()),
                ]
            })
            .collect(),
        Which::Cycle => f.cycle.as_ref().map_or_else(Vec::new, |c| {
            let some = c.bars.iter().enumerate().filter(|(_, n)| **n > 0);
            some.map(|(i, n)| vec![from_to(c, i), i18n::number(*n)]).collect()
        }),
        Which::Causes => f
            .causes
            .iter()
            .map(|c| {
                vec![
                    code(c),
                    i18n::number(c.count),
                    percent(Some(c.share)),
                    percent(Some(c.cumulative)),
                    what(c),
                ]
            })
            .collect(),
    };
    grid(ui, Id::unique(("figures table", which as u8)), &heads, &rows, p);
}

/// A table with its own scroll.
pub(super) fn grid(ui: &mut Ui, id: Id, heads: &[&str], rows: &[Vec<String>], p: &Palette) {
    egui::ScrollArea::both().id_salt(id).auto_shrink(false).show(ui, |ui| {
        let table = egui::Grid::new(id).num_columns(heads.len()).min_row_height(18.0);
        table.striped(true).spacing([20.0, 4.0]).show(ui, |ui| {
            for head in heads {
                ui.label(RichText::new(*head).font(strong(13.0)).color(p.muted));
            }
            ui.end_row();
            for row in rows {
                for cell in row {
                    ui.label(RichText::new(cell).font(regular(13.5)).color(p.text));
                }
                ui.end_row();
            }
        });
    });
}
