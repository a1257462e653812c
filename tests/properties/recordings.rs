//! A recording with something wrong in it: told, or refused with a reason. It comes by mail from whoever asks for help, so it ends no program.

use hafailover::record::{Reader, Timeline, accept, replay};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use std::path::Path;

fn sound() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/takeover.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a recording is lines of JSON")).collect()
}

/// One change of a recording. Places are those of any value in its lines, at any depth.
#[derive(Clone, Debug)]
enum Change {
    Number(Place, u64),
    Empty(Place),
    /// The last element of a list, or any member, is gone.
    Less(Place),
    /// The first element of a list is there once more.
    More(Place),
    /// Another value of the recording stands there.
    Other(Place, Place),
    Line(usize),
    /// The heart is in the middle of something that is over in this recording.
    State(usize),
    Twice(Index, Index),
}

/// A line (none: the heart, where most is that is named by its position), and a value in it.
type Place = (Option<Index>, Index);

/// What a change of configuration and the end of a step bring, which are rare in recordings.
const LINES: [&str; 9] = [
    r#"{"fold":{"Finished":{"op":1,"outcome":{"Inspected":{"all_active":false,"any_active":false,"addresses":[7]}}}}}"#,
    r#"{"fold":{"Finished":{"op":1,"outcome":"Done"}}}"#,
    r#"{"fold":{"Finished":{"op":2,"outcome":"Done"}}}"#,
    r#"{"fold":{"Finished":{"op":3,"outcome":{"Failed":"in vain"}}}}"#,
    r#"{"fold":{"Files":{"groups":[],"request":1}}}"#,
    r#"{"fold":{"Command":{"request":1,"command":{"Maintenance":{"on":true}}}}}"#,
    r#"{"fold":{"Command":{"request":1,"command":{"Stop":{"group":0}}}}}"#,
    r#"{"fold":{"MemberDown":{"group":0,"unit":"a.service","reason":"it failed"}}}"#,
    r#"{"fold":{"Placed":{"group":0,"interfaces":[],"no_place":null,"fault":null}}}"#,
];

