//! Colours, type and shape of the window, light and dark.
//!
//! Invariant: every text and every state icon reaches WCAG AA contrast (4.5:1) on the surface it stands on; the
//! test at the bottom computes it for both palettes. A state is never told by its colour alone: `icons` gives it a
//! shape and the views give it a word.

use egui::epaint::text::VariationCoords;
use egui::{Color32, FontData, FontDefinitions, FontFamily, FontId, Stroke, Theme};
use std::sync::Arc;

/// Inter 4, Latin, Greek and Cyrillic, weight axis 400 to 700, digits tabular so that clocks do not jitter.
const INTER: &[u8] = include_bytes!("../../../assets/fonts/Inter.ttf");

/// Noto Sans SC, the simplified characters of GB 2312, in two weights; names and rare characters are in the regular one. How they
/// were cut: `docs/i18n.md`.
const CHINESE: &[u8] = include_bytes!("../../../assets/fonts/NotoSansSC-Regular.otf");
const CHINESE_STRONG: &[u8] = include_bytes!("../../../assets/fonts/NotoSansSC-Bold.otf");

/// The colours of one kind of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tone {
    /// Full-strength fill of a result band.
    pub solid: Color32,
    /// Text and icons on `solid`.
    pub on_solid: Color32,
    /// Tinted fill of quiet bands and chips.
    pub soft: Color32,
    /// Text and icons on `soft` and on the tile's surface.
    pub ink: Color32,
}

/// All colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Behind everything.
    pub background: Color32,
    /// Tiles, header and popups.
    pub surface: Color32,
    /// Progress tracks and quiet buttons.
    pub track: Color32,
    /// Quiet buttons under the pointer.
    pub hover: Color32,
    /// Hairlines around surfaces.
    pub border: Color32,
    /// Outlines of controls: 3:1 on every surface.
    pub outline: Color32,
    /// Text.
    pub text: Color32,
    /// Second-rank text.
    pub muted: Color32,
    /// The focus ring.
    pub focus: Color32,
    /// No board, nothing to do.
    pub idle: Tone,
    /// A board waits for its start.
    pub ready: Tone,
    /// In work; also the accent of controls.
    pub running: Tone,
    /// PASS.
    pub pass: Tone,
    /// FAIL: a bad unit.
    pub fail: Tone,
    /// ERROR: a bad station; also warnings.
    pub error: Tone,
    /// TIMEOUT.
    pub timeout: Tone,
    /// ABORTED.
    pub aborted: Tone,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const fn tone(solid: u32, on_solid: u32, soft: u32, ink: u32) -> Tone {
    Tone { solid: rgb(solid), on_solid: rgb(on_solid), soft: rgb(soft), ink: rgb(ink) }
}

/// Bright factory floor.
pub const LIGHT: Palette = Palette {
    background: rgb(0xEEF1F5),
    surface: rgb(0xFFFFFF),
    track: rgb(0xE4E9EF),
    hover: rgb(0xD8DFE7),
    border: rgb(0xD3DAE2),
    outline: rgb(0x7B8896),
    text: rgb(0x141D26),
    muted: rgb(0x4E5B69),
    focus: rgb(0x1D5BD8),
    idle: tone(0x5F6C79, 0xFFFFFF, 0xEDF0F4, 0x4E5B69),
    ready: tone(0x0B6A7A, 0xFFFFFF, 0xDFF2F5, 0x09596A),
    running: tone(0x1D5BD8, 0xFFFFFF, 0xE4EDFD, 0x1A4DB8),
    pass: tone(0x11703C, 0xFFFFFF, 0xE0F3E8, 0x0D5E31),
    fail: tone(0xB3201C, 0xFFFFFF, 0xFCE8E6, 0x9C1A16),
    error: tone(0x9C3D00, 0xFFFFFF, 0xFDEBDC, 0x853400),
    timeout: tone(0x653BA3, 0xFFFFFF, 0xEFE8FA, 0x55308C),
    aborted: tone(0x465462, 0xFFFFFF, 0xE7EBF0, 0x3A4652),
};

