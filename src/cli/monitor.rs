//! `hafailoverctl monitor`: on a terminal the status, drawn anew when something changed; elsewhere one line per change.
//! It runs until it is interrupted or nobody reads it any more.

use super::signals::Signals;
use super::{Exit, Spoken, status};
use crate::cluster::Status;
use crate::dbus::client::{CallError, ManagerProxy};
use crate::record::date;
use rustix::termios::tcgetwinsize;
use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep_until, timeout};
use zbus::{Connection, Message};

/// Longer than the daemon takes for its status, or to say that it cannot.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ages on the screen grow old by themselves.
const REDRAW: Duration = Duration::from_secs(2);
/// What changes together is drawn together.
const SETTLE: Duration = Duration::from_millis(50);
/// Home, and forget what was below; lines are ended one by one, so that nothing flickers.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

/// Why it is over.
enum End {
    BusGone,
    /// What is told can be written nowhere.
    Unwritten(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Unwritten(error)
    }
}

pub(super) async fn monitor(bus: &Connection, json: bool) -> Result<Spoken, CallError> {
    let manager = ManagerProxy::new(bus).await?;
    let mut signals = in_time(Signals::subscribe(bus)).await?;
    // Before anything is shown: without a daemon there is nothing to watch.
    let first = in_time(manager.status()).await?;
    let end = match io::stdout().is_terminal() && !json {
        true => draw(&manager, &mut signals).await,
        false => tell(&manager, &mut signals, json, &first).await,
    };
    let Err(end) = end;
    Ok(match end {
        // Whoever closed the pipe has read what they wanted.
        End::Unwritten(error) if error.kind() == io::ErrorKind::BrokenPipe => Spoken::done(""),
        End::Unwritten(error) => Spoken::not(Exit::Failed, format!("failed: nothing can be written: {error}")),
        End::BusGone => Spoken::not(
            Exit::NoDaemon,
            "the system bus went away, and with it all news; the daemon goes on without it. Once the bus is back \
             (`systemctl start dbus.socket dbus.service`), start this anew",
        ),
    })
}

/// A bus or a daemon that is stopped rather than dead never says a word.
async fn in_time<T>(asked: impl Future<Output = zbus::Result<T>>) -> Result<T, CallError> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Failed(format!(
            "no answer within {PATIENCE:?}; see `systemctl status hafailover` and `journalctl -u hafailover`"
        ))),
    }
}

async fn draw(manager: &ManagerProxy<'_>, signals: &mut Signals) -> Result<Infallible, End> {
    write!(io::stdout(), "\x1b[2J")?;
    loop {
        let text = match in_time(manager.status()).await {
            Ok(json) => match serde_json::from_str::<Status>(&json) {
                Ok(status) => status::table(&status),
                Err(error) => format!("the daemon's status cannot be read: {error}"),
            },
            Err(CallError::Refused(text) | CallError::Failed(text) | CallError::NoDaemon(text)) => text,
        };
        let window = tcgetwinsize(io::stdout()).ok().map(|size| (size.ws_row.into(), size.ws_col.into()));
        write!(io::stdout(), "{}", screen(&text, window))?;
        io::stdout().flush()?;
        let later = Instant::now() + REDRAW;
        tokio::select! {
            signal = signals.next() => signal.map(drop).ok_or(End::BusGone)?,
            () = sleep_until(later) => continue,
        }
        tokio::time::sleep(SETTLE).await;
        // Those that came meanwhile are drawn with it.
        if !signals.skip() {
            return Err(End::BusGone);
        }
    }
}

/// As much as the window (rows and columns) has room for: what is more would push its beginning out at the top.
fn screen(text: &str, window: Option<(usize, usize)>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (fit, more) = match window.filter(|(rows, columns)| *rows > 2 && *columns > 0) {
        // The cursor stands below the last line.
        Some((rows, columns)) => fitting(&lines, rows - 1, columns),
        None => (lines.len(), 0),
    };
    let more = (more > 0).then(|| format!("… {more} more")).into_iter();
    let shown = lines[..fit].iter().map(|line| (*line).to_owned()).chain(more);
    let shown: String = shown.map(|line| format!("{line}{CLEAR_LINE}")).collect();
    format!("{HOME}{shown}{CLEAR_BELOW}")
}

