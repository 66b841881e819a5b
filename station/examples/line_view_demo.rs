//! Design gallery of the window: scripted lines in every state, no hardware, no records.
//!
//! `cargo run -p keywright --no-default-features --features gui --example line_view_demo -- busy 12 dark`
//! Words in any order: a scene (`gallery`, `ready`, `busy`, `nobatch`, `nofixtures`, `closed`, `paused`, `trouble`), a
//! number of fixtures, `light` or `dark`, `demo` (the banner), `WIDTHxHEIGHT`, and `FILE.png` to take a picture and
//! close.

use keywright::gui::scripted::{Scene, ScriptedLine, scene};
use keywright::gui::{GuiError, Options, Screenshot, Theme, run};

fn main() -> Result<(), GuiError> {
    let (mut which, mut count, mut demo) = ("gallery".to_string(), 8, false);
    let mut options = Options { title: "Keywright, design gallery".into(), ..Options::default() };
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "light" => options.theme = Theme::Light,
            "dark" => options.theme = Theme::Dark,
            "demo" => demo = true,
            file if file.ends_with(".png") => {
                options.screenshot = Some(Screenshot { path: file.into(), then_close: true });
            }
            other => {
                let size = other.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
                if let Some(size) = size {
                    options.size = size;
                } else if let Ok(n) = other.parse() {
                    count = n;
                } else {
                    which = other.into();
                }
            }
        }
    }
    let which = match which.as_str() {
        "ready" => Scene::Ready(count),
        "busy" => Scene::Busy(count),
        "nobatch" => Scene::NoBatch,
        "nofixtures" => Scene::NoFixtures,
        "closed" => Scene::Closed,
        "paused" => Scene::Paused,
        "trouble" => Scene::StationTrouble,
        _ => Scene::Gallery,
    };
    let mut snapshot = scene(which, std::time::Instant::now());
    snapshot.demo = demo;
    run(Box::new(ScriptedLine::new(snapshot)), options)
}
