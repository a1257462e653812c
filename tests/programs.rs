//! The programs as they are started: words that are no text, and streams that take nothing, end none of them in a panic.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const DAEMON: &str = env!("CARGO_BIN_EXE_hafailoverd");
const CONTROL: &str = env!("CARGO_BIN_EXE_hafailoverctl");
const GENERATOR: &str = env!("CARGO_BIN_EXE_hafailover-generator");

/// With streams on which every write fails.
fn unheard(program: &str, arguments: &[&OsStr]) -> Option<i32> {
    let full = || File::options().write(true).open("/dev/full").expect("the kernel's own device");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(full()).stderr(full());
    command.status().expect("it can be started").code()
}

fn heard(program: &str, argument: &OsStr) -> Output {
    Command::new(program).arg(argument).stdin(Stdio::null()).output().expect("it can be started")
}

#[test]
fn nothing_ends_because_nobody_takes_its_words() {
    let word = OsStr::new;
    assert_eq!(unheard(DAEMON, &[word("--nonsense")]), Some(2));
    assert_eq!(unheard(DAEMON, &[word("--help")]), Some(0));
    assert_eq!(unheard(DAEMON, &[word("--version")]), Some(0));
    assert_eq!(unheard(CONTROL, &[word("--nonsense")]), Some(2));
    assert_eq!(unheard(CONTROL, &[word("--version")]), Some(0));
    assert_eq!(unheard(GENERATOR, &[]), Some(2));
}

#[test]
fn the_generator_writes_guards_though_its_complaints_are_lost() {
    let root = std::env::temp_dir().join(format!("hafailover-programs-{}", std::process::id()));
    let group = root.join("etc/systemd/system/hafailover-group@web.target.d");
    let out = root.join("out");
    std::fs::create_dir_all(&group).unwrap();
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(group.join("web.conf"), "[X-HAFailover]\nStart=nginx.service x.slice\n").unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(GENERATOR);
    let status = command.arg(&out).env("HAFAILOVER_ROOT", &root).stderr(full).status().unwrap();
    let guard = out.join("nginx.service.d/50-hafailover.conf").exists();
    std::fs::remove_dir_all(Path::new(&root)).unwrap();
    assert!(status.success() && guard, "{status}");
}

#[test]
fn words_that_are_no_text_are_wrong_usage() {
    let word = OsStr::from_bytes(b"st\xffatus");
    for program in [DAEMON, CONTROL] {
        let output = heard(program, word);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program}: {said}");
        assert!(said.contains("hafailover") && !said.contains("panicked"), "{program}: {said}");
    }
}