/// How many of the lines have room in so many rows, and how many have none; a long line takes several rows.
fn fitting(lines: &[&str], rows: usize, columns: usize) -> (usize, usize) {
    let takes = |line: &&str| line.chars().count().div_ceil(columns).max(1);
    if lines.iter().map(takes).sum::<usize>() <= rows {
        return (lines.len(), 0);
    }
    // One row says that there is more.
    let mut left = rows - 1;
    let fits = |line: &&&str| {
        takes(line) <= left && {
            left -= takes(line);
            true
        }
    };
    let fit = lines.iter().take_while(fits).count();
    (fit, lines.len() - fit)
}

/// Lines, one per change. As JSON each is an object: when, what (the signal's name) and its words.
async fn tell(manager: &ManagerProxy<'_>, signals: &mut Signals, json: bool, first: &str) -> Result<Infallible, End> {
    let mut out = io::stdout();
    begin(&mut out, first, json)?;
    loop {
        let signal = signals.next().await.ok_or(End::BusGone)?;
        let Some(event) = Event::read(&signal) else { continue };
        writeln!(out, "{}", event.line(&now(), json))?;
        if event.what == "DaemonStarted"
            && let Ok(status) = in_time(manager.status()).await
        {
            begin(&mut out, &status, json)?;
        }
        out.flush()?;
    }
}

/// How things stand, in the form of changes: whoever reads on needs to know what they change.
fn begin(out: &mut impl Write, status: &str, json: bool) -> io::Result<()> {
    // A daemon of another version may say it in another way; what it signals is told all the same.
    let Ok(status) = serde_json::from_str::<Status>(status) else { return Ok(()) };
    let event = |what: &str, words: &[&str]| Event {
        what: what.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let groups = status
        .groups
        .iter()
        .map(|group| event("GroupOwner", &[&group.name, group.owner.as_deref().unwrap_or_default(), &group.why]));
    let alarms = status.attention.iter().map(|text| event("Alarm", &[text]));
    let time = now();
    groups.chain(alarms).try_for_each(|event| writeln!(out, "{}", event.line(&time, json)))?;
    out.flush()
}

/// A signal by its name, and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    what: String,
    words: Vec<String>,
}

impl Event {
    /// None for what is no change of its own: properties are told by the signals beside them.
    fn read(message: &Message) -> Option<Event> {
        let header = message.header();
        let what = header.member()?.to_string();
        let body = message.body();
        if what == "NameOwnerChanged" {
            let (_, _, new): (String, String, String) = body.deserialize().ok()?;
            let what = if new.is_empty() { "DaemonEnded" } else { "DaemonStarted" };
            return Some(Event { what: what.into(), words: vec![] });
        }
        if header.interface()?.as_str() != "org.hafailover1.Manager" {
            return None;
        }
        let words = match body.signature().to_string_no_parens().as_str() {
            "s" => vec![body.deserialize::<String>().ok()?],
            "ss" => body.deserialize::<(String, String)>().ok().map(|(one, two)| vec![one, two])?,
            "sss" => body.deserialize::<(String, String, String)>().ok().map(|(a, b, c)| vec![a, b, c])?,
            _ => vec![],
        };
        Some(Event { what, words })
    }

    fn line(&self, time: &str, json: bool) -> String {
        if json {
            let schema = crate::cluster::status::SCHEMA;
            return serde_json::json!({"schema": schema, "time": time, "event": self.what, "words": self.words})
                .to_string();
        }
        format!("{time} {}", one_line(&self.prose()))
    }

