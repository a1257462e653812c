//! The syntax of unit files, read as systemd 252 reads it (`config_parse` in its `src/shared/conf-parser.c`):
//! continuation lines, comments inside them, sections, word lists with quotes, specifiers.
//! It must not know what a section or key means.

use super::problem::{Findings, Position, Problem};
use std::path::{Path, PathBuf};

/// One file as it was read: what could be understood, and what could not.
#[derive(Debug)]
pub(crate) struct UnitFile {
    pub(crate) file: PathBuf,
    /// The names in brackets, in order.
    pub(crate) sections: Vec<(String, Position)>,
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// A value that knows where each of its characters stands, across continuation lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Value {
    chars: Vec<(char, Position)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: Position,
}

impl Value {
    pub(crate) fn text(&self) -> String {
        self.chars.iter().map(|(c, _)| c).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// Where the value begins, if it is not empty.
    pub(crate) fn at(&self) -> Option<Position> {
        self.chars.first().map(|(_, at)| *at)
    }

    /// Splits at white space as systemd does for lists of units: quotes group, backslashes stay.
    /// `Err` is the place of a quote that nothing closes.
    pub(crate) fn words(&self) -> Result<Vec<Word>, Position> {
        let mut words = Vec::new();
        let mut word: Option<Word> = None;
        let mut quote = None;
        for &(c, at) in &self.chars {
            match quote {
                Some((open, _)) if c == open => quote = None,
                None if c == '"' || c == '\'' => {
                    quote = Some((c, at));
                    word.get_or_insert(Word { text: String::new(), at });
                }
                None if is_space(c) => words.extend(word.take()),
                _ => word.get_or_insert(Word { text: String::new(), at }).text.push(c),
            }
        }
        if let Some((_, at)) = quote {
            return Err(at);
        }
        words.extend(word);
        Ok(words)
    }

    /// Splits at white space and quotes alike: never fails, for those who must make do with a broken file.
    pub(crate) fn rough_words(&self) -> Vec<String> {
        let text = self.text();
        let words = text.split(|c| is_space(c) || c == '"' || c == '\'');
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

/// systemd's own `WHITESPACE`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

type Chars = Vec<(char, Position)>;

/// Reads what can be read; whatever cannot is among the problems. Bytes that are not UTF-8 are one of them.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> UnitFile {
    let mut reading = Reading { findings: Findings::new(file), sections: Vec::new(), assignments: Vec::new() };
    let mut continued: Option<Chars> = None;
    for (index, line) in physical_lines(bytes).into_iter().enumerate() {
        let line = decode(index + 1, line, &mut reading.findings);
        if line.iter().find(|(c, _)| !is_space(*c)).is_some_and(|(c, _)| matches!(c, '#' | ';')) {
            continue;
        }
        let mut logical = continued.take().unwrap_or_default();
        logical.extend(line);
        // An odd number of backslashes at the end: the last one is no character but a promise of more.
        if logical.iter().rev().take_while(|(c, _)| *c == '\\').count() % 2 == 1 {
            logical.last_mut().expect("it holds a backslash").0 = ' ';
            continued = Some(logical);
        } else {
            reading.line(&logical);
        }
    }
    if let Some(logical) = continued {
        reading.line(&logical);
    }
    let Reading { findings, sections, assignments } = reading;
    UnitFile { file: file.to_owned(), sections, assignments, problems: findings.problems }
}

struct Reading<'a> {
    findings: Findings<'a>,
    sections: Vec<(String, Position)>,
    assignments: Vec<Assignment>,
}

impl Reading<'_> {
    fn line(&mut self, logical: &[(char, Position)]) {
        let line = trim(logical);
        let Some(&(first, at)) = line.first() else { return };
        if first == '[' {
            let name = match line[1..].split_last() {
                Some(((']', _), inner)) => text_of(inner),
                _ => {
                    self.findings.problem(at, "a section begins but has no closing bracket", "end the line with ]");
                    // What follows is meant for that section: judging it elsewhere would only invent mistakes.
                    text_of(trim(line[1..].split(|(c, _)| *c == ']').next().unwrap_or_default()))
                }
            };
            self.sections.push((name, at));
            return;
        }
        let Some(equals) = line.iter().position(|(c, _)| *c == '=') else {
            self.findings.problem(at, "a line without =", "write KEY=VALUE, or # in front of a comment");
            return;
        };
        let key = text_of(trim(&line[..equals]));
        if key.is_empty() {
            self.findings.problem(at, "no key in front of =", "write KEY=VALUE");
            return;
        }
        let value = Value { chars: trim(&line[equals + 1..]).to_vec() };
        let section = self.sections.last().map(|(name, _)| name.clone()).unwrap_or_default();
        if self.sections.is_empty() {
            let remedy = format!("write a section such as [{}] above it", super::section::SECTION);
            self.findings.problem(at, format!("{key}= stands in no section, and systemd ignores it"), remedy);
        }
        self.assignments.push(Assignment { section, key, at, value });
    }
}

