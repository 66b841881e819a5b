//! Set-up: what a clean machine lacks is installed where we may, and named where we may not.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// What a task needs beyond Rust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A C compiler and linker (SQLite is compiled from source).
    Build,
    /// The chip's target, which rustup fetches by itself unless it was told not to (RUSTUP_AUTO_INSTALL=0).
    ChipTarget,
    /// A window: X11/Wayland client libraries and a graphics driver (Mesa's software one is enough).
    Window,
    /// A display without a monitor, key presses, screenshots and the third-party checkers that tests use.
    WindowTests,
}

/// A thing that must be on the machine, how to see that it is, and the Debian package that brings it.
struct Requirement {
    present: fn() -> bool,
    package: &'static str,
}

fn requirements(need: Need) -> &'static [Requirement] {
    match need {
        Need::Build => &[Requirement { present: || program("cc"), package: "build-essential" }],
        Need::ChipTarget => &[],
        Need::Window => &[
            Requirement { present: || library("libxkbcommon-x11.so.0"), package: "libxkbcommon-x11-0" },
            Requirement { present: || library("libXcursor.so.1"), package: "libxcursor1" },
            Requirement { present: || library("libXi.so.6"), package: "libxi6" },
            Requirement { present: || library("libXrandr.so.2"), package: "libxrandr2" },
            Requirement { present: || library("libX11-xcb.so.1"), package: "libx11-xcb1" },
            Requirement { present: || library("libvulkan.so.1"), package: "libvulkan1" },
            Requirement { present: || library("libEGL.so.1"), package: "libegl1" },
            Requirement { present: || vulkan_driver(), package: "mesa-vulkan-drivers" },
        ],
        Need::WindowTests => &[
            Requirement { present: || program("Xvfb"), package: "xvfb" },
            Requirement { present: || program("xdotool"), package: "xdotool" },
            Requirement { present: || program("import"), package: "imagemagick" },
            Requirement { present: || program("dbus-daemon"), package: "dbus-daemon" },
            Requirement { present: || program("openssl"), package: "openssl" },
            Requirement { present: || program("age"), package: "age" },
            Requirement { present: || program("gpg"), package: "gnupg" },
            Requirement { present: || program("xmllint"), package: "libxml2-utils" },
            Requirement { present: || program("pskc2csv"), package: "pskc-utils" },
            Requirement { present: || Path::new("/usr/sbin/mosquitto").exists(), package: "mosquitto" },
            Requirement { present: || program("mosquitto_sub"), package: "mosquitto-clients" },
            Requirement { present: || program("softhsm2-util"), package: "softhsm2" },
        ],
    }
}

fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// The triple of the units' chip.
pub const CHIP_TARGET: &str = "thumbv7em-none-eabi";

/// Whether the toolchain in use can build for the chip; if not, rustup is asked to fetch what is missing.
fn ensure_chip_target() -> Result<()> {
    let there = || {
        let asked = crate::rustc().args(["--print", "target-libdir", "--target", CHIP_TARGET]).output();
        asked.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir())
    };
    if there() {
        return Ok(());
    }
    crate::say(format!("fetching the Rust target {CHIP_TARGET}"));
    let by_hand = format!("rustup target add {CHIP_TARGET}");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(crate::root()).args(["target", "add", CHIP_TARGET]).stdout(Stdio::null());
    if crate::run(&mut rustup).is_err() || !there() {
        bail!("the firmware needs the Rust target {CHIP_TARGET}; run `{by_hand}`, then run again");
    }
    Ok(())
}

fn library(name: &str) -> bool {
    let cache = Command::new("/sbin/ldconfig").arg("-p").output();
    cache.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(name))
}

fn vulkan_driver() -> bool {
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
        .iter()
        .any(|dir| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Makes sure that `needs` are met: installs with apt as root, otherwise says the exact command.
pub fn ensure(needs: &[Need]) -> Result<()> {
    if needs.contains(&Need::ChipTarget) {
        ensure_chip_target()?;
    }
    if !cfg!(target_os = "linux") {
        return Ok(()); // Windows and macOS bring a compiler with Rust's installer and draw windows natively.
    }
    let missing: Vec<&str> = needs
        .iter()
        .flat_map(|need| requirements(*need))
        .filter(|r| !(r.present)())
        .map(|r| r.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install -y {}", missing.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this machine lacks what these Debian packages bring: {}. Install their equivalents, then run again",
            missing.join(" ")
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("these Debian packages are missing; run `sudo {by_hand}`, then run again");
    }
    crate::say(format!("installing {}", missing.join(" ")));
    let quiet = |args: &[&str]| {
        crate::run(
            Command::new("apt-get")
                .args(args)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )
    };
    quiet(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    quiet(&install)
}
