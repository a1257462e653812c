//! `authkeys` in Heartbeat's own format: `auth N`, and lines `N method [secret]`.
//! It must not know packets. No message may hold a secret.

use super::problem::{Findings, Position, Problem, did_you_mean};
use crate::wire::seal::{Key, KeySet, Method};
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Heartbeat's own range for the number of a key.
const HIGHEST_INDEX: u8 = 15;
const SHORT_SECRET: usize = 16;
const LARGEST_FILE: u64 = 64 * 1024;

/// Reads the file and refuses it unless root owns it and nobody else can read it.
/// On success: the keys and the warnings.
pub(crate) fn load(file: &Path) -> Result<(KeySet, Vec<Problem>), Vec<Problem>> {
    let text = read_private(file).map_err(|problem| vec![problem])?;
    parse(file, &text)
}

/// The file that says these keys, as far as they came out of one.
pub(crate) fn text_of(keys: &KeySet) -> Vec<u8> {
    let mut text = format!("auth {}\n", keys.signing()).into_bytes();
    for (index, key) in keys.iter() {
        let method = match key.method {
            Method::Md5 => "md5",
            Method::Sha1 => "sha1",
            Method::Sha256 => "sha256",
        };
        text.extend_from_slice(format!("{index} {method} ").as_bytes());
        text.extend_from_slice(&key.secret);
        text.push(b'\n');
    }
    text
}

/// The owner and mode are those of the descriptor that is read: nobody can swap the file in between.
fn read_private(file: &Path) -> Result<String, Problem> {
    let problem = |what: String, remedy: String| Problem::new(file, Position::START, what, remedy);
    let chmod = format!("chown root:root {0} && chmod 600 {0}", file.display());
    // NONBLOCK: a FIFO of this name must not hang us.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(file);
    let handle = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => problem(
            "is a symbolic link, and the keys must be a regular file".to_owned(),
            "put the file itself in this place".to_owned(),
        ),
        _ => problem(
            format!("cannot read the keys: {error}"),
            format!("write \"auth 1\" and \"1 sha256 SECRET\" into it, then {chmod}"),
        ),
    })?;
    let metadata =
        handle.metadata().map_err(|error| problem(format!("cannot examine the keys: {error}"), chmod.clone()))?;
    if !metadata.is_file() {
        return Err(problem("is not a regular file".to_owned(), "put a regular file in this place".to_owned()));
    }
    if metadata.uid() != 0 {
        return Err(problem(format!("is owned by user {}, not by root", metadata.uid()), chmod));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(problem(format!("others than root can use it (mode {mode:04o})"), chmod));
    }
    let mut bytes = Vec::new();
    handle
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| problem(format!("cannot read the keys: {error}"), chmod.clone()))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(problem("is larger than 64 KiB".to_owned(), "remove what are not keys".to_owned()));
    }
    String::from_utf8(bytes)
        .map_err(|_| problem("is not UTF-8 text".to_owned(), "write secrets as plain text, without spaces".to_owned()))
}

/// What one file says, while it is read.
struct Reading<'a> {
    findings: Findings<'a>,
    /// The index named by `auth`, and where.
    auth: Option<(u8, Position)>,
    keys: BTreeMap<u8, Key>,
    /// Every index that a line began with, so that one mistake is not reported twice.
    named: Vec<u8>,
}

pub(super) fn parse(file: &Path, text: &str) -> Result<(KeySet, Vec<Problem>), Vec<Problem>> {
    let mut reading = Reading { findings: Findings::new(file), auth: None, keys: BTreeMap::new(), named: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        reading.line(index + 1, line);
    }
    reading.finish()
}