fn trim(chars: &[(char, Position)]) -> &[(char, Position)] {
    let Some(start) = chars.iter().position(|(c, _)| !is_space(*c)) else { return &[] };
    let end = chars.iter().rposition(|(c, _)| !is_space(*c)).expect("one was found from the other side");
    &chars[start..=end]
}

fn text_of(chars: &[(char, Position)]) -> String {
    chars.iter().map(|(c, _)| c).collect()
}

/// Lines end as in systemd's `read_line`: with LF, CR or NUL, and a run of different ones counts once.
fn physical_lines(bytes: &[u8]) -> Vec<&[u8]> {
    const ENDS: [u8; 3] = [b'\n', b'\r', 0];
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut lines = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| ENDS.contains(b)).unwrap_or(rest.len());
        lines.push(&rest[..end]);
        let mut next = end;
        while next < rest.len() && ENDS.contains(&rest[next]) && !rest[end..next].contains(&rest[next]) {
            next += 1;
        }
        rest = &rest[next..];
    }
    lines
}

/// Characters with their places. What is not UTF-8 is reported once per line and replaced.
fn decode(number: usize, line: &[u8], findings: &mut Findings<'_>) -> Chars {
    let text = String::from_utf8_lossy(line);
    let chars: Chars =
        text.chars().enumerate().map(|(index, c)| (c, Position { line: number, column: index + 1 })).collect();
    if let Err(error) = std::str::from_utf8(line) {
        let column = text.char_indices().take_while(|(byte, _)| *byte < error.valid_up_to()).count() + 1;
        let at = Position { line: number, column };
        findings.problem(at, "the line is not UTF-8 text", "save the file as UTF-8");
    }
    chars
}

/// What the specifiers of one unit stand for.
#[derive(Clone, Debug)]
pub(crate) struct Specifiers<'a> {
    /// `PREFIX@INSTANCE.TYPE`
    pub(crate) unit: &'a str,
    pub(crate) hostname: &'a str,
}

impl Specifiers<'_> {
    /// Expands `%i`, `%H` and the like; `Err` is what stands behind a percent sign and is not known here.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        let (name, _) = self.unit.rsplit_once('.').unwrap_or((self.unit, ""));
        let (prefix, instance) = name.split_once('@').unwrap_or((name, ""));
        let last_part = prefix.rsplit('-').next().unwrap_or(prefix);
        let mut expanded = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                expanded.push(c);
                continue;
            }
            match chars.next() {
                Some('%') => expanded.push('%'),
                Some('i') => expanded.push_str(instance),
                Some('I') => expanded.push_str(&unescape(instance)),
                Some('n') => expanded.push_str(self.unit),
                Some('N') => expanded.push_str(name),
                Some('p') => expanded.push_str(prefix),
                Some('P') => expanded.push_str(&unescape(prefix)),
                Some('j') => expanded.push_str(last_part),
                Some('J') => expanded.push_str(&unescape(last_part)),
                Some('H') => expanded.push_str(self.hostname),
                Some('l') => expanded.push_str(self.hostname.split('.').next().unwrap_or_default()),
                Some(other) => return Err(format!("%{other}")),
                None => return Err("%".to_owned()),
            }
        }
        Ok(expanded)
    }
}

