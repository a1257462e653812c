//! The lab's edge to the kernel: realtime priority, network namespaces, exact sleeping, commands with a bound.
//! It must not know hosts or scenarios.
#![allow(unsafe_code)] // sched_setscheduler has no safe wrapper in our crates.

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::error::Error;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What every part of the lab returns; a scenario fails with the first error.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Fails the scenario with a sentence unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if $condition {
        } else {
            return Err(format!($($sentence)+).into());
        }
    };
}

/// Realtime priorities of the lab's own threads. All stand above the daemon's, or a busy daemon would be measured as a
/// late network; the sentinels stand above everything, or they would see the instruments.
pub const SENTINEL: i32 = 98;
pub const INSTRUMENT: i32 = 97;

/// Makes the calling thread SCHED_FIFO.
pub fn become_realtime(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: pid 0 is the calling thread; the kernel only reads `parameters`, which lives until the call returns.
    let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `work` on a thread of its own inside the named network namespace, so that what it opens belongs there.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace)?;
            work()
        });
        thread.join().expect("what is opened in a namespace does not panic")
    });
    done.map_err(|error| format!("namespace {namespace}: {error}").into())
}

/// Moves the calling thread into the named network namespace for good.
pub fn enter(namespace: &str) -> io::Result<()> {
    let path = PathBuf::from("/run/netns").join(namespace);
    let link = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    use std::os::fd::AsFd;
    move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Sleeps until `when`, however late the thread already is.
pub fn sleep_until(when: Instant) {
    let now = Instant::now();
    if when > now {
        std::thread::sleep(when - now);
    }
}

/// The instant of a CLOCK_MONOTONIC time, which hosts and this machine share.
pub fn at_monotonic(time: Duration) -> Instant {
    let (here, clock) = (Instant::now(), rustix::time::clock_gettime(rustix::time::ClockId::Monotonic));
    let clock = Duration::try_from(clock).expect("the clock does not stand before its start");
    if clock >= time { here.checked_sub(clock - time).unwrap_or(here) } else { here + (time - clock) }
}

/// Asks `question` every few milliseconds until it has an answer.
pub fn wait_for<T>(what: &str, limit: Duration, mut question: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(format!("waited {limit:?} in vain: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command of this machine that has to succeed, and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    printed(&format!("{program} {}", arguments.join(" ")), &output)
}

/// The same with `input` on its standard input: one process for many steps that must happen together.
pub fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    child.stdin.take().expect("it was piped").write_all(input.as_bytes())?;
    printed(&format!("{program} {}\n{input}", arguments.join(" ")), &child.wait_with_output()?)
}

/// What the command printed, or a failure that shows both streams.
pub fn printed(what: &str, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{what}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}
