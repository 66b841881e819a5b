//! Results that can be heard: three short sounds, made here, played by whatever program the system has for it.
//!
//! No library plays them: each would want the system's headers when Keywright is built. Invariants: nobody ever waits for a sound; the
//! same sound never plays twice at once; a player that fails is said once in the log and is in nobody's way.

use crate::config::LineConfig;
use crate::label::sink::{self, FILE};
use crate::line::Event;
use crate::model::Outcome;
use std::f32::consts::TAU;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Samples a second.
const RATE: u32 = 22_050;
/// A player may take so long for one sound.
const LIMIT: Duration = Duration::from_secs(5);
/// Loudest sample: well below what clips.
const LOUDEST: f32 = 9_000.0;
/// A tone begins and ends so softly, in seconds; a hard edge clicks.
const EDGE: f32 = 0.008;

/// What can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sound {
    /// A unit passed: two tones, rising.
    Pass,
    /// A unit did not pass: two tones, falling and low.
    Fail,
    /// Somebody is wanted: three short tones.
    Attention,
}

impl Sound {
    /// Every sound.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Fail, Self::Attention];

    /// Its name, for its file and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Attention => "attention",
        }
    }

    /// What an event of the line sounds like. Who cancels a unit knows it.
    pub fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Finished { outcome: Outcome::Pass, .. } => Some(Self::Pass),
            Event::Finished { outcome: Outcome::Aborted, .. } => None,
            // Refused before anything began: nothing is wrong with a unit.
            Event::Finished { attempt, .. } if attempt.0 == 0 => Some(Self::Attention),
            Event::Finished { .. } => Some(Self::Fail),
            Event::ScanWanted { .. } | Event::Station { .. } => Some(Self::Attention),
            Event::Progress { label, .. } if label.starts_with("locked:") => Some(Self::Attention),
            _ => None,
        }
    }

    /// Tones in hertz and seconds; 0 Hz is silence.
    const fn tones(self) -> &'static [(f32, f32)] {
        match self {
            Self::Pass => &[(784.0, 0.09), (1175.0, 0.16)],
            Self::Fail => &[(330.0, 0.18), (0.0, 0.03), (220.0, 0.32)],
            Self::Attention => &[(988.0, 0.08), (0.0, 0.07), (988.0, 0.08), (0.0, 0.07), (988.0, 0.08)],
        }
    }

    /// The sound as a WAV file: 16 bit, one channel.
    pub fn wave(self) -> Vec<u8> {
        let mut samples = Vec::new();
        for &(pitch, seconds) in self.tones() {
            let count = (seconds * RATE as f32) as u32;
            for n in 0..count {
                let at = n as f32 / RATE as f32;
                let edge = (at.min(seconds - at) / EDGE).clamp(0.0, 1.0);
                // A second, softer octave makes small loudspeakers carry the low tones.
                let tone = (TAU * pitch * at).sin() * 0.75 + (TAU * 2.0 * pitch * at).sin() * 0.25;
                samples.extend(((tone * edge * LOUDEST) as i16).to_le_bytes());
            }
        }
        let bytes = samples.len() as u32;
        let mut wave = Vec::with_capacity(samples.len() + 44);
        wave.extend(b"RIFF");
        wave.extend((36 + bytes).to_le_bytes());
        wave.extend(b"WAVEfmt ");
        wave.extend(16_u32.to_le_bytes());
        wave.extend(1_u16.to_le_bytes());
        wave.extend(1_u16.to_le_bytes());
        wave.extend(RATE.to_le_bytes());
        wave.extend((RATE * 2).to_le_bytes());
        wave.extend(2_u16.to_le_bytes());
        wave.extend(16_u16.to_le_bytes());
        wave.extend(b"data");
        wave.extend(bytes.to_le_bytes());
        wave.extend(samples);
        wave
    }
}

/// Players that are looked for, the best first.
const PLAYERS: &[&[&str]] = &[
    &["pw-play", FILE],
    &["paplay", FILE],
    &["aplay", "-q", FILE],
    &["afplay", FILE],
    &["powershell", "-NoProfile", "-Command", "(New-Object Media.SoundPlayer '$file').PlaySync()"],
];

/// The command that plays sounds: the one of station.toml, else a player that is found; `None`: there is none.
pub fn command(config: &LineConfig) -> Option<Vec<String>> {
    config.sound_command.clone().or_else(|| found(|name| sink::find_program(name).is_some()))
}

fn found(is_there: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let words = PLAYERS.iter().find(|words| is_there(words[0]))?;
    Some(words.iter().map(|w| (*w).to_owned()).collect())
}

/// Plays one sound and waits for its end; for who wants to know whether it can be heard.
///
/// # Errors
/// In words, why not.
pub fn play(words: &[String], sound: Sound) -> Result<(), String> {
    let name = format!("keywright-{}-", sound.as_str());
    sink::command(words, (&name, ".wav"), &sound.wave(), LIMIT)
        .map_err(|error| format!("{}: {error}", words.join(" ")))
}

/// Plays sounds on a thread of its own; dropped, it ends after the sound that plays.
#[derive(Debug)]
pub struct Player {
    sounds: Sender<Sound>,
    /// What waits or plays.
    busy: Arc<Mutex<Vec<Sound>>>,
}