impl Reading<'_> {
    fn line(&mut self, number: usize, line: &str) {
        let words = words(number, line);
        let Some((first, at)) = words.first() else { return };
        if first.starts_with('#') {
            return;
        }
        if first.eq_ignore_ascii_case("auth") {
            self.auth_line(&words);
        } else if first.chars().all(|c| c.is_ascii_digit()) {
            self.key_line(&words);
        } else {
            self.findings.problem(
                *at,
                "the line is neither \"auth N\" nor \"N method secret\"",
                "start it with auth, with the number of a key, or with # for a comment",
            );
        }
    }

    fn auth_line(&mut self, words: &[(&str, Position)]) {
        let (_, at) = words[0];
        let Some((word, index_at)) = words.get(1) else {
            self.findings.problem(at, "auth names no key", "write \"auth 1\", with the number of the key that signs");
            return;
        };
        if let Some((first, _)) = self.auth {
            self.findings.problem(at, format!("a second auth line; the first names key {first}"), "keep one of them");
            return;
        }
        if let Some((_, surplus)) = words.get(2) {
            self.findings.problem(*surplus, "auth names more than one key", "one key signs; all of them are accepted");
        }
        if let Some(index) = self.index(word, *index_at) {
            self.auth = Some((index, *index_at));
        }
    }

    fn key_line(&mut self, words: &[(&str, Position)]) {
        let (number, at) = words[0];
        let Some(index) = self.index(number, at) else { return };
        if self.named.contains(&index) {
            self.findings.problem(at, format!("key {index} is given twice"), "give each key a number of its own");
            return;
        }
        self.named.push(index);
        let Some(method) = self.method(words, at) else { return };
        let Some((secret, secret_at)) = words.get(2) else {
            self.findings.problem(at, format!("key {index} has no secret"), "write it behind the method, as one word");
            return;
        };
        if let Some((_, surplus)) = words.get(3) {
            self.findings.problem(*surplus, "the secret is more than one word", "write it without spaces");
        }
        if secret.len() < SHORT_SECRET {
            self.findings.warning(
                *secret_at,
                format!("the secret of key {index} is shorter than {SHORT_SECRET} characters and can be guessed"),
                "make a longer one, for example with: openssl rand -hex 32",
            );
        }
        self.keys.insert(index, Key { method, secret: secret.as_bytes().to_vec() });
    }

    fn method(&mut self, words: &[(&str, Position)], line_at: Position) -> Option<Method> {
        let Some((word, at)) = words.get(1) else {
            self.findings.problem(line_at, "the key has no method", "write sha256, sha1 or md5 behind its number");
            return None;
        };
        match word.to_ascii_lowercase().as_str() {
            "md5" => Some(Method::Md5),
            "sha1" => Some(Method::Sha1),
            "sha256" => Some(Method::Sha256),
            "crc" => {
                self.findings.problem(
                    *at,
                    "crc proves nothing about the sender: on a network anybody could forge heartbeats",
                    "use sha256 with a secret",
                );
                None
            }
            _ => {
                let remedy = did_you_mean(word, &["sha256", "sha1", "md5"]);
                self.findings.problem(*at, format!("unknown method \"{word}\""), remedy);
                None
            }
        }
    }

    fn index(&mut self, word: &str, at: Position) -> Option<u8> {
        let index = word.parse().ok().filter(|index| *index <= HIGHEST_INDEX);
        if index.is_none() {
            self.findings.problem(
                at,
                format!("\"{word}\" is not the number of a key"),
                format!("use a number from 0 to {HIGHEST_INDEX}"),
            );
        }
        index
    }

    fn finish(mut self) -> Result<(KeySet, Vec<Problem>), Vec<Problem>> {
        let set = match self.auth {
            Some((index, at)) => {
                if !self.named.contains(&index) {
                    let remedy = format!("add the line \"{index} sha256 SECRET\", or name a key that is there");
                    self.findings.problem(at, format!("auth names key {index}, which is not in this file"), remedy);
                }
                KeySet::new(index, self.keys)
            }
            None => {
                if self.findings.problems.is_empty() {
                    let remedy = "add the line \"auth N\", with the number of the key that signs";
                    self.findings.problem(Position::START, "no line says which key signs", remedy);
                }
                None
            }
        };
        match set {
            Some(set) if self.findings.problems.is_empty() => Ok((set, self.findings.warnings)),
            _ => Err(self.findings.problems),
        }
    }
}

