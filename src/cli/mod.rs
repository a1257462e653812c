//! `hafailoverctl`: words from the command line, one question to the daemon, an answer for people or (`--json`) programs.
//! It decides nothing. Names, options and exit codes are those of hafailoverctl(1): programs rely on them.

mod agent;
mod check;
mod completion;
mod monitor;
mod replay;
mod signals;
mod status;

use crate::cluster::{Status, Which};
use crate::dbus::client::{CallError, ManagerProxy};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// A shell that completes a word waits for it.
const NAMES_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// For `status`: something needs attention.
    Failed = 1,
    Usage = 2,
    Refused = 3,
    NoDaemon = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What goes to standard output, what to standard error, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub out: String,
    pub err: String,
    pub exit: Exit,
}

impl Spoken {
    fn done(out: impl Into<String>) -> Spoken {
        Spoken { out: out.into(), err: String::new(), exit: Exit::Done }
    }

    fn not(exit: Exit, err: impl Into<String>) -> Spoken {
        Spoken { out: String::new(), err: err.into(), exit }
    }
}

impl From<CallError> for Spoken {
    fn from(error: CallError) -> Spoken {
        match error {
            CallError::Refused(text) => Spoken::not(Exit::Refused, format!("refused: {text}")),
            CallError::Failed(text) => Spoken::not(Exit::Failed, format!("failed: {text}")),
            CallError::NoDaemon(text) => Spoken::not(Exit::NoDaemon, text),
        }
    }
}

