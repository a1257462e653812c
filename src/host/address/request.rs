//! What is asked of the kernel about a virtual address, and how a refusal is told to people.
//! It must not know sockets or the table.

use super::message::{Batch, NewAddress};
use crate::config::model::VirtualAddress;
use crate::config::name::full_label;
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use thiserror::Error;

/// IFNAMSIZ without the terminator.
const LABEL: usize = 15;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("interface {interface} does not exist: cannot add {address}")]
    NoInterface { interface: String, address: IpAddr },
    #[error("no interface was found for {address}: give this host an address of its own in that network, or write dev")]
    NoPlace { address: IpAddr },
    #[error(
        "{address}/{prefix} is already on {interface}, not added by hafailover: remove it there, or from the group"
    )]
    AlreadyThere { address: IpAddr, prefix: u8, interface: String },
    #[error("label {label} of {address} is longer than the 15 characters the kernel takes: shorten it")]
    LabelTooLong { address: IpAddr, label: String },
    #[error("cannot {operation} on {interface}: {reason}; {remedy}")]
    Kernel { operation: String, interface: String, reason: String, remedy: String },
    #[error(
        "{address}/{prefix} is still on {interface}, and this node answers for it: \
         remove it with: ip address del {address}/{prefix} dev {interface}"
    )]
    StillThere { address: IpAddr, prefix: u8, interface: String },
    #[error(
        "the kernel does not say which addresses this host holds, so none counts as removed; it is asked again; \
         if that does not end, see `ip address show` and `journalctl -k`"
    )]
    Unread,
    #[error("{}", listed(.0))]
    Several(Vec<AddressError>),
}

/// One request of a batch, and what to say when it fails.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    Promote { interface: &'a str },
    Add(&'a VirtualAddress),
    Remove(&'a VirtualAddress),
}

impl Request<'_> {
    pub(super) fn encode(&self, batch: &mut Batch, sequence: u32, index: u32) {
        match self {
            Request::Promote { .. } => batch.promote_secondaries(sequence, index),
            Request::Add(new) => {
                // A label that does not fit was refused before; without one the address is still right.
                let label = label_of(new).unwrap_or_default();
                let computed = || broadcast_of(ipv4(new.address)?, new.prefix);
                let broadcast = new.broadcast.or_else(computed);
                let (address, prefix) = (new.address, new.prefix);
                let new = NewAddress { index, address, prefix, broadcast, label: label.as_deref() };
                batch.add_address(sequence, &new);
            }
            Request::Remove(old) => batch.remove_address(sequence, index, old.address, old.prefix),
        }
    }

    pub(super) fn address(&self) -> Option<&VirtualAddress> {
        match self {
            Request::Promote { .. } => None,
            Request::Add(address) | Request::Remove(address) => Some(address),
        }
    }

    pub(super) fn interface(&self) -> &str {
        match self {
            Request::Promote { interface } => interface,
            Request::Add(address) | Request::Remove(address) => address.dev(),
        }
    }

    pub(super) fn error(&self, error: Errno) -> AddressError {
        let operation = match self {
            Request::Add(new) if error == Errno::EXIST => {
                let (address, prefix, interface) = (new.address, new.prefix, new.dev().to_owned());
                return AddressError::AlreadyThere { address, prefix, interface };
            }
            Request::Promote { .. } => "switch on promote_secondaries".to_owned(),
            Request::Add(address) => format!("add {}/{}", address.address, address.prefix),
            Request::Remove(address) => format!("remove {}/{}", address.address, address.prefix),
        };
        let (reason, interface) = (io::Error::from(error).to_string(), self.interface().to_owned());
        let is_ipv6 = self.address().is_some_and(|address| address.address.is_ipv6());
        AddressError::Kernel { operation, remedy: remedy(error, &interface, is_ipv6), interface, reason }
    }
}

/// What to do about a refusal of the kernel's.
fn remedy(error: Errno, interface: &str, is_ipv6: bool) -> String {
    match error {
        Errno::ACCESS if is_ipv6 => {
            format!("IPv6 is switched off there: sysctl net.ipv6.conf.{interface}.disable_ipv6=0")
        }
        Errno::AFNOSUPPORT | Errno::OPNOTSUPP if is_ipv6 => {
            "this kernel has no IPv6: boot it without ipv6.disable=1, or remove the address from the group".into()
        }
        Errno::PERM | Errno::ACCESS => {
            "the daemon lacks CAP_NET_ADMIN: start it by `systemctl start hafailover`, with the unit as shipped".into()
        }
        Errno::INVAL => "the kernel takes no such address there: correct Address= of the group".into(),
        Errno::NOBUFS | Errno::NOMEM => "this host is short of memory: free some, then try again".into(),
        _ => format!("see `ip address show dev {interface}` and `journalctl -k`"),
    }
}