/// Dim room, night shift.
pub const DARK: Palette = Palette {
    background: rgb(0x0C1116),
    surface: rgb(0x161D25),
    track: rgb(0x27313C),
    hover: rgb(0x33404D),
    border: rgb(0x2B3642),
    outline: rgb(0x718090),
    text: rgb(0xEDF2F7),
    muted: rgb(0xA6B3C1),
    focus: rgb(0x7DB0FF),
    idle: tone(0x84919E, 0x0C1116, 0x1D252E, 0xA6B3C1),
    ready: tone(0x4CC3D5, 0x03191D, 0x0F2A30, 0x72D3E2),
    running: tone(0x6BA3FF, 0x04122B, 0x14243F, 0x95BEFF),
    pass: tone(0x35C27A, 0x03170B, 0x102B1D, 0x5BD795),
    fail: tone(0xFF6F66, 0x240504, 0x3A1817, 0xFF9A93),
    error: tone(0xFFA552, 0x261200, 0x38240F, 0xFFBC7F),
    timeout: tone(0xB998F7, 0x160A2C, 0x281E3D, 0xCDB5FB),
    aborted: tone(0x98A6B5, 0x0C1116, 0x252F39, 0xBAC6D2),
};

/// For eyes that need it, and for bad screens: every text reaches 7:1.
pub const CONTRAST: Palette = Palette {
    background: rgb(0x000000),
    surface: rgb(0x000000),
    track: rgb(0x1C1C1C),
    hover: rgb(0x303030),
    border: rgb(0xB0B0B0),
    outline: rgb(0xFFFFFF),
    text: rgb(0xFFFFFF),
    muted: rgb(0xE4E4E4),
    focus: rgb(0xFFE100),
    idle: tone(0xE4E4E4, 0x000000, 0x1C1C1C, 0xFFFFFF),
    ready: tone(0x5CE6FF, 0x000000, 0x002A33, 0x8DEFFF),
    running: tone(0x8FBFFF, 0x000000, 0x001A3D, 0xB3D4FF),
    pass: tone(0x4DF09A, 0x000000, 0x00290F, 0x85F7BB),
    fail: tone(0xFF9A93, 0x000000, 0x330300, 0xFFB8B3),
    error: tone(0xFFB870, 0x000000, 0x331A00, 0xFFCE9E),
    timeout: tone(0xD2BBFF, 0x000000, 0x1C0D36, 0xE0D0FF),
    aborted: tone(0xC9D3DE, 0x000000, 0x1C232B, 0xDCE4EC),
};

fn contrast_flag() -> egui::Id {
    egui::Id::unique("high contrast")
}

/// The palette of the theme in use.
pub fn palette(ctx: &egui::Context) -> &'static Palette {
    match ctx.theme() {
        Theme::Light => &LIGHT,
        Theme::Dark if is_contrast(ctx) => &CONTRAST,
        Theme::Dark => &DARK,
    }
}

fn is_contrast(ctx: &egui::Context) -> bool {
    ctx.data(|data| data.get_temp(contrast_flag()).unwrap_or(false))
}

/// Shows this theme from the next frame on. High contrast takes the place of dark.
pub fn choose(ctx: &egui::Context, theme: super::Theme) {
    let contrast = theme == super::Theme::Contrast;
    if contrast != is_contrast(ctx) {
        ctx.data_mut(|data| data.insert_temp(contrast_flag(), contrast));
        style(ctx, Theme::Dark, if contrast { &CONTRAST } else { &DARK });
    }
    ctx.set_theme(egui::ThemePreference::from(theme));
}

/// Text of ordinary weight.
pub fn regular(size: f32) -> FontId {
    FontId::new(size, FontFamily::Proportional)
}

/// Text that must be seen first.
pub fn strong(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name("strong".into()))
}

/// Ids and codes.
pub fn mono(size: f32) -> FontId {
    FontId::new(size, FontFamily::Monospace)
}

