//! `Address=ADDR/PREFIX [dev IFACE] [label L] [broadcast B]`.
//! It must not know which group an address is for.

use super::local::Local;
use super::model::VirtualAddress;
use super::name;
use super::problem::did_you_mean;
use super::unitfile::Word;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with one word, and the remedy.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) word: Word,
    pub(super) what: String,
    pub(super) remedy: String,
}

const FORM: &str = "write ADDR/PREFIX and, if wanted, dev IFACE, such as 10.0.0.77/24 dev eth0";

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
    if let Some((IpAddr::V6(address), _)) = subnet {
        let ipv4_only = |option: &&[Word]| matches!(option[0].text.as_str(), "label" | "broadcast");
        for option in options.chunks(2).filter(ipv4_only) {
            let what = format!("an IPv6 address has no {}", option[0].text);
            wrong(&option[0], what, "remove it; only IPv4 addresses have one");
        }
        if address.is_unicast_link_local() && dev.is_none() {
            let what = format!("{address} is link-local: every interface has that network");
            wrong(first, what, "write dev and the interface behind it");
        }
    }
    match subnet {
        Some((address, prefix)) if mistakes.is_empty() => {
            let interface = dev.map(|dev| local.interface(&dev));
            Ok(VirtualAddress { address, prefix, interface, label, broadcast })
        }
        _ => Err(mistakes),
    }
}

/// Apart from `parse`: an address whose label is too long on one host alone means the same on all of them.
pub(super) fn check_label(words: &[Word], address: &VirtualAddress) -> Result<(), Mistake> {
    let given = words.get(1..).unwrap_or_default().chunks(2).find(|option| option[0].text == "label");
    let Some([_, word]) = given else { return Ok(()) };
    // Without `dev`, the interface is known when it is found.
    let Some(interface) = &address.interface else { return Ok(()) };
    name::check_full_label(interface, &word.text).map_err(|what| Mistake {
        word: word.clone(),
        what,
        remedy: format!("shorten it; the interface's name on this host, {interface}, counts"),
    })
}

fn parse_subnet(text: &str) -> Result<(IpAddr, u8), (String, &'static str)> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    if address.contains('%') {
        return Err((format!("\"{address}\" names an interface behind %"), "write dev and the interface instead"));
    }
    let address: IpAddr = address.parse().map_err(|_| (format!("\"{address}\" is not an IP address"), FORM))?;
    let (longest, example, range) = match address {
        IpAddr::V4(_) => (32, "write it behind the address, such as 10.0.0.77/24", "choose one from 1 to 32"),
        IpAddr::V6(_) => (128, "write it behind the address, such as 2001:db8::77/64", "choose one from 1 to 128"),
    };
    let Some(prefix) = prefix else { return Err((format!("{address} has no prefix length"), example)) };
    let bits = prefix.parse::<u8>().ok().filter(|bits| (1..=longest).contains(bits) && !prefix.starts_with('+'));
    let Some(bits) = bits else {
        return Err((format!("\"{prefix}\" is not a prefix length"), range));
    };
    match address {
        IpAddr::V4(address) => check_ipv4(address, bits)?,
        IpAddr::V6(address) => check_ipv6(address, bits)?,
    }
    Ok((address, bits))
}

fn check_ipv4(address: Ipv4Addr, bits: u8) -> Result<(), (String, &'static str)> {
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        return Err((format!("{address} is not an address that a client could reach"), FORM));
    }
    let host_bits = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    let host = u32::from(address) & host_bits;
    if bits < 31 && (host == 0 || host == host_bits) {
        let what = format!("{address} is its network's own or broadcast address");
        return Err((what, "choose the address of one host in it, or correct the prefix length"));
    }
    Ok(())
}

fn check_ipv6(address: Ipv6Addr, bits: u8) -> Result<(), (String, &'static str)> {
    if let Some(ipv4) = address.to_ipv4_mapped() {
        return Err((format!("{address} is IPv4 in the clothes of IPv6: {ipv4}"), "write the IPv4 address itself"));
    }
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        let form = "write the address of one host, such as 2001:db8::77/64 dev eth0";
        return Err((format!("{address} is not an address that a client could reach"), form));
    }
    let host_bits = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    if bits < 127 && u128::from(address) & host_bits == 0 {
        let what = format!("{address} is the address of any router of its network");
        return Err((what, "choose the address of one host in it, or correct the prefix length"));
    }
    Ok(())
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
            address: [10, 0, 0, 77].into(),
            prefix: 24,
            interface: Some("eth0".to_owned()),
            label: Some("eth0:web".to_owned()),
            broadcast: Some(Ipv4Addr::new(10, 0, 0, 255)),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn ipv6_in_its_canonical_form() {
        let address = read("2001:DB8:0:0::77/64 dev eth0").expect("sound");
        assert_eq!((address.address.to_string().as_str(), address.prefix, address.dev()), ("2001:db8::77", 64, "eth0"));
        assert!(read("fe80::77/64 dev eth0").is_ok() && read("2001:db8::77/128").is_ok());
        for (text, told) in [
            ("fe80::77/64", "link-local"),
            ("fe80::77%eth0/64", "behind %"),
            ("ff02::77/64 dev eth0", "reach"),
            ("::1/128 dev eth0", "reach"),
            ("::/64 dev eth0", "reach"),
            ("::ffff:10.0.0.77/120 dev eth0", "10.0.0.77"),
            ("2001:db8::/64 dev eth0", "any router"),
            ("2001:db8::77/129 dev eth0", "prefix length"),
            ("2001:db8::77 dev eth0", "prefix length"),
            ("2001:db8::77/64 dev eth0 label web", "no label"),
            ("2001:db8::77/64 dev eth0 broadcast 10.0.0.255", "no broadcast"),
        ] {
            let mistakes = read(text).expect_err(text);
            assert!(mistakes.contains(told), "{text}: {mistakes}");
        }
    }

    #[test]
    fn without_dev_the_interface_is_found_later() {
        assert_eq!(
            read("10.0.0.77/24 label web").map(|read| (read.interface, read.label)),
            Ok((None, Some("web".into())))
        );
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
