//! PURE. Where an object is found on the bus, by its kind and name.

use super::PATH;
use std::fmt::Write;

/// What has objects of its own below [`PATH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Node,
    Link,
    Group,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Link => "link",
            Kind::Group => "group",
        }
    }
}

pub fn object(kind: Kind, name: &str) -> String {
    format!("{PATH}/{}/{}", kind.word(), escape(name))
}

/// As systemd escapes unit names for the bus: whatever is no letter or digit, and a digit in front, becomes `_` and two
/// hexadecimal digits.
fn escape(name: &str) -> String {
    if name.is_empty() {
        return "_".into();
    }
    let mut escaped = String::new();
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "_{byte:02x}").expect("a string takes everything");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does_it() {
        assert_eq!(object(Kind::Group, "web"), "/org/hafailover1/group/web");
        assert_eq!(object(Kind::Group, "db-2_x"), "/org/hafailover1/group/db_2d2_5fx");
        assert_eq!(object(Kind::Node, "1a"), "/org/hafailover1/node/_31a");
        assert_eq!(object(Kind::Link, "ucast:hb0"), "/org/hafailover1/link/ucast_3ahb0");
        assert_eq!(object(Kind::Link, ""), "/org/hafailover1/link/_");
    }
}