/// The window's fonts: Inter in two weights from one variable file, Chinese behind it, then egui's own faces. Scripts that none of
/// them holds come from the system's fonts through eframe's `system_fonts`.
pub fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    for (name, weight) in [("inter", 430.0), ("inter-strong", 640.0)] {
        let mut data = FontData::from_static(INTER);
        data.tweak.coords = VariationCoords::new([(b"wght", weight)]);
        fonts.font_data.insert(name.into(), Arc::new(data));
    }
    let behind = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    for (family, face) in
        [(FontFamily::Proportional, "inter"), (FontFamily::Name("strong".into()), "inter-strong")]
    {
        let mut faces = vec![face.to_owned()];
        if face == "inter-strong" {
            faces.push("chinese-strong".into());
        }
        faces.push("chinese".into());
        faces.extend(behind.iter().cloned());
        fonts.families.insert(family, faces);
    }
    for (name, data) in [("chinese", CHINESE), ("chinese-strong", CHINESE_STRONG)] {
        fonts.font_data.insert(name.into(), Arc::new(FontData::from_static(data)));
    }
    fonts.families.entry(FontFamily::Monospace).or_default().push("chinese".into());
    fonts
}

/// Gives a context the window's fonts and both styles.
pub fn install(ctx: &egui::Context) {
    ctx.set_fonts(fonts());
    style(ctx, Theme::Light, &LIGHT);
    style(ctx, Theme::Dark, &DARK);
}

