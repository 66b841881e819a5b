//! Bodies of the fuzz targets: functions from bytes to nothing that panic when a promise is broken.
//!
//! Three drivers share them: libFuzzer (`tests/fuzz`, coverage-guided, nightly), the `fuzz-stable` program
//! (seeded mutations, no coverage) and `cargo test` (a fixed number of seeded mutations on every change).
//!
//! *Invariants of a target*: the same bytes do the same thing, whatever ran before; no clock, no randomness, no
//! files; every assertion says which promise it holds the code to. A target that only waits for a panic is
//! half a target: each compares with an independent judgement of what must be accepted.

pub mod input;
pub mod mutate;
pub mod seeds;
pub mod vectors;

mod bridge;
mod broker;
mod certs;
mod control;
mod frames;
mod line;
mod probe;
mod records;
mod serial;

// The unit's simulated world (NOR flash that tears, an agent, a line) belongs to the firmware's own tests.
#[path = "../../../device-fw/tests/support/mod.rs"]
mod support;

/// One fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: file in `tests/fuzz/fuzz_targets`, folder in `tests/fuzz/seeds`.
    pub name: &'static str,
    /// What it holds the code to, in a line.
    pub about: &'static str,
    /// Runs one input; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs longer than this teach nothing more and cost time.
    pub max_len: usize,
    /// Inputs per target in `cargo test`, seeds not counted.
    pub smoke: u32,
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "frames",
        about: "both roles of the exchange: nothing but the genuine frame is accepted, a refusal changes nothing",
        run: frames::run,
        max_len: 4_096,
        smoke: 3_000,
    },
    Target {
        name: "records",
        about: "key-area records, TLVs, and the boot scan of damaged flash with a power cut in it",
        run: records::run,
        max_len: 4_096,
        smoke: 600,
    },
    Target {
        name: "serial",
        about: "packets on the line: any split gives the same packets, decode undoes encode",
        run: serial::run,
        max_len: 8_192,
        smoke: 3_000,
    },
    Target {
        name: "control",
        about: "control messages and log records: decode and encode undo each other exactly",
        run: control::run,
        max_len: 256,
        smoke: 20_000,
    },
    Target {
        name: "certs",
        about: "certificates, bundles, revocations, deployment chains, relay envelopes, block trees",
        run: certs::run,
        max_len: 4_096,
        smoke: 3_000,
    },
    Target {
        name: "line",
        about: "the whole unit under any bytes on its serial line: no panic, no key changes",
        run: line::run,
        max_len: 2_048,
        smoke: 150,
    },
    Target {
        name: "probe",
        about: "debugger packets of the virtual board: one answer each, however they are split",
        run: probe::run,
        max_len: 1_024,
        smoke: 60,
    },
    Target {
        name: "bridge",
        about: "channel 3: packets, both ends of a connection, and the unit's session with its broker",
        run: bridge::run,
        max_len: 1_024,
        smoke: 6_000,
    },
    Target {
        name: "broker",
        about: "a broker's bytes to the station: MQTT, and Mosquitto's control replies",
        run: broker::run,
        max_len: 1_024,
        smoke: 6_000,
    },
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