/// A thousand refusals have one cause, as a rule.
fn listed(errors: &[AddressError]) -> String {
    const SHOWN: usize = 3;
    let mut text = errors.iter().take(SHOWN).map(AddressError::to_string).collect::<Vec<_>>().join("; ");
    if errors.len() > SHOWN {
        text.push_str(&format!("; and {} more of the kind", errors.len() - SHOWN));
    }
    text
}

pub(super) fn several(mut errors: Vec<AddressError>) -> AddressError {
    if errors.len() == 1 { errors.remove(0) } else { AddressError::Several(errors) }
}

/// The configuration was checked for this; what an older version of it left in /run may still be too long.
pub(crate) fn label_of(address: &VirtualAddress) -> Result<Option<String>, AddressError> {
    let Some(label) = &address.label else { return Ok(None) };
    let full = full_label(address.dev(), label);
    if full.len() > LABEL {
        return Err(AddressError::LabelTooLong { address: address.address, label: full });
    }
    Ok(Some(full))
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// As `ip address add … broadcast +`; a network of one or two addresses has none.
fn broadcast_of(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (prefix < 31 && !address.is_loopback()).then(|| Ipv4Addr::from_bits(address.to_bits() | hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(label: &str) -> VirtualAddress {
        VirtualAddress {
            address: [10, 0, 0, 77].into(),
            prefix: 24,
            interface: Some("eth0".into()),
            label: Some(label.into()),
            broadcast: None,
        }
    }

    #[test]
    fn a_label_begins_with_the_interface() {
        for (given, full) in [("web", "eth0:web"), ("eth0:web", "eth0:web"), ("eth0", "eth0"), ("eth01", "eth0:eth01")]
        {
            assert_eq!(label_of(&labelled(given)), Ok(Some(full.to_owned())));
        }
        assert_eq!(label_of(&labelled("0123456789")), Ok(Some("eth0:0123456789".to_owned())), "15 fit");
        let error = label_of(&labelled("0123456789a")).expect_err("16 do not");
        assert_eq!(
            error.to_string(),
            "label eth0:0123456789a of 10.0.0.77 is longer than the 15 characters the kernel takes: shorten it"
        );
    }

    #[test]
    fn broadcast_addresses() {
        let of = |address: [u8; 4], prefix| broadcast_of(address.into(), prefix).map(|found| found.octets());
        assert_eq!(of([10, 0, 0, 77], 24), Some([10, 0, 0, 255]));
        assert_eq!(of([10, 0, 0, 77], 30), Some([10, 0, 0, 79]));
        assert_eq!(of([10, 0, 0, 77], 0), Some([255, 255, 255, 255]));
        for prefix in [31, 32, 33, 255] {
            assert_eq!(of([10, 0, 0, 77], prefix), None);
        }
        assert_eq!(of([127, 0, 0, 2], 8), None);
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_a_remedy() {
        let address = labelled("web");
        for (request, error, told) in [
            (Request::Add(&address), Errno::PERM, "cannot add 10.0.0.77/24 on eth0: Operation not permitted"),
            (Request::Remove(&address), Errno::TIMEDOUT, "cannot remove 10.0.0.77/24 on eth0: Connection timed out"),
            (Request::Promote { interface: "eth0" }, Errno::INVAL, "cannot switch on promote_secondaries on eth0: "),
        ] {
            let text = request.error(error).to_string();
            let remedy = text.strip_prefix(told).and_then(|rest| Some(rest.split_once("; ")?.1));
            assert!(remedy.is_some_and(|remedy| remedy.contains("`") || remedy.contains("Address=")), "{text}");
        }
        let (address, interface) = (address.address, "w0".to_owned());
        let text = AddressError::StillThere { address, prefix: 24, interface }.to_string();
        assert!(text.ends_with("remove it with: ip address del 10.0.0.77/24 dev w0"), "{text}");
    }

    #[test]
    fn one_error_stands_alone_and_more_in_a_row() {
        let error =
            |interface: &str| AddressError::NoInterface { interface: interface.into(), address: [10, 0, 0, 7].into() };
        assert_eq!(several(vec![error("a")]), error("a"));
        assert_eq!(
            several(vec![error("a"), error("b")]).to_string(),
            "interface a does not exist: cannot add 10.0.0.7; interface b does not exist: cannot add 10.0.0.7"
        );
    }
}