fn style(ctx: &egui::Context, theme: Theme, p: &Palette) {
    ctx.style_mut_of(theme, |style| {
        use egui::TextStyle::{Body, Button, Heading, Monospace, Small};
        style.text_styles = [
            (Small, regular(13.0)),
            (Body, regular(15.0)),
            (Button, strong(15.0)),
            (Heading, strong(22.0)),
            (Monospace, mono(14.0)),
        ]
        .into();
        style.spacing.item_spacing = egui::vec2(8.0, 8.0);
        style.spacing.button_padding = egui::vec2(14.0, 8.0);
        style.spacing.interact_size = egui::vec2(44.0, 36.0);
        // A press anywhere on a tile starts its unit; a label that can be selected would swallow it.
        style.interaction.selectable_labels = false;
        let v = &mut style.visuals;
        v.override_text_color = None;
        v.panel_fill = p.background;
        v.window_fill = p.surface;
        v.window_stroke = Stroke::new(1.0, p.border);
        v.window_corner_radius = 14.into();
        v.menu_corner_radius = 12.into();
        v.extreme_bg_color = p.background;
        v.faint_bg_color = p.track;
        v.code_bg_color = p.track;
        v.weak_text_color = Some(p.muted);
        v.hyperlink_color = p.running.ink;
        v.warn_fg_color = p.error.ink;
        v.error_fg_color = p.fail.ink;
        v.selection.bg_fill = p.running.soft;
        v.selection.stroke = Stroke::new(2.0, p.focus);
        let w = &mut v.widgets;
        for (visuals, fill, text) in [
            (&mut w.noninteractive, p.surface, p.text),
            (&mut w.inactive, p.track, p.text),
            (&mut w.hovered, p.hover, p.text),
            (&mut w.active, p.hover, p.text),
            (&mut w.open, p.hover, p.text),
        ] {
            visuals.bg_fill = fill;
            visuals.weak_bg_fill = fill;
            visuals.bg_stroke = Stroke::new(1.0, p.border);
            visuals.fg_stroke = Stroke::new(1.0, text);
            visuals.corner_radius = 8.into();
            visuals.expansion = 0.0;
        }
        // Buttons that egui paints are quiet, as those of `widgets` are.
        w.inactive.weak_bg_fill = p.surface;
        for visuals in [&mut w.inactive, &mut w.hovered, &mut w.active] {
            visuals.bg_stroke = Stroke::new(1.0, p.outline);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2 relative luminance.
    fn luminance(c: Color32) -> f64 {
        let channel = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(c.r()) + 0.7152 * channel(c.g()) + 0.0722 * channel(c.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn black_on_white_has_the_contrast_the_standard_names() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn every_text_reaches_aa_and_in_high_contrast_aaa() {
        for (theme, p) in [("light", &LIGHT), ("dark", &DARK), ("high contrast", &CONTRAST)] {
            let tones = [
                ("idle", p.idle),
                ("ready", p.ready),
                ("running", p.running),
                ("pass", p.pass),
                ("fail", p.fail),
                ("error", p.error),
                ("timeout", p.timeout),
                ("aborted", p.aborted),
            ];
            let mut pairs = vec![
                ("text on background".to_string(), p.text, p.background, 4.5),
                ("text on surface".into(), p.text, p.surface, 4.5),
                ("text on track".into(), p.text, p.track, 4.5),
                ("text on hover".into(), p.text, p.hover, 4.5),
                ("muted on background".into(), p.muted, p.background, 4.5),
                ("muted on surface".into(), p.muted, p.surface, 4.5),
                ("muted on track".into(), p.muted, p.track, 4.5),
                ("outline on surface".into(), p.outline, p.surface, 3.0),
                ("outline on background".into(), p.outline, p.background, 3.0),
                ("focus on background".into(), p.focus, p.background, 3.0),
                ("focus on surface".into(), p.focus, p.surface, 3.0),
            ];
            for (name, t) in tones {
                pairs.push((format!("{name}: text on its solid"), t.on_solid, t.solid, 4.5));
                pairs.push((format!("{name}: ink on its soft"), t.ink, t.soft, 4.5));
                pairs.push((format!("{name}: ink on surface"), t.ink, p.surface, 4.5));
                pairs.push((format!("{name}: text on its soft"), p.text, t.soft, 4.5));
                pairs.push((format!("{name}: solid on surface"), t.solid, p.surface, 3.0));
            }
            for (what, a, b, least) in pairs {
                let least = if theme == "high contrast" && least > 4.0 { 7.0 } else { least };
                let got = contrast(a, b);
                assert!(got >= least, "{theme}: {what} has {got:.2}:1, needs {least}:1");
            }
        }
    }

    #[test]
    fn every_character_of_every_language_has_a_glyph_in_every_face() {
        use crate::i18n::Language;
        let mut harness = egui_kittest::Harness::builder().with_context_setup(install).build_ui(|ui| {
            let mut missing = Vec::new();
            for language in Language::ALL {
                let all = std::collections::BTreeSet::from_iter(language.source().chars());
                for font in [regular(15.0), strong(15.0), mono(14.0)] {
                    ui.ctx().fonts_mut(|fonts| {
                        for c in all.iter().filter(|c| !c.is_control() && !fonts.has_glyph(&font, **c)) {
                            missing.push(format!("{} {:?} {c}", language.code(), font.family));
                        }
                    });
                }
            }
            assert_eq!(missing, Vec::<String>::new());
        });
        harness.run();
    }

    #[test]
    fn strong_chinese_is_strong() {
        // What is written strong must not fall back to the regular weight.
        let cut = |data: &'static [u8]| {
            let mut fonts = FontDefinitions::empty();
            fonts.font_data.insert("one".into(), Arc::new(FontData::from_static(data)));
            fonts.families.insert(FontFamily::Proportional, vec!["one".into()]);
            fonts.families.insert(FontFamily::Monospace, vec!["one".into()]);
            fonts
        };
        let mut harness = egui_kittest::Harness::builder()
            .with_context_setup(move |ctx| ctx.set_fonts(cut(CHINESE_STRONG)))
            .build_ui(|ui| {
                let source = crate::i18n::Language::Chinese.source();
                let chinese = |c: &char| ('\u{4e00}'..='\u{9fff}').contains(c);
                let missing: String = ui.ctx().fonts_mut(|fonts| {
                    source.chars().filter(chinese).filter(|c| !fonts.has_glyph(&regular(15.0), *c)).collect()
                });
                assert_eq!(missing, "");
            });
        harness.run();
    }

    #[test]
    fn digits_are_tabular_in_both_weights() {
        let mut harness = egui_kittest::Harness::builder().with_context_setup(install).build_ui(|ui| {
            for font in [regular(20.0), strong(20.0)] {
                let width =
                    |s: &str| ui.painter().layout_no_wrap(s.into(), font.clone(), Color32::BLACK).size().x;
                assert_eq!(width("1:11"), width("8:08"));
                assert!(width("1") > 5.0);
            }
        });
        harness.run();
    }
}
