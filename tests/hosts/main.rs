//! The scenarios: booted systemd hosts, real faults, and what a client of the address sees.
//!
//! ```text
//! cargo test --test hosts                        every row
//! cargo test --test hosts -- row02 row06         some of them, by any part of their names
//! cargo test --test hosts -- --full              with the long counts
//! cargo test --test hosts -- list                their names
//! cargo test --test hosts -- shell alpha         a lab of two hosts, and a shell on one of them
//! cargo test --test hosts -- demo                the story of a takeover
//! cargo test --test hosts -- sweep               remove what a killed lab left behind
//! ```
//!
//! The files, from the ground up: `sys` (kernel), `wires` (LANs), `root` (files of all hosts), `host` (one host), `settings`
//! (our configuration), the instruments `client`, `http`, `netwatch`, `sentinel`, `changes`, `lock`, `neighbours`, `bare`, `starter`,
//! then `pair` (two hosts as one thing), `figures`, and the rows in `scenario/`. What a host said stays in `build/lab/ROW/`.

#![allow(unreachable_pub)] // Nothing is reachable from outside a test program.

#[path = "../netns/bare.rs"]
mod bare;
#[path = "../config/cases.rs"]
mod cases;
mod changes;
mod client;
mod demo;
mod figures;
mod host;
mod http;
mod lock;
mod neighbours;
mod netwatch;
mod pair;
mod root;
mod scenario;
mod sentinel;
mod settings;
mod starter;
mod sweep;
mod sys;
mod wires;
mod wiretap;

use pair::Lab;
use root::Root;
use rustix::fs::{FlockOperation, flock};
use scenario::Row;
use settings::Settings;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use sys::Result;

/// Those of cargo's own harness that are given to all test programs at once mean nothing here.
const OPTIONS: [&str; 5] = ["--full", "--list", "--nocapture", "--no-capture", "--quiet"];

const LOCK: &str = "/run/hafailover-lab.lock";
/// Longer than any lab runs that is not asked for the long counts.
const TURN_MAX: Duration = Duration::from_secs(1800);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match command(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if all is well.
fn command(words: &[&str]) -> Result<bool> {
    let full = words.contains(&"--full");
    let unknown = words.iter().find(|word| word.starts_with('-') && !OPTIONS.contains(word));
    ensure!(unknown.is_none(), "unknown option {}; there are {}", unknown.unwrap_or(&""), OPTIONS.join(" "));
    let names: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with("--")).collect();
    if names == ["list"] || words.contains(&"--list") {
        scenario::rows().iter().for_each(|row| println!("{}: test", row.name));
        return Ok(true);
    }
    ensure!(rustix::process::geteuid().is_root(), "the lab boots hosts and needs root; nothing was tested");
    let _only = only_lab()?;
    sweep::sweep();
    sweep_when_interrupted()?;
    let done = catch_unwind(AssertUnwindSafe(|| match names[..] {
        ["sweep"] => Ok(true),
        ["demo"] => demo::demo().map(|()| true),
        ["shell", host] => shell(host).map(|()| true),
        ["shell"] => shell("alpha").map(|()| true),
        _ => rows(&names, full),
    }));
    sweep::sweep();
    let done = done.unwrap_or_else(|_| Err("the lab panicked".into()));
    let left = sweep::leftovers();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    done
}

/// Two labs at once would take each other's names and spoil each other's times: the second one waits for its turn.
fn only_lab() -> Result<File> {
    let file = File::create(LOCK)?;
    let end = Instant::now() + TURN_MAX;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        ensure!(Instant::now() < end, "another lab has run for {TURN_MAX:?} (it holds {LOCK})");
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(file)
}

fn sweep_when_interrupted() -> Result {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = signals.0.recv() => {} _ = signals.1.recv() => {} }
        });
        eprintln!("lab: interrupted, clearing up");
        sweep::sweep();
        std::process::exit(130);
    });
    Ok(())
}

fn shell(host: &str) -> Result {
    let lab = Lab::open(Root::prepare(true)?, false)?;
    lab.report_to("shell");
    let pair = lab.pair(Settings::new(200, 1000))?;
    println!("a shell on {host}; leaving it ends the lab");
    pair.host(host).shell()
}

fn rows(wanted: &[&str], full: bool) -> Result<bool> {
    // A name that is no row's any more must not pass by testing less.
    let all = scenario::rows();
    let stray: Vec<&str> =
        wanted.iter().copied().filter(|part| !all.iter().any(|row| row.name.contains(part))).collect();
    ensure!(stray.is_empty(), "no row is called {}; `list` names them", stray.join(" or "));
    let chosen = |row: &Row| wanted.is_empty() || wanted.iter().any(|part| row.name.contains(part));
    let rows: Vec<Row> = all.into_iter().filter(chosen).collect();
    let program = rows.iter().any(|row| row.program);
    let lab = Lab::open(Root::prepare(program)?, full)?;
    let (mut passed, mut failed) = (0, 0);
    for row in rows {
        let begun = Instant::now();
        lab.report_to(row.name);
        let outcome = catch_unwind(AssertUnwindSafe(|| (row.show)(&lab)));
        let outcome = outcome.unwrap_or_else(|_| Err("panicked".into()));
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(figures) => {
                passed += 1;
                println!("{} ... ok ({seconds:.1} s)  {figures}", row.name);
            }
            Err(error) => {
                failed += 1;
                println!("{} ... FAILED ({seconds:.1} s)  {error}\n{}", row.name, lab.last_words());
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
