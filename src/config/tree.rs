//! A TOML file as a tree that knows where everything stands, and questions to it that report instead of fail:
//! so that one reading finds every mistake. It must not know what the keys mean.

use super::duration;
use super::problem::{Findings, Position, did_you_mean, position_of};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One table: `[timing]`, one `[[link]]`, or the file's top.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'t> {
    /// As a person would say it: `[timing]`.
    pub(super) name: &'t str,
    pub(super) at: Position,
    table: &'t DeTable<'t>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) at: Position,
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    pub(super) findings: Findings<'a>,
}

impl<'a> Reader<'a> {
    /// `None` if the text is no TOML: what it means cannot be judged then, and only syntax is reported.
    pub(super) fn parse(file: &'a Path, text: &'a str) -> (Reader<'a>, Option<Spanned<DeTable<'a>>>) {
        let mut reader = Reader { text, findings: Findings::new(file) };
        let (tree, errors) = DeTable::parse_recoverable(text);
        for (index, error) in errors.iter().enumerate() {
            // Behind a broken header the parser puts keys into the wrong table: what clashes there is no second mistake.
            if index > 0 && error.message() == "duplicate key" {
                continue;
            }
            let at = position_of(text, error.span().map_or(0, |span| span.start));
            let remedy = "correct the TOML syntax here (https://toml.io); nothing else in this file was judged";
            reader.findings.problem(at, error.message().replace('\n', " "), remedy);
        }
        (reader, errors.is_empty().then_some(tree))
    }

    pub(super) fn top<'t>(&self, tree: &'t Spanned<DeTable<'t>>) -> Section<'t> {
        Section { name: "this file", at: Position::START, table: tree.get_ref() }
    }

    /// Reports every key that is not among `known`.
    pub(super) fn known_keys(&mut self, section: Section<'_>, known: &[&str]) {
        for key in section.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let remedy = did_you_mean(name, known);
            self.problem_at(key, format!("unknown key \"{name}\" in {}", section.name), remedy);
        }
    }

    /// Where a key stands, if it is there.
    pub(super) fn key_at(&self, section: Section<'_>, key: &str) -> Option<Position> {
        section.table.get_key_value(key).map(|(key, _)| self.position(key))
    }

    /// The keys of a table that the user names freely, with their places.
    pub(super) fn keys(&self, section: Section<'_>) -> Vec<Found<String>> {
        section.table.keys().map(|key| Found { value: key.get_ref().to_string(), at: self.position(key) }).collect()
    }

    pub(super) fn string(&mut self, section: Section<'_>, key: &str) -> Option<Found<String>> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Found { value: text.to_string(), at: self.position(value) }),
            other => self.wrong_type(value, key, other, "a string in quotes"),
        }
    }

    pub(super) fn integer(&mut self, section: Section<'_>, key: &str) -> Option<Found<i64>> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::Integer(integer) => {
                let parsed = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
                // Beyond 64 bits is beyond every range that a caller checks.
                Some(Found { value: parsed.unwrap_or(i64::MAX), at: self.position(value) })
            }
            other => self.wrong_type(value, key, other, "a whole number"),
        }
    }

    pub(super) fn boolean(&mut self, section: Section<'_>, key: &str) -> Option<Found<bool>> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(Found { value: *boolean, at: self.position(value) }),
            other => self.wrong_type(value, key, other, "true or false, without quotes"),
        }
    }

    pub(super) fn duration(&mut self, section: Section<'_>, key: &str) -> Option<Found<Duration>> {
        let value = section.table.get(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(float) => float.as_str().to_owned(),
            other => return self.wrong_type(value, key, other, "a duration such as \"200ms\""),
        };
        match duration::parse(&text) {
            Ok(duration) => Some(Found { value: duration, at: self.position(value) }),
            Err(what) => {
                let remedy = "write a number with a unit, such as \"200ms\" or \"1s\", or a bare number of seconds";
                self.problem_at(value, format!("{key}: {what}"), remedy);
                None
            }
        }
    }

    /// `None` if the key is missing or no list; what is no string in the list is reported and left out.
    pub(super) fn strings(&mut self, section: Section<'_>, key: &str) -> Option<Vec<Found<String>>> {
        let value = section.table.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            return self.wrong_type(value, key, value.get_ref(), "a list of strings, such as [\"alpha\", \"beta\"]");
        };
        let mut strings = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) => strings.push(Found { value: text.to_string(), at: self.position(item) }),
                other => {
                    let _: Option<()> = self.wrong_type(item, key, other, "a string in quotes");
                }
            }
        }
        Some(strings)
    }

    pub(super) fn table<'t>(&mut self, section: Section<'t>, key: &str, name: &'t str) -> Option<Section<'t>> {
        let (key_at, value) = section.table.get_key_value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section { name, at: self.position(key_at), table }),
            other => self.wrong_type(value, key, other, &format!("a table, {name}")),
        }
    }

    /// The tables of `[[key]]`, in order.
    pub(super) fn tables<'t>(&mut self, section: Section<'t>, key: &str, name: &'t str) -> Vec<Section<'t>> {
        let Some(value) = section.table.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            let _: Option<()> =
                self.wrong_type(value, key, value.get_ref(), &format!("a table in double brackets, {name}"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Section { name, at: self.position(item), table }),
                other => {
                    let _: Option<()> = self.wrong_type(item, key, other, &format!("a table, {name}"));
                }
            }
        }
        tables
    }

    /// Reports a key that must be there and is not.
    pub(super) fn missing(&mut self, section: Section<'_>, key: &str, remedy: &str) {
        if section.table.get(key).is_none() {
            self.findings.problem(section.at, format!("{} has no \"{key}\"", section.name), remedy);
        }
    }

    fn wrong_type<T>(&mut self, at: &Spanned<DeValue<'_>>, key: &str, is: &DeValue<'_>, must: &str) -> Option<T> {
        let what = format!("\"{key}\" is {}, not {must}", type_name(is));
        self.problem_at(at, what, format!("write {must}"));
        None
    }

    fn problem_at<T>(&mut self, at: &Spanned<T>, what: String, remedy: impl Into<String>) {
        let at = self.position(at);
        self.findings.problem(at, what, remedy);
    }

    fn position<T>(&self, spanned: &Spanned<T>) -> Position {
        position_of(self.text, spanned.span().start)
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
