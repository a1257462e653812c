//! Recordings from the lab and from the field: the heart decides the same again, to the byte. See CONTRIBUTING.md.

use hafailover::cli::{self, Exit, Spoken};
use hafailover::record::{Reader, Timeline, replay};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

#[test]
fn every_recording_is_decided_again_to_the_byte() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut seen = 0;
    for entry in std::fs::read_dir(&directory).expect("tests/recordings is there") {
        let path = entry.expect("tests/recordings is readable").path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let name = path.display();
        let remedy = "where that is meant: make recordings, or hafailoverctl replay --accept";
        let reader = Reader::new(BufReader::new(File::open(&path).expect("it is readable")))
            .unwrap_or_else(|error| panic!("{name}: {error}; {remedy}"));
        let mut timeline = Timeline::new(reader.header(), false);
        let report = replay(reader, |line, heart| timeline.take(line, heart))
            .unwrap_or_else(|error| panic!("{name}: {error}; {remedy}"));
        if let Some(difference) = report.difference {
            let told = timeline.text.join("\n");
            panic!(
                "{name}:{}: the heart decides otherwise; {remedy}\n{told}\nrecorded: {}\nreplayed: {}",
                difference.line, difference.recorded, difference.replayed
            );
        }
        assert!(report.decisions > 0, "{name} holds no decision");
        assert!(!timeline.text.is_empty(), "{name} tells nothing");
        seen += 1;
    }
    assert!(seen > 0, "no recording in {}", directory.display());
}

fn replayed(words: &[&str], file: &Path) -> Spoken {
    let file = file.to_str().expect("a plain name");
    cli::run(["hafailoverctl", "replay"].iter().chain(words).chain(&[file]).map(|word| word.to_string()))
}

/// A file of the test's own, removed at its end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(text: &str) -> Temporary {
        let path = std::env::temp_dir().join(format!("hafailover-recording-{}.jsonl", std::process::id()));
        std::fs::write(&path, text).expect("there is room");
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_shell_is_told_what_is_the_same_what_differs_and_what_is_no_recording() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/takeover.jsonl");
    let told = replayed(&[], &path);
    assert_eq!(told.exit, Exit::Done, "{told:?}");
    for part in ["is dead: nothing heard", "> step", "adds the addresses of web", "= web: ", "decisions, all the same"]
    {
        assert!(told.out.contains(part), "{part:?} is missing:\n{}", told.out);
    }
    assert!(!told.out.contains("says #"), "heartbeats are left out:\n{}", told.out);
    assert!(replayed(&["--all"], &path).out.contains("says #"));
    assert_eq!(replayed(&["--quiet"], &path).out.lines().count(), 3);
    let json: serde_json::Value = serde_json::from_str(&replayed(&["--json"], &path).out).expect("JSON");
    assert_eq!((&json["schema"], &json["same"]), (&1.into(), &true.into()));
    assert!(json["timeline"].as_array().is_some_and(|timeline| timeline.len() > 10));

    let text = std::fs::read_to_string(&path).expect("it is readable");
    let altered = Temporary::new(&text.replacen(r#""outcome":"Done""#, r#""outcome":{"Failed":"no room"}"#, 1));
    let other = replayed(&[], &altered.0);
    assert_eq!(other.exit, Exit::Failed, "{other:?}");
    for part in ["this version (hafailover", "decides otherwise", "recorded: {", "replayed: {", "no room"] {
        assert!(other.out.contains(part), "{part:?} is missing:\n{}", other.out);
    }
    let new = PathBuf::from(format!("{}.new", altered.0.display()));
    std::fs::create_dir(&new).expect("there is room");
    let failed = replayed(&["--accept"], &altered.0);
    assert_eq!(failed.exit, Exit::Failed, "{failed:?}");
    assert!(failed.err.contains(&format!("{} cannot be written", new.display())), "{failed:?}");
    std::fs::remove_dir(&new).expect("its own");
    std::fs::write(&new, "what an earlier try left").expect("there is room");
    let accepted = replayed(&["--accept"], &altered.0);
    assert_eq!(accepted.exit, Exit::Done, "{accepted:?}");
    assert_eq!(replayed(&[], &altered.0).exit, Exit::Done, "what was accepted is the same");
    std::fs::write(&altered.0, "-- journal begins --\n").expect("there is room");
    let refused = replayed(&[], &altered.0);
    assert_eq!(refused.exit, Exit::Refused, "{refused:?}");
    assert!(refused.err.contains("it is no recording") && refused.err.contains("record on"), "{refused:?}");
    let nothing = cli::run(["hafailoverctl", "replay", "--accept"].map(str::to_owned));
    assert_eq!(nothing.exit, Exit::Usage, "the recording of this host is written by its daemon alone: {nothing:?}");
}
