//! Writes the seed corpora from the test vectors into `tests/fuzz/seeds`.

use keywright_fuzz_targets::seeds;

fn main() -> std::io::Result<()> {
    let folder = seeds::folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let all = seeds::all();
    for (target, name, bytes) in &all {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    println!("{} seeds, {} bytes", all.len(), all.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>());
    Ok(())
}
