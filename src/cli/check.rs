//! `hafailoverctl check`: the daemon's own reading of the files, with all mistakes at once and what the result means.

use super::{Exit, Spoken};
use crate::config::model::Config;
use crate::config::{self, Loaded, Paths, Problem};
use crate::host::address::Netlink;
use crate::perform::addresses::without_place;
use std::path::{Path, PathBuf};

/// Without files: those of this host. With: each stands for the file of its name, a directory for all that is in it.
pub(super) fn check(files: &[PathBuf]) -> Spoken {
    let mut paths = Paths::under(Path::new("/"));
    for file in files {
        if let Err(usage) = put(&mut paths, file) {
            return Spoken::not(Exit::Usage, usage);
        }
    }
    match config::hostname() {
        Ok(hostname) => judge(config::load(&paths, &hostname), &without_interface),
        Err(error) => Spoken::not(Exit::Failed, format!("failed: this host's name cannot be read: {error}")),
    }
}

fn put(paths: &mut Paths, file: &Path) -> Result<(), String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if file.is_dir() {
        paths.cluster = file.join("hafailover.toml");
        paths.local = file.join("local.toml");
        paths.authkeys = file.join("authkeys");
        return Ok(());
    }
    match name.as_ref() {
        "local.toml" => paths.local = file.to_owned(),
        "authkeys" => paths.authkeys = file.to_owned(),
        _ if name.ends_with(".toml") => paths.cluster = file.to_owned(),
        _ => {
            return Err(format!(
                "{}: check takes a directory, a .toml file (local.toml by that name) or authkeys",
                file.display()
            ));
        }
    }
    Ok(())
}

/// What is sound and yet cannot run on this host as it is now.
fn without_interface(config: &Config) -> Vec<String> {
    let Ok(netlink) = Netlink::open() else { return Vec::new() };
    let faults = without_place(config, &netlink).into_iter();
    faults
        .map(|(group, fault)| format!("warning: group {group} cannot run on this host as it is now: {fault}"))
        .collect()
}

fn judge(loaded: Result<Loaded, Vec<Problem>>, of_this_host: &dyn Fn(&Config) -> Vec<String>) -> Spoken {
    match loaded {
        Ok(loaded) => {
            let snooped = snooped(&loaded.config).into_iter();
            let warnings = warnings(&loaded.warnings).into_iter().chain(snooped).chain(of_this_host(&loaded.config));
            let err = warnings.collect::<Vec<_>>().join("\n");
            Spoken { out: summary(&loaded.config), err, exit: Exit::Done }
        }
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
            let count = match lines.len() {
                1 => "1 mistake".to_owned(),
                count => format!("{count} mistakes"),
            };
            Spoken::not(Exit::Failed, format!("{}\n{count}", lines.join("\n")))
        }
    }
}

fn warnings(warnings: &[Problem]) -> Vec<String> {
    warnings.iter().map(|warning| format!("warning: {warning}")).collect()
}

/// Said once, and by this command alone: whether it concerns this network only its administrator can tell.
fn snooped(config: &Config) -> Option<String> {
    let links = config.links.iter().filter(|link| link.kind.may_be_snooped());
    let names: Vec<&str> = links.map(|link| link.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "warning: multicast on link {}: switches that snoop IGMP or MLD, as most do, silence it after some minutes \
             unless a querier asks on that network; turn a querier on there (a switch, a router, or `ip link set BRIDGE \
             type bridge mcast_querier 1`), or use kind = \"ucast\" or \"bcast\"",
            names.join(", ")
        )
    })
}

fn summary(config: &Config) -> String {
    let names: Vec<&str> = config.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut lines = vec![format!(
        "cluster {}: nodes {}; this is {}; {} links",
        config.cluster,
        names.join(", "),
        config.node(config.me).name,
        config.links.len()
    )];
    for group in &config.groups {
        let nodes: Vec<&str> = group.nodes.iter().map(|node| config.node(*node).name.as_str()).collect();
        let addresses: Vec<String> =
            group.addresses.iter().map(|address| format!("{}/{}", address.address, address.prefix)).collect();
        let what: Vec<String> = addresses.into_iter().chain(group.members.iter().cloned()).collect();
        lines.push(format!("group {}: {} on {}", group.name, what.join(", "), nodes.join(", ")));
    }
    lines.push("The configuration is sound.".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::config;

    #[test]
    fn a_sound_configuration_is_summed_up() {
        assert_eq!(
            summary(&config(&["alpha", "beta"])),
            "cluster shop: nodes alpha, beta; this is alpha; 0 links\n\
             group db: db.service on alpha\n\
             group web: nginx.service on alpha\n\
             The configuration is sound."
        );
    }

    #[test]
    fn multicast_that_switches_may_silence_deserves_one_word() {
        use crate::config::model::{LinkConfig, LinkKind};
        let mut config = config(&["alpha", "beta"]);
        let link = |name: &str, group: &str| LinkConfig {
            kind: LinkKind::Mcast { group: group.parse().unwrap(), ttl: 1, loops: false },
            ..LinkConfig::ucast(name, 694, Default::default())
        };
        config.links = vec![link("hb0", "224.0.0.75"), link("hb1", "ff02::1")];
        assert_eq!(snooped(&config), None, "both are passed to every port");
        config.links.extend([link("hb2", "239.0.0.75"), link("hb3", "ff02::4:75")]);
        let said = snooped(&config).unwrap();
        assert!(said.contains("on link hb2, hb3: ") && said.contains("querier"), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }

    #[test]
    fn all_mistakes_are_shown_and_counted() {
        let problem = |line| Problem {
            file: "/etc/hafailover/hafailover.toml".into(),
            line,
            column: 1,
            what: "unknown key".into(),
            remedy: "remove it".into(),
        };
        let spoken = judge(Err(vec![problem(2), problem(5)]), &|_| Vec::new());
        assert_eq!(spoken.exit, Exit::Failed);
        let expected = "/etc/hafailover/hafailover.toml:2:1: unknown key; remove it\n\
             /etc/hafailover/hafailover.toml:5:1: unknown key; remove it\n2 mistakes";
        assert_eq!(spoken.err, expected);
    }

    #[test]
    fn a_file_stands_for_the_one_of_its_name() {
        let mut paths = Paths::under(Path::new("/"));
        put(&mut paths, Path::new("/tmp/new.toml")).unwrap();
        put(&mut paths, Path::new("/tmp/local.toml")).unwrap();
        put(&mut paths, Path::new("/tmp/authkeys")).unwrap();
        assert_eq!(paths.cluster, Path::new("/tmp/new.toml"));
        assert_eq!(paths.local, Path::new("/tmp/local.toml"));
        assert_eq!(paths.authkeys, Path::new("/tmp/authkeys"));
        assert!(put(&mut paths, Path::new("/tmp/x.conf")).unwrap_err().contains("authkeys"));
    }
}
