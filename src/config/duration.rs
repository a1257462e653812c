//! Durations as systemd writes them: `1min 30s`, `200ms`, `1.5s`; a bare number counts seconds, as in Heartbeat.
//! It must not know which key a duration belongs to.

use std::time::Duration;

/// Longer than any time a cluster waits for, and far from every overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

const UNITS: [(&str, u64); 30] = [
    ("us", 1),
    ("usec", 1),
    ("µs", 1),
    ("μs", 1),
    ("ms", 1_000),
    ("msec", 1_000),
    ("s", SECOND),
    ("sec", SECOND),
    ("second", SECOND),
    ("seconds", SECOND),
    ("m", 60 * SECOND),
    ("min", 60 * SECOND),
    ("minute", 60 * SECOND),
    ("minutes", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("hr", 3600 * SECOND),
    ("hour", 3600 * SECOND),
    ("hours", 3600 * SECOND),
    ("d", 86_400 * SECOND),
    ("day", 86_400 * SECOND),
    ("days", 86_400 * SECOND),
    ("w", 604_800 * SECOND),
    ("week", 604_800 * SECOND),
    ("weeks", 604_800 * SECOND),
    ("M", 2_629_800 * SECOND),
    ("month", 2_629_800 * SECOND),
    ("months", 2_629_800 * SECOND),
    ("y", 31_557_600 * SECOND),
    ("year", 31_557_600 * SECOND),
    ("years", 31_557_600 * SECOND),
];
const SECOND: u64 = 1_000_000;

/// Why a text is no duration, as a clause for a message.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("the duration is empty".to_owned());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let after = after.trim_start();
        let unit_len = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        total += one_span(text, number, unit)?;
        if total > LONGEST {
            return Err(format!("\"{text}\" is longer than a year"));
        }
        rest = after.trim_start();
    }
    Ok(total)
}

fn one_span(text: &str, number: &str, unit: &str) -> Result<Duration, String> {
    let no_number = || format!("\"{text}\" is not a duration");
    let microseconds = match unit {
        "" => SECOND,
        _ => UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, microseconds)| *microseconds)
            .ok_or_else(|| format!("\"{text}\" has the unknown unit \"{unit}\""))?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(no_number());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| no_number())? };
    let nanoseconds = u128::from(microseconds) * 1000;
    let mut total = u128::from(whole) * nanoseconds;
    let mut digit_worth = nanoseconds;
    for digit in fraction.bytes() {
        digit_worth /= 10;
        total += u128::from(digit - b'0') * digit_worth;
    }
    let total = u64::try_from(total).map_err(|_| format!("\"{text}\" is longer than a year"))?;
    Ok(Duration::from_nanos(total))
}

/// Shortest exact form, for messages.
pub(super) fn show(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    for (unit, size) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
        if nanoseconds.is_multiple_of(size) {
            return format!("{}{unit}", nanoseconds / size);
        }
    }
    format!("{nanoseconds}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_bare_numbers() {
        for (text, milliseconds) in [
            ("200ms", 200),
            ("1", 1000),
            ("0.2", 200),
            ("1.5s", 1500),
            (" 1min 30s ", 90_000),
            ("2min", 120_000),
            ("1min30", 90_000),
            ("1 h", 3_600_000),
            (".5s", 500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_says_so() {
        for text in ["", "s", "1..2", ".", "-1", "1 parsec", "ten", "99999999999999999999", "2years", "infinity", "1e3"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("3 parsec"), Err("\"3 parsec\" has the unknown unit \"parsec\"".to_owned()));
    }

    #[test]
    fn shown_as_a_person_would() {
        assert_eq!(show(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show(Duration::from_secs(90)), "90s");
        assert_eq!(show(Duration::from_nanos(1)), "1ns");
    }
}
