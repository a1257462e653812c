//! What was recorded is decided again, to the byte; what was altered is found.

use super::*;
use crate::host::held::tests::TempPlaces;
use crate::record::testing::takeover;

fn run(text: &str) -> Result<Report, ReadError> {
    replay(Reader::new(text.as_bytes())?, |_, _| {})
}

/// The first line that holds this, with a part of it replaced.
fn altered(text: &str, holding: &str, part: &str, by: &str) -> String {
    let mut done = false;
    let lines = text.lines().map(|line| {
        if done || !line.contains(holding) || !line.contains(part) {
            return format!("{line}\n");
        }
        done = true;
        format!("{}\n", line.replacen(part, by, 1))
    });
    let new = lines.collect();
    assert!(done, "no line with {holding} and {part}");
    new
}

#[test]
fn the_same_heart_decides_the_same_from_the_start_and_from_the_middle_of_a_run() {
    for late in [false, true] {
        let places = TempPlaces::new("replay-same");
        let text = takeover(&places, late);
        assert!(text.contains("GroupStarting") && text.contains("NodeLost"), "beta took the group over");
        let report = run(&text).unwrap();
        assert_eq!(report.difference, None);
        assert!(report.decisions > 50 && report.inputs > 50, "{report:?}");
        assert_eq!(report.ending, Ending::Said("switched off, or the daemon ended".into()));
        assert_eq!(report.header.node, "beta");
    }
}

#[test]
fn an_altered_input_leads_to_another_decision_which_is_shown() {
    let places = TempPlaces::new("replay-altered");
    let text = takeover(&places, true);
    // The network answers for the address shortly before beta takes it.
    let lost = text.lines().position(|line| line.contains("NodeLost")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(lost, r#"{"fold":{"ProbeAnswer":{"group":0,"index":0,"mac":[2,0,0,0,0,1]}}}"#);
    let difference = run(&lines.join("\n")).unwrap().difference.unwrap();
    assert!(difference.recorded.contains("GroupStarting"), "{difference:?}");
    assert!(!difference.replayed.contains("GroupStarting"), "{difference:?}");
    assert!(difference.replayed.contains("GroupBlocked"), "{difference:?}");
    assert_eq!(lines[difference.line as usize - 1], difference.recorded);
}

#[test]
fn an_altered_decision_is_found_to_the_byte() {
    let places = TempPlaces::new("replay-decision");
    let text = takeover(&places, false);
    let difference = run(&altered(&text, "GroupStarting", r#""epoch":2"#, r#""epoch":3"#)).unwrap().difference.unwrap();
    assert!(difference.recorded.contains(r#""epoch":3"#) && difference.replayed.contains(r#""epoch":2"#));
    let heard = altered(&text, "\"hear\"", r#""heard":{"News":0}"#, r#""heard":"Duplicate""#);
    assert!(run(&heard).unwrap().difference.unwrap().replayed.contains("News"));
}

#[test]
fn accepting_makes_a_recording_of_what_this_heart_decides() {
    let places = TempPlaces::new("replay-accept");
    let text = takeover(&places, false);
    assert_eq!(accept(Reader::new(text.as_bytes()).unwrap()).unwrap(), (text.clone(), 0), "nothing to accept");
    let other = altered(&text, "GroupStarting", r#""epoch":2"#, r#""epoch":3"#);
    assert_eq!(accept(Reader::new(other.as_bytes()).unwrap()).unwrap(), (text, 1));
}

#[test]
fn a_last_line_that_was_cut_short_is_left_out_and_said() {
    let places = TempPlaces::new("replay-cut");
    let text = takeover(&places, false);
    let whole = run(&text).unwrap();
    let before_end = text.trim_end().rfind('\n').unwrap();
    for (cut, truncated) in [(before_end + 1, false), (before_end - 5, true)] {
        let report = run(&text[..cut]).unwrap();
        assert_eq!(report.ending, Ending::Sudden { truncated });
        assert_eq!(report.difference, None);
        assert!(report.decisions >= whole.decisions - 1, "{} of {}", report.decisions, whole.decisions);
    }
    // What a file system leaves of blocks that were never written.
    assert_eq!(
        run(&format!("{}\0\0\0\0", &text[..before_end + 1])).unwrap().ending,
        Ending::Sudden { truncated: true }
    );
    let damaged = altered(&text, "\"hear\"", "\"message\"", "\"massage\"");
    let error = run(&damaged).unwrap_err().to_string();
    assert!(error.contains("line ") && error.contains("cannot be read"), "{error}");
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let error = |text: &str| run(text).unwrap_err().to_string();
    for text in ["", "hello\n", "{}\n", "[1]\n", "\u{0}\n", "{\"leave_unread\":null}\n"] {
        assert!(error(text).contains("it is no recording"), "{text:?}: {}", error(text));
    }
    let newer = r#"{"recording":{"version":9,"program":"7.0","shape":"other"}}"#;
    assert!(error(newer).contains("hafailover 7.0"), "{}", error(newer));
    let places = TempPlaces::new("replay-bad");
    let text = takeover(&places, false);
    let header = text.lines().next().unwrap();
    assert!(error(&format!("{header}\n\"leave_unread\"\n")).contains("no heart before it"));
    let doubled: String = text.lines().take(2).chain(text.lines().skip(1)).map(|line| format!("{line}\n")).collect();
    assert!(error(&doubled).contains("a second heart"));
}

#[test]
fn a_heart_that_names_what_is_not_there_is_refused_and_ends_no_program() {
    let places = TempPlaces::new("replay-unsound");
    let text = takeover(&places, true);
    for (holding, part, by) in [
        ("\"heart\"", r#""me":1"#, r#""me":9"#),
        ("\"heart\"", r#""nodes":[0,1]"#, r#""nodes":[0,7]"#),
        ("\"heart\"", r#""groups":[{"id":0"#, r#""groups":[{"id":4"#),
        ("\"heart\"", r#""timers":["#, r#""timers":[[{"Probe":8},9],"#),
        ("\"heart\"", r#""desired":0"#, r#""desired":5"#),
        ("\"heart\"", r#""deadtime":{"secs":1"#, r#""deadtime":{"secs":18446744073709551615"#),
        ("\"hear\"", r#""link":0"#, r#""link":3"#),
    ] {
        refused(&altered(&text, holding, part, by));
    }
    let heart: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let config = &heart["heart"]["config"];
    for groups in ["[]", "[9]"] {
        let noting = format!(r#""noting":{{"config":{config},"groups":{groups},"op":1,"failed":null}}"#);
        refused(&altered(&text, "\"heart\"", r#""noting":null"#, &noting));
    }
    for event in [
        r#"{"AddressLost":{"group":0,"index":1}}"#,
        r#"{"Guard":{"group":1,"fault":null}}"#,
        r#"{"Command":{"request":1,"command":{"Move":{"group":0,"to":2}}}}"#,
        r#"{"Link":{"link":1,"usable":true}}"#,
    ] {
        let fold = format!("{{\"fold\":{event}}}");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(4, &fold);
        refused(&lines.join("\n"));
    }
}

fn refused(text: &str) {
    let error = run(text).map(|report| report.difference).unwrap_err().to_string();
    assert!(
        ["not in the configuration", "too long", "order", "of no group"].iter().any(|why| error.contains(why)),
        "{error}"
    );
}
