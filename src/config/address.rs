//! `Address=ADDR/PREFIX dev IFACE [label L] [broadcast B]`.
//! It must not know which group an address is for.

use super::local::Local;
use super::model::VirtualAddress;
use super::name;
use super::problem::did_you_mean;
use super::unitfile::Word;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wrong with one word, and the remedy.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) word: Word,
    pub(super) what: String,
    pub(super) remedy: String,
}

const FORM: &str = "write ADDR/PREFIX dev IFACE, such as 10.0.0.77/24 dev eth0";

/// `words` are those of one value, at least one.
pub(super) fn parse(words: &[Word], local: &Local) -> Result<VirtualAddress, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut wrong = |word: &Word, what: String, remedy: &str| {
        mistakes.push(Mistake { word: word.clone(), what, remedy: remedy.to_owned() });
    };
    let Some((first, options)) = words.split_first() else { return Err(mistakes) };
    let subnet = parse_subnet(&first.text).map_err(|(what, remedy)| wrong(first, what, remedy)).ok();
    let (mut dev, mut label, mut broadcast) = (None, None, None);
    for option in options.chunks(2) {
        let [key, rest @ ..] = option else { continue };
        let Some(value) = rest.first() else {
            wrong(key, format!("nothing stands behind \"{}\"", key.text), FORM);
            continue;
        };
        let seen = match key.text.as_str() {
            "dev" => {
                name::check_interface(&value.text)
                    .unwrap_or_else(|what| wrong(value, what, "write it as `ip link` does"));
                dev.replace(value.text.clone()).is_some()
            }
            "label" => {
                name::check_label(&value.text).unwrap_or_else(|what| wrong(value, what, "choose one such as eth0:web"));
                label.replace(value.text.clone()).is_some()
            }
            "broadcast" => {
                let address = value.text.parse::<Ipv4Addr>();
                if address.is_err() {
                    let what = format!("\"{}\" is not an IPv4 address", value.text);
                    wrong(value, what, "write the network's broadcast address, such as 10.0.0.255");
                }
                broadcast.replace(address.unwrap_or(Ipv4Addr::BROADCAST)).is_some()
            }
            other => {
                wrong(key, format!("unknown word \"{other}\""), &did_you_mean(other, &["dev", "label", "broadcast"]));
                // What follows an unknown word has an unknown meaning.
                return Err(mistakes);
            }
        };
        if seen {
            wrong(
                key,
                format!("a second \"{}\"", key.text),
                "keep one of them; a second address takes a second Address=",
            );
        }
    }
    if dev.is_none() && !options.iter().any(|word| word.text == "dev") {
        let what = "not built yet in this version: finding the interface of an address".to_owned();
        wrong(first, what, "write dev and the interface behind the address");
    }
    match (subnet, dev) {
        (Some((address, prefix)), Some(dev)) if mistakes.is_empty() => {
            Ok(VirtualAddress { address, prefix, interface: local.interface(&dev), label, broadcast })
        }
        _ => Err(mistakes),
    }
}

/// Apart from `parse`: an address whose label is too long on one host alone means the same on all of them.
pub(super) fn check_label(words: &[Word], address: &VirtualAddress) -> Result<(), Mistake> {
    let given = words.get(1..).unwrap_or_default().chunks(2).find(|option| option[0].text == "label");
    let Some([_, word]) = given else { return Ok(()) };
    name::check_full_label(&address.interface, &word.text).map_err(|what| Mistake {
        word: word.clone(),
        what,
        remedy: format!("shorten it; the interface's name on this host, {}, counts", address.interface),
    })
}

fn parse_subnet(text: &str) -> Result<(Ipv4Addr, u8), (String, &'static str)> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    if address.parse::<Ipv6Addr>().is_ok() {
        return Err(("not built yet in this version: IPv6 addresses".to_owned(), "give an IPv4 address"));
    }
    let address: Ipv4Addr = address.parse().map_err(|_| (format!("\"{address}\" is not an IPv4 address"), FORM))?;
    let Some(prefix) = prefix else {
        return Err((format!("{address} has no prefix length"), "write it behind the address, such as 10.0.0.77/24"));
    };
    let bits = prefix.parse::<u8>().ok().filter(|bits| (1..=32).contains(bits) && !prefix.starts_with('+'));
    let Some(bits) = bits else {
        return Err((format!("\"{prefix}\" is not a prefix length"), "choose one from 1 to 32"));
    };
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        return Err((format!("{address} is not an address that a client could reach"), FORM));
    }
    let host_bits = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    let host = u32::from(address) & host_bits;
    if bits < 31 && (host == 0 || host == host_bits) {
        let what = format!("{address} is its network's own or broadcast address");
        return Err((what, "choose the address of one host in it, or correct the prefix length"));
    }
    Ok((address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Position;

    fn read(text: &str) -> Result<VirtualAddress, String> {
        let words: Vec<Word> =
            text.split(' ').map(|word| Word { text: word.to_owned(), at: Position::START }).collect();
        parse(&words, &Local::of_no_host())
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.what).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn all_parts() {
        let read = read("10.0.0.77/24 dev eth0 label eth0:web broadcast 10.0.0.255");
        let expected = VirtualAddress {
            address: Ipv4Addr::new(10, 0, 0, 77),
            prefix: 24,
            interface: "eth0".to_owned(),
            label: Some("eth0:web".to_owned()),
            broadcast: Some(Ipv4Addr::new(10, 0, 0, 255)),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn the_first_and_last_of_a_network_are_no_hosts() {
        for (text, sound) in [
            ("10.0.0.0/24 dev a", false),
            ("10.0.0.255/24 dev a", false),
            ("10.0.0.0/31 dev a", true),
            ("10.0.0.255/32 dev a", true),
            ("10.0.1.0/23 dev a", true),
        ] {
            assert_eq!(read(text).is_ok(), sound, "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn several_mistakes_come_at_once() {
        let mistakes = read("10.0.0.77 dev this-name-is-too-long").expect_err("two mistakes");
        assert!(mistakes.contains("prefix") && mistakes.contains("longer"), "{mistakes}");
    }
}