    fn prose(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match (self.what.as_str(), &words[..]) {
            ("GroupOwner", [group, owner, why]) => format!("group {group}: owner {} ({why})", some(owner)),
            ("GroupOwnerChanged", [group, owner, before]) => {
                format!("group {group}: owner {}, was {}", some(owner), some(before))
            }
            ("GroupStateChanged", [group, state, before]) => format!("group {group}: {state} here, was {before}"),
            ("NodeStateChanged", [node, state, before]) => format!("node {node}: {state}, was {before}"),
            ("LinkStateChanged", [link, state, before]) => format!("link {link}: {state}, was {before}"),
            ("LocalStateChanged", [state, before]) => format!("this node: {state}, was {before}"),
            ("Alarm", [text]) => format!("needs attention: {text}"),
            ("AlarmOver", [text]) => format!("is over: {text}"),
            ("DaemonEnded", _) => "hafailoverd ended here".to_owned(),
            ("DaemonStarted", _) => "hafailoverd runs here".to_owned(),
            // Of a later daemon.
            (what, words) => format!("{what} {}", words.join(" ")).trim_end().to_owned(),
        }
    }
}

/// Nothing in it moves a terminal's cursor, or looks like another change.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char.escape_default().to_string() } else { char.into() }).collect()
}

/// An owner, or that there is none.
fn some(owner: &str) -> &str {
    if owner.is_empty() { "nobody" } else { owner }
}

/// As RFC 3339, in UTC: it sorts, and reads alike on every node.
fn now() -> String {
    time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn time(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: &str, words: &[&str]) -> Event {
        Event { what: what.into(), words: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_795_262_885, "2026-11-21T12:08:05.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn each_change_is_one_line_of_prose_or_json() {
        let owner = event("GroupOwnerChanged", &["web", "", "alpha"]);
        assert_eq!(owner.line("now", false), "now group web: owner nobody, was alpha");
        let json: serde_json::Value = serde_json::from_str(&owner.line("now", true)).unwrap();
        assert_eq!(json["event"], "GroupOwnerChanged");
        assert_eq!(json["words"][2], "alpha");
        assert_eq!(event("Later", &["a", "b"]).prose(), "Later a b");
        assert_eq!(event("Alarm", &["node beta is late"]).prose(), "needs attention: node beta is late");
    }

    #[test]
    fn a_screen_is_drawn_over_the_one_before() {
        assert_eq!(screen("a\nb", None), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }

    #[test]
    fn what_has_no_room_in_the_window_is_counted() {
        let rows = |text: &str, window| -> Vec<String> {
            let screen = screen(text, Some(window)).replace(HOME, "").replace(CLEAR_BELOW, "");
            screen.split_terminator(CLEAR_LINE).map(str::to_owned).collect()
        };
        assert_eq!(rows("a\nb\nc", (4, 80)), ["a", "b", "c"], "and the cursor below them");
        assert_eq!(rows("a\nb\nc\nd", (4, 80)), ["a", "b", "… 2 more"]);
        assert_eq!(rows("abcdef\n\ng", (5, 3)), ["abcdef", "", "g"], "a long line takes two rows, an empty one one");
        assert_eq!(rows("abcdefg\n\ng", (5, 3)), ["abcdefg", "… 2 more"]);
        assert_eq!(rows("a\nb\nc\nd", (0, 0)), ["a", "b", "c", "d"], "a terminal that does not know its size");
    }

    #[test]
    fn a_line_is_one_line_whatever_it_tells_of() {
        let event = event("Alarm", &["unit \x1b[2Ja\nb"]);
        assert_eq!(event.line("now", false), "now needs attention: unit \\u{1b}[2Ja\\nb");
    }

    #[test]
    fn what_is_there_at_the_beginning_is_told_first() {
        let mut out = Vec::new();
        let status = crate::dbus::news::tests::status();
        begin(&mut out, &serde_json::to_string(&status).unwrap(), false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("Z group web: owner alpha (alpha owns it)\n"), "{text}");
    }
}
