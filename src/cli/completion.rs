//! `hafailoverctl completion SHELL`: a script for the shell, which asks this program what may come next. That is read off
//! the program's own commands; the names of groups and nodes come from whoever knows them. It must not know who does.

use super::Spoken;
use clap::{Arg, Command, ValueEnum};

/// Shells that completions are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn script(shell: Shell) -> Spoken {
    let text = match shell {
        Shell::Bash => include_str!("../../packaging/completions/hafailoverctl.bash"),
        Shell::Zsh => include_str!("../../packaging/completions/hafailoverctl.zsh"),
        Shell::Fish => include_str!("../../packaging/completions/hafailoverctl.fish"),
    };
    Spoken::done(text.trim_end())
}

/// The names that exist of a kind of argument: `group` or `node`. Asked only where one may come next.
pub(super) type Names<'a> = &'a dyn Fn(&str) -> Vec<String>;

/// What may stand in the place of the last of these words: each with its meaning behind a tab.
pub(super) fn complete(mut program: Command, words: &[String], names: Names<'_>) -> Spoken {
    program.build();
    let (begun, before) = words.split_last().map_or(("", &words[..0]), |(last, before)| (last.as_str(), before));
    let (mut command, mut position) = (&program, 0);
    for word in before {
        match command.find_subcommand(word) {
            Some(found) => (command, position) = (found, 0),
            None => position += usize::from(!word.starts_with('-')),
        }
    }
    let all = match begun.starts_with('-') {
        true => options(command),
        // The daemon refuses any other word than all, and that needs none.
        false if command.get_name() == "standby" && before.iter().any(|word| word == "--stay") => vec![],
        false => places(command, position, names),
    };
    let fitting = all.into_iter().filter(|(word, _)| word.starts_with(begun));
    let lines: Vec<String> = fitting.map(|(word, about)| format!("{word}\t{about}")).collect();
    Spoken::done(lines.join("\n"))
}

fn options(command: &Command) -> Vec<(String, String)> {
    let options = command.get_arguments().filter(|arg| !arg.is_hide_set());
    options.filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help())))).collect()
}

/// A command, or the value of an argument that has no name.
fn places(command: &Command, position: usize, names: Names<'_>) -> Vec<(String, String)> {
    if command.has_subcommands() && position > 0 {
        return vec![];
    }
    if command.has_subcommands() {
        let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
        return commands.map(|command| (command.get_name().to_owned(), about(command.get_about()))).collect();
    }
    let Some(arg) = command.get_positionals().nth(position) else { return vec![] };
    let known = arg.get_possible_values();
    if known.is_empty() {
        return names(arg.get_id().as_str()).into_iter().map(|name| (name, meaning(arg))).collect();
    }
    known.iter().map(|value| (value.get_name().to_owned(), about(value.get_help()))).collect()
}

fn meaning(arg: &Arg) -> String {
    arg.get_id().as_str().to_owned()
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| text.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let names = |kind: &str| match kind {
            "group" => vec!["web".to_owned(), "db".to_owned()],
            "node" => vec!["alpha".to_owned(), "beta".to_owned()],
            _ => vec![],
        };
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let spoken = complete(super::super::command(), &words, &names);
        spoken.out.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn commands_options_and_names_come_where_they_belong() {
        assert!(completed("").contains(&"status".to_owned()), "{:?}", completed(""));
        assert!(!completed("").contains(&"complete".to_owned()), "only scripts say that");
        assert_eq!(completed("mov"), ["move"]);
        assert_eq!(completed("move "), ["web", "db"]);
        assert_eq!(completed("move w"), ["web"]);
        assert_eq!(completed("move web "), ["alpha", "beta"]);
        assert_eq!(completed("move web alpha "), [""; 0]);
        assert_eq!(completed("stop d"), ["db"]);
        assert_eq!(completed("status --j"), ["--json"]);
        assert_eq!(completed("standby "), ["all", "local", "foreign", "failback"]);
        assert_eq!(completed("standby --stay "), [""; 0]);
        assert_eq!(completed("completion "), ["bash", "zsh", "fish"]);
        assert_eq!(completed("check "), [""; 0], "files are the shell's");
        assert_eq!(completed("nonsense "), [""; 0]);
    }
}
