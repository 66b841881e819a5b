//! Two images, two memory layouts: each bin gets its own `memory.x` in its own folder, and the linker
//! finds the right one because only that bin's search path names that folder.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link");
    // Host builds have no bins to link; naming one that is not built would be an error in cargo's eyes.
    if env::var_os("CARGO_FEATURE_TARGET").is_none()
        || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none")
    {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for bin in ["boot", "app"] {
        let dir = out.join(bin);
        fs::create_dir_all(&dir).expect("the build folder is writable");
        let layout = fs::read_to_string(format!("link/{bin}.x")).expect("link/ holds one layout per bin");
        let common = fs::read_to_string("link/common.x").expect("link/common.x");
        fs::write(dir.join("memory.x"), format!("{layout}\n{common}")).expect("the build folder is writable");
        println!("cargo:rustc-link-arg-bin={bin}=-L{}", dir.display());
        println!("cargo:rustc-link-arg-bin={bin}=-Tlink.x");
        println!("cargo:rustc-link-arg-bin={bin}=--nmagic");
    }
}
