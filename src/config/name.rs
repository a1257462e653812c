//! What may be called how: nodes, clusters, groups, interfaces. Each answer is a clause for a message.

/// Longest host name that Linux knows.
const NODE_MAX: usize = 64;
const CLUSTER_MAX: usize = 64;
const GROUP_MAX: usize = 64;
/// IFNAMSIZ without its closing zero.
const INTERFACE_MAX: usize = 15;

pub(super) fn check_node(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    check(name, NODE_MAX, plain, "letters, digits, \"-\", \"_\" and \".\"")
}

pub(super) fn check_cluster(name: &str) -> Result<(), String> {
    check(name, CLUSTER_MAX, |c| c.is_ascii_graphic(), "letters, digits and signs without spaces")
}

pub(super) fn check_group(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    check(name, GROUP_MAX, plain, "letters, digits, \"-\" and \"_\"")
}

/// The kernel's own rule (`dev_valid_name`), and nothing outside ASCII.
pub(super) fn check_interface(name: &str) -> Result<(), String> {
    if name == "." || name == ".." {
        return Err(format!("\"{name}\" is no name"));
    }
    check(
        name,
        INTERFACE_MAX,
        |c| c.is_ascii_graphic() && c != '/' && c != ':',
        "letters, digits and signs but \"/\" and \":\"",
    )
}

/// A label is an interface's name that may go on behind a colon.
pub(super) fn check_label(name: &str) -> Result<(), String> {
    check(name, INTERFACE_MAX, |c| c.is_ascii_graphic() && c != '/', "letters, digits and signs but \"/\"")
}

/// The label as the kernel gets it. Old tools show a labelled address as an interface of its own and expect the
/// interface's name in front.
pub(crate) fn full_label(interface: &str, label: &str) -> String {
    let named = label.strip_prefix(interface).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    if named { label.to_owned() } else { format!("{interface}:{label}") }
}

/// What is sound by itself may still be too long behind the interface's name on this host.
pub(super) fn check_full_label(interface: &str, label: &str) -> Result<(), String> {
    let full = full_label(interface, label);
    if full.len() > INTERFACE_MAX {
        return Err(format!("label \"{full}\" is longer than the {INTERFACE_MAX} characters the kernel takes"));
    }
    Ok(())
}

fn check(name: &str, longest: usize, allowed: fn(char) -> bool, allowed_words: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.len() > longest {
        return Err(format!("\"{name}\" is longer than {longest} characters"));
    }
    if !name.chars().all(allowed) {
        return Err(format!("\"{name}\" holds other characters than {allowed_words}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_limits() {
        assert_eq!(check_node("db-1.example"), Ok(()));
        assert!(check_node("").is_err() && check_node("a b").is_err() && check_node(&"a".repeat(65)).is_err());
        assert_eq!(check_group("web_1-a"), Ok(()));
        assert!(check_group("we.b").is_err() && check_group(&"g".repeat(65)).is_err());
        assert_eq!(check_interface("enp3s0.100"), Ok(()));
        assert!(check_interface("..").is_err() && check_interface("sixteen-letters!").is_err());
        assert!(check_interface("eth0:0").is_err() && check_label("eth0:0").is_ok());
        assert!(check_cluster("shop").is_ok() && check_cluster("my shop").is_err());
    }

    #[test]
    fn a_label_is_measured_as_the_kernel_gets_it() {
        assert_eq!(check_full_label("eth0", "0123456789"), Ok(()), "15 fit");
        assert_eq!(check_full_label("eth0", "eth0:0123456789"), Ok(()), "the name in front counts once");
        let what = check_full_label("enp0s31f6", "public").expect_err("16 do not");
        assert_eq!(what, "label \"enp0s31f6:public\" is longer than the 15 characters the kernel takes");
    }
}