/// The words of a line and where each begins.
fn words(number: usize, line: &str) -> Vec<(&str, Position)> {
    let mut words = Vec::new();
    let mut start = None;
    for (index, c) in line.char_indices().chain([(line.len(), ' ')]) {
        if !c.is_whitespace() {
            start.get_or_insert(index);
        } else if let Some(begin) = start.take() {
            let column = line[..begin].chars().count() + 1;
            words.push((&line[begin..index], Position { line: number, column }));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn signing(text: &str) -> (KeySet, usize) {
        let (keys, warnings) = parse(Path::new("authkeys"), text).expect("sound keys");
        (keys, warnings.len())
    }

    fn key(method: Method, secret: &str) -> Key {
        Key { method, secret: secret.as_bytes().to_vec() }
    }

    // The texts are those of real Heartbeat installations.
    #[test]
    fn keys_are_written_as_they_are_read() {
        let text = "# the old ones\nauth 2\n1\tmd5  #a\u{e9}\u{1}\n15 SHA1 b\n2 sha256 0123456789abcdef\n";
        let keys = parse(Path::new("authkeys"), text).unwrap().0;
        let written = String::from_utf8(text_of(&keys)).unwrap();
        assert_eq!(written, "auth 2\n1 md5 #a\u{e9}\u{1}\n2 sha256 0123456789abcdef\n15 sha1 b\n");
        assert_eq!(parse(Path::new("running-authkeys"), &written).unwrap().0, keys);
    }

    #[test]
    fn heartbeats_own_files_are_read() {
        let (keys, warnings) = signing("auth 1\n1 sha1 a8fdc205a9f19cc1c7507a60c4f01b13d11d7fd0\n");
        let expected = key(Method::Sha1, "a8fdc205a9f19cc1c7507a60c4f01b13d11d7fd0");
        assert_eq!(Some(keys), KeySet::new(1, BTreeMap::from([(1, expected)])));
        assert_eq!(warnings, 0);
        let (keys, warnings) = signing("auth 3\n#1 crc\n#2 sha1 HI!\n3 md5 Hello!\n");
        assert_eq!(Some(keys), KeySet::new(3, BTreeMap::from([(3, key(Method::Md5, "Hello!"))])));
        assert_eq!(warnings, 1);
        let (keys, _) = signing("auth 2\n#1 crc\n2 sha1 redhat\n#3 md5 Hello!\n");
        assert_eq!(Some(keys), KeySet::new(2, BTreeMap::from([(2, key(Method::Sha1, "redhat"))])));
        assert_eq!(signing("auth 2\n2 sha1 9fe252b0cf5ba0d3\n").1, 0, "sixteen characters are enough");
    }

    #[test]
    fn auth_may_stand_behind_the_keys_and_all_keys_are_kept() {
        let (keys, _) = signing("1 sha256 aaaaaaaaaaaaaaaa\n 2 SHA1 bbbbbbbbbbbbbbbb\r\n\nauth 2\n");
        let expected =
            BTreeMap::from([(1, key(Method::Sha256, "aaaaaaaaaaaaaaaa")), (2, key(Method::Sha1, "bbbbbbbbbbbbbbbb"))]);
        assert_eq!(Some(keys), KeySet::new(2, expected));
    }

    #[test]
    fn no_message_holds_a_secret() {
        let text =
            "auth 9\n1 sha1 hunter2hunter2 hunter2\n1 sha1 hunter2\n2 sha9 hunter2\n3 crc hunter2\n4 md5 hunter2\n";
        let problems = parse(Path::new("authkeys"), text).expect_err("broken keys");
        assert_eq!(problems.len(), 5);
        assert!(problems.iter().all(|problem| !problem.to_string().contains("hunter2")), "{problems:?}");
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        let folder = std::env::temp_dir().join(format!("hafailover-authkeys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("authkeys");
        std::fs::write(&file, "auth 1\n1 sha256 aaaaaaaaaaaaaaaa\n").expect("a file");
        let chmod = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("chmod");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            chmod(mode);
            let problems = load(&file).expect_err("refused");
            assert!(problems[0].what.contains(&format!("mode {mode:04o}")), "{problems:?}");
            assert!(problems[0].remedy.contains("chmod 600"));
        }
        chmod(0o600);
        if rustix::process::geteuid().is_root() {
            load(&file).expect("root's own file is read");
            std::os::unix::fs::chown(&file, Some(65534), None).expect("chown");
        }
        assert!(load(&file).expect_err("not root's")[0].what.contains("not by root"));
        std::os::unix::fs::symlink(&file, folder.join("link")).expect("a link");
        assert!(load(&folder.join("link")).expect_err("a link")[0].what.contains("symbolic link"));
        assert!(load(&folder).expect_err("a folder")[0].what.contains("not a regular file"));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
