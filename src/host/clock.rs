//! The host's time, boot id and randomness. It must not know what they are used for: the heart is given
//! its time from outside.

use crate::cluster::{BootId, Time};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use std::{fs, io};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC it runs on while the host sleeps, so that a sleep is seen as a gap.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    Time((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}

/// The first eight bytes of the kernel's boot id. Reads a file: for the start of the daemon only.
pub fn boot_id() -> io::Result<BootId> {
    parse_boot_id(&fs::read_to_string(BOOT_ID)?).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID} does not hold a UUID: is /proc mounted?"))
    })
}

/// Random bits from the kernel. May wait for the entropy pool in early boot: for the start of the daemon only.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if filled != bytes.len() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "getrandom returned fewer than 8 bytes"));
    }
    Ok(u64::from_be_bytes(bytes))
}

fn parse_boot_id(text: &str) -> Option<BootId> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    // from_str_radix alone would take a sign.
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(&digits[..16], 16).ok().map(BootId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_boot_id_is_its_first_eight_bytes() {
        let parsed = parse_boot_id("01234567-89ab-cdef-1111-222222222222\n");
        assert_eq!(parsed, Some(BootId(0x0123_4567_89ab_cdef)));
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        for text in
            ["", "01234567-89ab-cdef", "+1234567-89ab-cdef-1111-222222222222", "zz234567-89ab-cdef-1111-222222222222"]
        {
            assert_eq!(parse_boot_id(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_boot_id_of_this_host_stays() {
        assert_eq!(boot_id().expect("readable"), boot_id().expect("readable"));
    }

    #[test]
    fn time_runs() {
        let before = now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(now().since(before) >= Duration::from_millis(2));
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random_u64().expect("kernel"), random_u64().expect("kernel"));
    }
}