#[derive(Debug, Parser)]
#[command(name = "hafailoverctl", version, about = "Show and control the failover of this cluster's groups")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Who owns what, and what needs attention (exit code 1 if something does)
    Status {
        /// As JSON with a schema version
        #[arg(long)]
        json: bool,
    },
    /// Why a group is where it is, or why it is not
    Why { group: String },
    /// Hand a group over to a node
    Move { group: String, node: String },
    /// Stop a group everywhere, until `start`
    Stop { group: String },
    /// Let a group run again
    Start { group: String },
    /// Forget that a group failed on nodes, so that they may try again
    Clear { group: String },
    /// Show what changes, until interrupted: on a terminal the status, elsewhere one line per change
    Monitor {
        /// As lines of JSON, one object per change
        #[arg(long)]
        json: bool,
    },
    /// Give the groups that run here to other nodes, once
    Standby {
        /// Those at home here (local), the others (foreign, failback), or all
        #[arg(default_value = "all", value_parser = Which::WORDS.map(|(word, _)| word))]
        groups: String,
        /// And own nothing until `online`
        #[arg(long)]
        stay: bool,
    },
    /// Take groups from the nodes that run them, once
    Takeover {
        /// Those at home here (local, failback), the others (foreign), or all
        #[arg(default_value = "all", value_parser = Which::WORDS.map(|(word, _)| word))]
        groups: String,
    },
    /// End `standby --stay`, and let Failback= hold again
    Online,
    /// Leave the whole cluster alone, whatever fails, or no longer
    Maintenance {
        #[arg(value_parser = ["on", "off"])]
        word: String,
    },
    /// Read the configuration again: new keys are in use at once, groups when all nodes agree, the rest with a restart
    Reload,
    /// Record what the daemon hears and decides, for `replay`
    Record {
        #[arg(value_enum, default_value = "status")]
        what: RecordWord,
    },
    /// Show a recording as a timeline, and whether the same is decided again; without a daemon
    Replay(replay::Replay),
    /// Look for mistakes in the configuration, without a daemon
    Check {
        /// In place of this host's own: a directory for /etc/hafailover, or files by their names
        files: Vec<PathBuf>,
    },
    /// Print the completion script for a shell
    Completion { shell: completion::Shell },
    /// For completion scripts: what may come next
    #[command(hide = true)]
    Complete {
        #[arg(allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

impl Command {
    /// Everybody may do it: nobody has to be asked for a password.
    fn only_reads(&self) -> bool {
        let reads_records = matches!(self, Command::Record { what: RecordWord::Status });
        reads_records || matches!(self, Command::Status { .. } | Command::Why { .. } | Command::Monitor { .. })
    }
}

/// Every command with its options, for whoever describes them.
pub fn command() -> clap::Command {
    Arguments::command()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecordWord {
    On,
    Off,
    Status,
}

impl RecordWord {
    fn text(self) -> &'static str {
        match self {
            RecordWord::On => "on",
            RecordWord::Off => "off",
            RecordWord::Status => "status",
        }
    }
}

/// Commands whose names and meaning are fixed and that a later version brings; refused rather than unknown.
const NOT_BUILT_YET: [&str; 7] = ["confirm-dead", "fence", "simulate", "import", "propagate", "keygen", "report"];

/// The same for options of commands that are built.
const OPTIONS_NOT_BUILT_YET: [(&str, &str); 2] = [("start", "--local"), ("start", "--force")];

/// The whole program, but for printing.
pub fn run(words: impl IntoIterator<Item = String>) -> Spoken {
    let words: Vec<String> = words.into_iter().collect();
    if let Some(later) = not_built_yet(&words) {
        return Spoken::not(Exit::Refused, format!("refused: `{later}` is not built yet in this version"));
    }
    match parse(words) {
        Ok(command) => perform(command),
        Err(error) if error.use_stderr() => Spoken::not(Exit::Usage, error.to_string().trim_end()),
        Err(help) => Spoken::done(help.to_string().trim_end()),
    }
}

/// The command or option of a later version among these words.
fn not_built_yet(words: &[String]) -> Option<String> {
    let (command, rest) = words.get(1..)?.split_first()?;
    if NOT_BUILT_YET.contains(&command.as_str()) {
        return Some(command.clone());
    }
    let later = |(of, option): &(&str, &str)| of == command && rest.iter().any(|word| word == option);
    let (_, option) = OPTIONS_NOT_BUILT_YET.iter().find(|known| later(known))?;
    Some(format!("{command} {option}"))
}

fn parse(words: Vec<String>) -> Result<Command, clap::Error> {
    let matches = command().try_get_matches_from(words)?;
    Ok(Arguments::from_arg_matches(&matches)?.command)
}

fn perform(command: Command) -> Spoken {
    match command {
        Command::Check { files } => return check::check(&files),
        Command::Replay(asked) => return replay::run(&asked),
        Command::Completion { shell } => return completion::script(shell),
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Spoken::not(Exit::Failed, format!("failed: {error}")),
    };
    if let Command::Complete { words } = command {
        let names =
            |kind: &str| runtime.block_on(async { timeout(NAMES_PATIENCE, names(kind)).await.unwrap_or_default() });
        return completion::complete(self::command(), &words, &names);
    }
    let agent = if command.only_reads() { None } else { agent::Agent::start() };
    let spoken = runtime.block_on(ask(command)).unwrap_or_else(Spoken::from);
    drop(agent);
    spoken
}

/// For a completion, where nothing is a better answer than a late one.
async fn names(kind: &str) -> Vec<String> {
    if !matches!(kind, "group" | "node") {
        return vec![];
    }
    let asked = async {
        let connection = zbus::Connection::system().await.ok()?;
        let status = ManagerProxy::new(&connection).await.ok()?.status().await.ok()?;
        serde_json::from_str::<Status>(&status).ok()
    };
    match (kind, asked.await) {
        ("group", Some(status)) => status.groups.into_iter().map(|group| group.name).collect(),
        ("node", Some(status)) => status.nodes.into_iter().map(|node| node.name).collect(),
        _ => vec![],
    }
}

async fn ask(command: Command) -> Result<Spoken, CallError> {
    let connection = crate::dbus::client::connect().await?;
    let manager = ManagerProxy::new(&connection).await?;
    let text = match command {
        Command::Status { json } => {
            let status = manager.status().await?;
            return show_status(&status, json);
        }
        Command::Why { group } => manager.why(&group).await?,
        Command::Move { group, node } => manager.move_group(&group, &node).await?,
        Command::Stop { group } => manager.stop(&group).await?,
        Command::Start { group } => manager.start(&group).await?,
        Command::Clear { group } => manager.clear(&group).await?,
        Command::Standby { groups, stay } => manager.standby(&groups, stay).await?,
        Command::Takeover { groups } => manager.takeover(&groups).await?,
        Command::Online => manager.online().await?,
        Command::Maintenance { word } => manager.set_maintenance(word == "on").await?,
        Command::Reload => manager.reload().await?,
        Command::Record { what } => manager.record(what.text()).await?,
        Command::Monitor { json } => return monitor::monitor(&connection, json).await,
        // Answered without a daemon, before.
        Command::Check { .. } | Command::Replay(_) | Command::Completion { .. } | Command::Complete { .. } => {
            return Ok(Spoken::done(""));
        }
    };
    Ok(Spoken::done(text))
}

fn show_status(json: &str, as_json: bool) -> Result<Spoken, CallError> {
    let status: Status = serde_json::from_str(json).map_err(|error| {
        let remedy = "hafailoverctl and the running hafailoverd are of different versions: restart hafailover";
        CallError::Failed(format!("the daemon's status cannot be read ({error}); {remedy}"))
    })?;
    let out = if as_json { json.to_owned() } else { status::table(&status) };
    let exit = if status.attention.is_empty() { Exit::Done } else { Exit::Failed };
    Ok(Spoken { out, err: String::new(), exit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Spoken {
        run(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn commands_of_a_later_version_are_refused_not_unknown() {
        for word in NOT_BUILT_YET {
            let spoken = words(&format!("hafailoverctl {word} all"));
            assert_eq!(spoken.exit, Exit::Refused, "{word}");
            assert!(spoken.err.contains("not built yet in this version"), "{}", spoken.err);
        }
    }

    #[test]
    fn options_of_a_later_version_are_refused_not_unknown() {
        for (line, option) in [
            ("hafailoverctl start web --local --force", "`start --local`"),
            ("hafailoverctl start --force web", "`start --force`"),
        ] {
            let spoken = words(line);
            assert_eq!(spoken.exit, Exit::Refused, "{line}");
            assert!(spoken.err.contains(option) && spoken.err.contains("not built yet"), "{}", spoken.err);
        }
        assert_eq!(words("hafailoverctl start web --locally").exit, Exit::Usage);
        assert_eq!(words("hafailoverctl stop web --force").exit, Exit::Usage, "no other command has it");
    }

    #[test]
    fn wrong_usage_is_told_from_a_refusal() {
        assert_eq!(words("hafailoverctl").exit, Exit::Usage);
        assert_eq!(words("hafailoverctl move web").exit, Exit::Usage);
        assert_eq!(words("hafailoverctl standby mine").exit, Exit::Usage);
        assert_eq!(words("hafailoverctl maintenance").exit, Exit::Usage);
        let unknown = words("hafailoverctl stauts");
        assert_eq!(unknown.exit, Exit::Usage);
        assert!(unknown.err.contains("status"), "{}", unknown.err);
    }

    #[test]
    fn help_is_an_answer() {
        let help = words("hafailoverctl --help");
        assert_eq!(help.exit, Exit::Done);
        assert!(help.out.contains("Hand a group over to a node"), "{}", help.out);
    }

    #[test]
    fn something_that_needs_attention_is_in_the_exit_code_also_of_json() {
        let mut status = status::tests::status();
        let text = serde_json::to_string(&status).unwrap();
        let shown = show_status(&text, true).unwrap();
        assert_eq!((shown.exit, shown.out), (Exit::Failed, text));
        status.attention.clear();
        assert_eq!(show_status(&serde_json::to_string(&status).unwrap(), false).unwrap().exit, Exit::Done);
        assert!(matches!(show_status("{}", false), Err(CallError::Failed(_))));
    }

    #[test]
    fn errors_become_the_exit_codes_of_the_manual() {
        assert_eq!(Spoken::from(CallError::Refused("x".into())).exit as u8, 3);
        assert_eq!(Spoken::from(CallError::Failed("x".into())).exit as u8, 1);
        assert_eq!(Spoken::from(CallError::NoDaemon("x".into())).exit as u8, 4);
    }
}