/// systemd's escaping of paths in unit names, undone: `-` is a slash, `\xHH` a byte.
fn unescape(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = after.strip_prefix(b"x").and_then(|hex| hex.get(..2)).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, coded.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
                continue;
            }
            (b'-', _) => bytes.push(b'/'),
            _ => bytes.push(first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, String)> {
        let unit = parse(Path::new("x.conf"), text.as_bytes());
        assert_eq!(unit.problems, [], "{text}");
        unit.assignments.iter().map(|a| (a.section.clone(), a.key.clone(), a.value.text())).collect()
    }

    fn one(text: &str) -> Assignment {
        parse(Path::new("x.conf"), text.as_bytes()).assignments.remove(0)
    }

    #[test]
    fn sections_keys_and_white_space() {
        let read = read("\u{feff}; c\n# c\n[Unit]\n Description = a = b \r\n\n[X-HAFailover]\nStart=\n[Unit]\nA=1");
        let as_text: Vec<String> = read.iter().map(|(s, k, v)| format!("{s}/{k}/{v}")).collect();
        assert_eq!(as_text, ["Unit/Description/a = b", "X-HAFailover/Start/", "Unit/A/1"]);
    }

    #[test]
    fn a_continued_line_skips_comments_and_ends_at_an_empty_line() {
        let assignment = one("[X]\nStart=a.service \\\n# not this\n  ; nor this\n  b.service \\\n\nStart=c.service\n");
        let words = assignment.value.words().expect("no quotes");
        assert_eq!(words[0], Word { text: "a.service".to_owned(), at: Position { line: 2, column: 7 } });
        assert_eq!(words[1], Word { text: "b.service".to_owned(), at: Position { line: 5, column: 3 } });
        assert_eq!(words.len(), 2);
    }

    #[test]
    fn only_an_odd_number_of_backslashes_continues() {
        let read = read("[X]\nA=one\\\\\nB=two\\\n");
        assert_eq!(read[0].2, "one\\\\");
        assert_eq!(read[1].2, "two");
    }

    #[test]
    fn quotes_group_and_backslashes_stay() {
        let words = |text: &str| one(&format!("[X]\nA={text}")).value.words();
        let texts = |text: &str| words(text).expect("closed").into_iter().map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(texts(r#""a b" c'd 'e dev-disk\x2d1.swap"#), ["a b", "cd e", r"dev-disk\x2d1.swap"]);
        assert_eq!(texts("''"), [""]);
        assert_eq!(words("ab 'c"), Err(Position { line: 2, column: 6 }));
        assert_eq!(one("[X]\nA=ab 'c d").value.rough_words(), ["ab", "c", "d"]);
    }

    #[test]
    fn what_systemd_would_ignore_is_a_problem_with_its_place() {
        let unit = parse(Path::new("x.conf"), b"A=1\n[X\n[X]\nnonsense\n=2\nB=\xff3\nC=4\n");
        let at: Vec<(usize, usize)> = unit.problems.iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(at, [(1, 1), (2, 1), (4, 1), (5, 1), (6, 3)]);
        assert_eq!(unit.assignments.len(), 3, "the rest is read all the same");
    }

    #[test]
    fn specifiers_are_systemds() {
        let specifiers = Specifiers { unit: r"hafailover-group@a-b\x2dc.target", hostname: "alpha.example" };
        let expand = |text| specifiers.expand(text);
        assert_eq!(expand("%i %I"), Ok(r"a-b\x2dc a/b-c".to_owned()));
        assert_eq!(expand("%p|%P|%j|%J"), Ok("hafailover-group|hafailover/group|group|group".to_owned()));
        assert_eq!(expand("%H %l 100%%"), Ok("alpha.example alpha 100%".to_owned()));
        assert_eq!(expand("%N.x %n"), Ok(r"hafailover-group@a-b\x2dc.x hafailover-group@a-b\x2dc.target".to_owned()));
        assert_eq!(expand("%q"), Err("%q".to_owned()));
        assert_eq!(expand("50%"), Err("%".to_owned()));
    }
}
