//! Files of bounded size that only root reads; a disk that does not keep up costs the recording, and that is said.

use super::*;
use crate::cluster::{Cluster, Event, Identity, Incarnation, Saved, Time};
use crate::host::held::tests::TempPlaces;
use crate::record::recorder::Recorder;
use crate::record::testing::{Two, journal, recording, two_nodes};
use crate::record::{Reader, replay};
use std::os::unix::fs::PermissionsExt;

fn heart() -> Line {
    let identity = Identity { incarnation: Incarnation(1), boot: crate::cluster::BootId(1) };
    Line::Heart(Box::new(Cluster::new(Arc::new(two_nodes(0)), identity, &Saved::default(), &[], Time(0))))
}

fn files(places: &TempPlaces, file_max: u64) -> Files {
    Files { directory: places.state.clone(), node: "alpha".into(), file_max, current: None }
}

/// What can be replayed of this host's files, newest first.
fn kept(places: &TempPlaces) -> Vec<PathBuf> {
    let names = std::iter::once(file(&places.state)).chain((1..100).map(|number| older_file(&places.state, number)));
    names.filter(|path| path.exists()).collect()
}

#[test]
fn nobody_else_reads_it_and_it_holds_no_key() {
    let places = TempPlaces::new("record-mode");
    let (sink, recording) = recording(&places);
    assert_eq!(recording.opened(Duration::from_secs(10)), Ok(()));
    drop(sink);
    assert!(recording.finished(Duration::from_secs(10)).is_some());
    assert_eq!(std::fs::metadata(recording.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_is_full_is_followed_by_the_next_and_the_oldest_goes() {
    let places = TempPlaces::new("record-rotate");
    let mut files = files(&places, 4000);
    files.next().unwrap();
    for _ in 0..FILES + 3 {
        files.write(&heart()).unwrap();
        assert!(!files.wants_next() || files.current.as_ref().unwrap().bytes >= 4000);
        while files.current.as_ref().unwrap().bytes < 4000 {
            files.write(&Line::Begin { now: Time(1) }).unwrap();
        }
        files.current.iter_mut().for_each(|current| current.asked = false);
        assert!(files.wants_next(), "it wants a heart for the next file");
        assert!(!files.wants_next(), "once");
    }
    files.end("the test ends").unwrap();
    let kept = kept(&places);
    assert_eq!(kept.len(), FILES);
    for path in kept {
        let reader = Reader::new(std::io::BufReader::new(File::open(&path).unwrap())).unwrap();
        let report = replay(reader, |_, _| {}).unwrap();
        assert!(report.inputs > 0, "{}: {report:?}", path.display());
    }
}

#[test]
fn the_next_file_goes_on_where_the_one_before_ended() {
    let places = TempPlaces::new("record-goes-on");
    let (sender, receiver) = sync_channel(WAITING);
    let shared = Arc::new(Shared::default());
    let sink = Sink { sender, shared: shared.clone(), journal: journal() };
    let mut files = files(&places, 8000);
    let writer = std::thread::spawn(move || {
        files.next().unwrap();
        keep(&mut files, &receiver, &shared).unwrap()
    });
    let mut two = Two::new();
    two.hearts[0].record(Some(sink));
    for _ in 0..40 {
        two.run(200);
        // For the writer to see that its file is full.
        std::thread::sleep(Duration::from_millis(5));
    }
    two.hearts[0].record(None);
    writer.join().unwrap();
    let kept = kept(&places);
    assert!(kept.len() > 2, "{kept:?}");
    for path in kept {
        let reader = Reader::new(std::io::BufReader::new(File::open(&path).unwrap())).unwrap();
        let report = replay(reader, |_, _| {}).unwrap();
        assert_eq!(report.difference, None, "{}", path.display());
    }
}

#[test]
fn a_disk_that_does_not_keep_up_ends_the_recording_with_a_marked_gap_and_no_call_waits() {
    let places = TempPlaces::new("record-gap");
    let (sender, receiver) = sync_channel(2);
    let shared = Arc::new(Shared::default());
    let sink = Sink { sender, shared: shared.clone(), journal: journal() };
    let Line::Heart(heart) = heart() else { panic!() };
    let mut recorder = Recorder::new(*heart);
    recorder.record(Some(sink));
    let begun = Instant::now();
    for round in 0..10u64 {
        recorder.begin(Time(round));
        recorder.fold(Event::HostThread { answering: round % 2 == 0 });
        recorder.decide(Time(round));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for a writer that does not write");
    drop(recorder);
    let mut files = files(&places, FILE_MAX);
    files.next().unwrap();
    let why = keep(&mut files, &receiver, &shared).unwrap();
    assert!(why.starts_with("a gap: the disk did not keep up; 3 lines"), "{why}");
    let text = std::fs::read_to_string(file(&places.state)).unwrap();
    assert_eq!(text.matches("\"decide\"").count(), 2, "{text}");
    assert!(text.trim_end().ends_with("are missing\"}}"), "{text}");
    let report = replay(Reader::new(text.as_bytes()).unwrap(), |_, _| {}).unwrap();
    assert_eq!((report.decisions, report.difference), (2, None), "what is there is whole");
}

#[test]
fn lines_that_wait_are_counted_and_not_rounds() {
    let (sender, receiver) = sync_channel(WAITING);
    let shared = Arc::new(Shared::default());
    let sink = Sink { sender, shared: shared.clone(), journal: journal() };
    let Line::Heart(heart) = heart() else { panic!() };
    let mut recorder = Recorder::new(*heart);
    recorder.record(Some(sink));
    recorder.begin(Time(1));
    for number in 0..2 * WAITING {
        recorder.fold(Event::HostThread { answering: number % 2 == 0 });
    }
    drop(recorder);
    let kept: usize = receiver.try_iter().map(|batch| batch.len()).sum();
    assert!(kept <= WAITING && kept > WAITING - 64, "{kept} lines wait");
    assert!(shared.lost.load(Ordering::Relaxed) > 0, "and that is said");
}

#[test]
fn a_directory_that_takes_no_file_is_said() {
    let places = TempPlaces::new("record-nowhere");
    std::fs::remove_dir_all(&places.state).unwrap();
    let (sink, recording) = recording(&places);
    let why = recording.opened(Duration::from_secs(10)).unwrap_err();
    assert!(why.contains("recording.jsonl") && why.contains("No such file"), "{why}");
    assert!(recording.ended().is_some());
    // The beat thread finds out at its next round, and goes on without.
    let mut two = Two::new();
    two.hearts[0].record(Some(sink));
    two.run(400);
}

/// Of this thread alone: a busy machine does not count.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_recorded_round_costs_the_beat_thread_microseconds() {
    let places = TempPlaces::new("record-cost");
    let mut two = Two::new();
    two.run(5000);
    let cost = |two: &mut Two| {
        let begun = busy();
        // A hundred rounds of each heart.
        two.run(2000);
        (busy() - begun) / 100
    };
    let without = cost(&mut two);
    let (sink, recording) = recording(&places);
    two.hearts[0].record(Some(sink));
    let with = cost(&mut two);
    assert!(recording.ended().is_none());
    println!("two rounds: {without:?}, one of them recorded: {with:?}");
    assert!(with < without + Duration::from_micros(100), "{with:?} instead of {without:?}");
}

#[test]
fn a_heart_is_written_down_only_when_nothing_waits_to_be_told() {
    let places = TempPlaces::new("record-quiet");
    let (sink, recording) = recording(&places);
    let Line::Heart(heart) = heart() else { panic!() };
    let mut recorder = Recorder::new(*heart);
    recorder.begin(Time(1));
    recorder.fold(Event::HostThread { answering: false });
    recorder.record(Some(sink));
    for round in 2..4 {
        recorder.begin(Time(round));
        recorder.decide(Time(round));
    }
    drop(recorder);
    assert!(recording.finished(Duration::from_secs(10)).is_some());
    let reader = Reader::new(std::io::BufReader::new(File::open(recording.path()).unwrap())).unwrap();
    let report = replay(reader, |_, _| {}).unwrap();
    assert_eq!((report.decisions, report.difference), (1, None), "the round that told was over by then");
}
