//! `cargo xtask torture` runs this program.

use anyhow::Result;
use clap::Parser;
use keywright::matrix::PowerCutMatrix;
use std::path::PathBuf;
use std::process::ExitCode;

/// Cut the power of virtual boards at every flash operation of every key change, and see whether they recover
#[derive(Parser)]
#[command(name = "torture")]
struct Args {
    /// The common image
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// So many cuts, spread evenly over all of them [default: all]
    #[arg(long, value_name = "N")]
    cuts: Option<usize>,
    /// Random instants on top of the operations
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    instants: u32,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exchange: 1 legacy, 2 hardened. The flash is written in the same order in both; the hardened one takes ten times as long
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    suite: u8,
    /// Boards at a time [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where the matrix goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let told = |done: usize, all: usize, matrix: &PowerCutMatrix| {
        let every = (all / 100).max(1);
        if done.is_multiple_of(every) || done == all {
            let total = matrix.total();
            if args.json {
                let event = serde_json::json!({
                    "event": "progress", "done": done, "of": all, "stranded": total.stranded, "manual": total.manual,
                });
                println!("{event}");
            } else {
                eprint!("\r{done} of {all} cuts, {} stranded, {} manual", total.stranded, total.manual);
            }
        }
    };
    let matrix =
        keywright_torture::run(&args.image, args.suite, args.seed, args.instants, args.cuts, threads, &told)?;
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&args.out, serde_json::to_string_pretty(&matrix)? + "\n")?;
    let total = matrix.total();
    if args.json {
        for casualty in &matrix.casualties {
            let mut event = serde_json::to_value(casualty)?;
            event["event"] = "casualty".into();
            println!("{event}");
        }
    } else {
        eprintln!();
        print!("{}", matrix.table());
        for casualty in &matrix.casualties {
            println!("{}: {}: {}", casualty.transition, casualty.cut, casualty.seen);
        }
        println!("{}", args.out.display());
    }
    let summary = serde_json::json!({
        "event": "summary", "cuts": total.cuts(), "kept": total.kept, "renewed": total.renewed,
        "stranded": total.stranded, "manual": total.manual, "seed": matrix.seed,
        "seconds": (matrix.seconds * 10.0).round() / 10.0,
    });
    if args.json {
        println!("{summary}");
    }
    Ok(if total.stranded + total.manual == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