/// What a heart may be in the middle of, and where that stands. `CONFIG` and `GROUP` are this recording's.
const STATES: [(&str, &str); 7] = [
    ("/heart/groups/0/phase", r#"{"Unknown":{"held":null,"op":1,"found":null}}"#),
    ("/heart/groups/0/phase", r#"{"Unknown":{"held":[{"epoch":1,"node":1,"boot":1},"Granted"],"op":2,"found":null}}"#),
    ("/heart/groups/0/phase", r#"{"Running":{"grant":{"epoch":1,"node":1,"boot":3656469156735174456}}}"#),
    ("/heart/groups/0/look", r#"{"Asked":1}"#),
    ("/heart/rollout/noting", r#"{"config":CONFIG,"groups":[0],"op":1,"failed":null}"#),
    (
        "/heart/rollout/alters",
        r#"{"0":{"to":GROUP,"step":"DropAddresses","op":3,"failed":null,"unstarted":false,"bare":false}}"#,
    ),
    ("/heart/rollout/pending", r#"{"0":GROUP}"#),
];

fn change() -> impl Strategy<Value = Change> {
    let place = (prop::option::weighted(0.4, any::<Index>()), any::<Index>()).boxed();
    let number = prop::sample::select(vec![0, 1, 2, 3, 7, 255, 65_535, u64::from(u32::MAX), u64::MAX]);
    prop_oneof![
        4 => (place.clone(), number).prop_map(|(at, number)| Change::Number(at, number)),
        1 => place.clone().prop_map(Change::Empty),
        2 => place.clone().prop_map(Change::Less),
        2 => place.clone().prop_map(Change::More),
        2 => (place.clone(), place).prop_map(|(at, from)| Change::Other(at, from)),
        3 => (0..LINES.len()).prop_map(Change::Line),
        3 => (0..STATES.len()).prop_map(Change::State),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Twice(from, to)),
    ]
}

/// Where any value below this one stands.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| pointers(value, &format!("{at}/{n}"), all)),
        Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{key}"), all)),
        _ => {}
    }
}

fn find(lines: &[Value], (line, value): Place) -> (usize, String) {
    let line = line.map_or(1, |line| line.index(lines.len())).min(lines.len() - 1);
    let mut all = Vec::new();
    pointers(&lines[line], "", &mut all);
    (line, all[value.index(all.len())].clone())
}

fn apply(lines: &mut Vec<Value>, change: Change) {
    let copy = lines.clone();
    let mut alter = |place: Place, alter: &dyn Fn(&mut Value)| {
        let (line, at) = find(&copy, place);
        lines[line].pointer_mut(&at).into_iter().for_each(alter);
    };
    match change {
        Change::Number(at, number) => alter(at, &|value| {
            if value.is_number() {
                *value = number.into();
            }
        }),
        Change::Empty(at) => alter(at, &|value| match value {
            Value::Array(list) => list.clear(),
            Value::Object(map) => map.clear(),
            Value::String(text) => text.clear(),
            _ => *value = Value::Null,
        }),
        Change::Less(at) => alter(at, &|value| match value {
            Value::Array(list) => drop(list.pop()),
            Value::Object(map) => {
                let last = map.keys().next_back().cloned();
                last.and_then(|key| map.remove(&key)).into_iter().for_each(drop);
            }
            _ => {}
        }),
        Change::More(at) => alter(at, &|value| {
            if let Value::Array(list) = value {
                list.extend(list.first().cloned());
            }
        }),
        Change::Other(at, from) => {
            let (line, pointer) = find(&copy, from);
            let other = copy[line].pointer(&pointer).cloned().unwrap_or_default();
            alter(at, &|value| *value = other.clone());
        }
        // What the heart is in the middle of is soon over.
        Change::Line(which) => lines.insert(3.min(lines.len()), serde_json::from_str(LINES[which]).expect("JSON")),
        Change::State(which) => {
            let (at, state) = STATES[which];
            let word = |at: &str| lines[1].pointer(at).map(Value::to_string).unwrap_or_default();
            let state =
                state.replace("CONFIG", &word("/heart/config")).replace("GROUP", &word("/heart/config/groups/0"));
            let state: Value = serde_json::from_str(&state).unwrap_or_default();
            lines[1].pointer_mut(at).into_iter().for_each(|value| *value = state.clone());
        }
        Change::Twice(from, to) => {
            let line = lines[from.index(lines.len())].clone();
            lines.insert(to.index(lines.len()), line);
        }
    }
}

/// As `hafailoverctl replay` does it, with and without `--accept`.
fn told_or_refused(text: &str) {
    if let Ok(reader) = Reader::new(text.as_bytes()) {
        let mut timeline = Timeline::new(reader.header(), true);
        // Whether it is sound is not asked.
        let _ = replay(reader, |line, heart| timeline.take(line, heart));
    }
    if let Ok(reader) = Reader::new(text.as_bytes()) {
        let _ = accept(reader);
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The states mean something to the heart, so that what is changed in them is.
#[test]
fn what_a_heart_may_be_in_the_middle_of_can_be_read() {
    for (which, (_, state)) in STATES.iter().enumerate() {
        let mut lines = sound();
        apply(&mut lines, Change::State(which));
        let reader = Reader::new(text(&lines).as_bytes()).map(|reader| replay(reader, |_, _| {}).map(drop));
        assert!(matches!(reader, Ok(Ok(()))), "{state}: {reader:?}");
    }
}

#[test]
fn a_changed_recording_ends_no_program() {
    let sound = sound();
    for (state, line) in (0..STATES.len()).flat_map(|state| (0..LINES.len()).map(move |line| (state, line))) {
        let mut lines = sound.clone();
        apply(&mut lines, Change::State(state));
        apply(&mut lines, Change::Line(line));
        told_or_refused(&text(&lines));
    }
    proptest!(crate::configuration::few(), |(changes in vec(change(), 1..5))| {
        let mut lines = sound.clone();
        changes.into_iter().for_each(|change| apply(&mut lines, change));
        told_or_refused(&text(&lines));
    });
}
