//! `cargo xtask torture` runs this program.

use anyhow::Result;
use clap::Parser;
use keywright_torture::{Progress, Run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Add every finished cut to FILE, and go on where it stops
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
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
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            // Whoever says it twice means it; finished cuts are in the file of results.
            std::process::exit(130);
        }
        eprintln!("\nstopping after the cuts that have begun");
    })?;
    let run = Run {
        image: args.image,
        suite: args.suite,
        seed: args.seed,
        instants: args.instants,
        cuts: args.cuts,
        threads,
        resume: args.resume.clone(),
    };
    let told = |p: Progress| {
        let every = if args.json { (p.of / 100).max(1) } else { (p.of / 1_000).max(1) };
        if !p.done.is_multiple_of(every) && p.done != p.of {
            return;
        }
        let left = p.left.as_secs();
        if args.json {
            let event = serde_json::json!({
                "event": "progress", "done": p.done, "of": p.of, "stranded": p.stranded, "manual": p.manual, "seconds_left": left,
            });
            println!("{event}");
        } else {
            let (minutes, seconds) = (left / 60, left % 60);
            eprint!(
                "\r{} of {} cuts, {} stranded, {} manual, about {minutes}:{seconds:02} left   ",
                p.done, p.of, p.stranded, p.manual
            );
        }
    };
    let matrix = run.make(&STOP, &told)?;
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&args.out, serde_json::to_string_pretty(&matrix)? + "\n")?;
    let total = matrix.total();
    let wanted = args.cuts.map_or(matrix.of, |cuts| matrix.of.min(u32::try_from(cuts).unwrap_or(u32::MAX)));
    let partial = total.cuts() < wanted;
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
        if partial {
            let how = match &args.resume {
                Some(path) => format!("go on with --resume {}", path.display()),
                None => "begin with --resume FILE, and a run can be stopped and gone on with".to_owned(),
            };
            println!("partial: {} of {wanted} cuts; {how}", total.cuts());
        }
        println!("{}", args.out.display());
    }
    let summary = serde_json::json!({
        "event": "summary", "cuts": total.cuts(), "of": wanted, "partial": partial, "kept": total.kept, "renewed": total.renewed,
        "stranded": total.stranded, "manual": total.manual, "seed": matrix.seed,
        "seconds": (matrix.seconds * 10.0).round() / 10.0,
    });
    if args.json {
        println!("{summary}");
    }
    Ok(match (total.stranded + total.manual, partial) {
        (0, false) => ExitCode::SUCCESS,
        // As a program that a signal has ended.
        (0, true) => ExitCode::from(130),
        _ => ExitCode::from(1),
    })
}