impl Player {
    /// A player that runs this command.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(words: Vec<String>) -> std::io::Result<Self> {
        Self::with(move |sound| play(&words, sound))
    }

    fn with(mut play: impl FnMut(Sound) -> Result<(), String> + Send + 'static) -> std::io::Result<Self> {
        let (sounds, queue) = mpsc::channel();
        let busy = Arc::new(Mutex::new(Vec::new()));
        let done = busy.clone();
        std::thread::Builder::new().name("sounds".into()).spawn(move || {
            let mut said = false;
            for sound in queue {
                if let Err(error) = play(sound)
                    && !std::mem::replace(&mut said, true)
                {
                    tracing::warn!(%error, "sounds can't be heard; this is said once");
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).retain(|s| *s != sound);
            }
        })?;
        Ok(Self { sounds, busy })
    }

    /// Plays a sound soon, unless it waits or plays already.
    pub fn play(&self, sound: Sound) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.contains(&sound) && self.sounds.send(sound).is_ok() {
            busy.push(sound);
        }
    }
}

/// Makes a line's events heard until it ends, as station.toml wants it.
pub fn follow(config: &LineConfig, events: Receiver<Event>) {
    if !config.sounds {
        return;
    }
    let Some(words) = command(config) else {
        tracing::warn!("sounds are on, but no player was found; name one with sound_command under [line]");
        return;
    };
    let player = match Player::new(words) {
        Ok(player) => player,
        Err(error) => return tracing::warn!(%error, "sounds are on, but there is no thread for them"),
    };
    let ear = std::thread::Builder::new().name("sound ear".into());
    let heard = ear.spawn(move || {
        for event in events {
            Sound::of(&event).into_iter().for_each(|sound| player.play(sound));
        }
    });
    if let Err(error) = heard {
        tracing::warn!(%error, "sounds are on, but there is no thread for them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use crate::line::Step;
    use crate::model::AttemptId;

    fn finished(attempt: i64, outcome: Outcome) -> Event {
        Event::Finished {
            fixture: "1".into(),
            attempt: AttemptId(attempt),
            unit: None,
            serial: None,
            outcome,
            failure: None,
            step_seconds: [0.0; Step::ALL.len()],
            seconds: 1.0,
            qa: None,
        }
    }

    #[test]
    fn every_sound_is_a_short_wave_that_does_not_clip_and_no_two_are_alike() {
        let waves = Sound::ALL.map(Sound::wave);
        for wave in &waves {
            let word = |at: usize| u32::from_le_bytes(wave[at..at + 4].try_into().unwrap());
            assert_eq!(
                (&wave[..4], &wave[8..16], &wave[36..40]),
                (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..])
            );
            assert_eq!(
                (word(4) as usize, word(24), word(40) as usize),
                (wave.len() - 8, RATE, wave.len() - 44)
            );
            let samples: Vec<i16> = wave[44..].chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
            let loudest = samples.iter().map(|s| i32::from(*s).abs()).max().unwrap();
            assert!((4_000..=9_000).contains(&loudest), "{loudest}");
            assert!((0.2..1.0).contains(&(samples.len() as f32 / RATE as f32)), "{}", samples.len());
            assert_eq!(
                (samples[0], samples.last().map(|s| s.abs() < 300)),
                (0, Some(true)),
                "a hard edge clicks"
            );
        }
        assert!(waves[0] != waves[1] && waves[1] != waves[2] && waves[0] != waves[2]);
    }

    #[test]
    fn events_sound_like_what_they_are() {
        for (event, sound) in [
            (finished(1, Outcome::Pass), Some(Sound::Pass)),
            (finished(1, Outcome::Fail), Some(Sound::Fail)),
            (finished(1, Outcome::Timeout), Some(Sound::Fail)),
            (finished(1, Outcome::Error), Some(Sound::Fail)),
            (finished(1, Outcome::Aborted), None),
            (finished(0, Outcome::Error), Some(Sound::Attention)),
            (Event::Station { failure: Failure::new(FailureCode::SampleDue, "") }, Some(Sound::Attention)),
            (Event::Presence { fixture: "1".into(), present: true }, None),
        ] {
            assert_eq!(Sound::of(&event), sound, "{event:?}");
        }
    }

    #[test]
    fn the_same_sound_never_plays_twice_at_once_and_nobody_waits() {
        let (begun, begins) = mpsc::channel();
        let (go_on, waits) = mpsc::channel::<()>();
        let player = Player::with(move |sound| {
            let _ = begun.send(sound);
            let _ = waits.recv();
            Err("a player that fails is in nobody's way".into())
        })
        .unwrap();
        player.play(Sound::Pass);
        assert_eq!(begins.recv(), Ok(Sound::Pass));
        for _ in 0..32 {
            player.play(Sound::Pass);
            player.play(Sound::Fail);
        }
        go_on.send(()).unwrap();
        assert_eq!(begins.recv(), Ok(Sound::Fail));
        go_on.send(()).unwrap();
        // Both are over some time: then they are heard again.
        while player.busy.lock().unwrap().contains(&Sound::Fail) {
            std::thread::yield_now();
        }
        player.play(Sound::Fail);
        assert_eq!(begins.recv(), Ok(Sound::Fail));
        go_on.send(()).unwrap();
        drop(player);
        assert!(begins.recv().is_err(), "no pass was played a second time");
    }

    #[test]
    fn the_best_player_there_is_is_found_and_the_configured_one_wins() {
        let there = |names: &'static [&'static str]| found(|name| names.contains(&name));
        assert_eq!(there(&["aplay", "paplay"]), Some(vec!["paplay".into(), FILE.into()]));
        assert_eq!(there(&["aplay"]), Some(vec!["aplay".into(), "-q".into(), FILE.into()]));
        assert_eq!(there(&[]), None);
        assert!(PLAYERS.iter().all(|words| words.iter().any(|w| w.contains(FILE))));
        let own = vec!["play".to_owned(), FILE.to_owned()];
        let config = LineConfig { sound_command: Some(own.clone()), ..LineConfig::default() };
        assert_eq!(command(&config), Some(own));
    }
}
