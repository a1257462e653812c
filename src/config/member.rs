//! What may be a member of a group: the names of units, judged by name alone.
//! It must not know whether such a unit exists.

use super::unitpath;

/// systemd's `UNIT_NAME_MAX`, less the `.d` of its drop-ins: a longer name could not be guarded.
const LONGEST: usize = 253;
const OUR_SERVICE: &str = "hafailover.service";

/// A host could not boot, or reach its service manager, if one of these waited for a grant.
const ESSENTIAL: [&str; 41] = [
    "-.mount",
    "basic.target",
    "boot-complete.target",
    "cryptsetup.target",
    "dbus-broker.service",
    "dbus.service",
    "dbus.socket",
    "default.target",
    "emergency.target",
    "exit.target",
    "final.target",
    "getty.target",
    "graphical.target",
    "halt.target",
    "initrd.target",
    "integritysetup.target",
    "kexec.target",
    "local-fs-pre.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "paths.target",
    "poweroff.target",
    "reboot.target",
    "remote-fs-pre.target",
    "remote-fs.target",
    "rescue.target",
    "shutdown.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "syslog.socket",
    "time-set.target",
    "time-sync.target",
    "timers.target",
    "umount.target",
    "veritysetup.target",
];

/// Kinds of units by what the generator must write for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Service,
    Target,
    /// Stopped at shutdown by way of `umount.target`.
    Mount,
    /// Started early in the boot by default, and stopped by way of `shutdown.target`.
    Trigger,
}

/// Why a unit cannot be a member, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// Judges one word of `Start=`.
pub(crate) fn kind_of(unit: &str) -> Result<Kind, Unfit> {
    let unfit = |what: String, remedy: &str| Err(Unfit { what, remedy: remedy.to_owned() });
    if unit.is_empty() {
        return unfit("an empty name is no unit".to_owned(), "remove it");
    }
    if unit.len() > LONGEST || !unit.chars().all(is_unit_char) {
        return unfit(
            format!("\"{unit}\" is not the name of a unit"),
            "write it as `systemctl list-units` prints it; `systemd-escape --path --suffix=mount PATH` names a mount",
        );
    }
    if is_ours(unit) {
        return unfit(format!("{unit} belongs to hafailover itself"), "name only units of the application");
    }
    if is_essential(unit) {
        return unfit(format!("the host itself needs {unit}"), "name only units of the application");
    }
    let (name, suffix) = unit.rsplit_once('.').unwrap_or((unit, ""));
    if name.is_empty() || name.starts_with('@') {
        return unfit(format!("\"{unit}\" is not the name of a unit"), "write its whole name, such as nginx.service");
    }
    if name.ends_with('@') {
        return unfit(
            format!("{unit} is a template, and no unit that could be started"),
            "write an instance of it, such as postgresql@15-main.service",
        );
    }
    match suffix {
        "service" => Ok(Kind::Service),
        "target" => Ok(Kind::Target),
        "mount" | "automount" | "swap" => Ok(Kind::Mount),
        "socket" | "path" | "timer" => Ok(Kind::Trigger),
        "device" | "slice" | "scope" => unfit(
            format!("a {suffix} cannot be a member: systemd does not start it by order"),
            "name the unit that uses it",
        ),
        _ => Err(Unfit {
            what: format!("\"{unit}\" has no suffix that names its kind"),
            remedy: format!("write the whole name, such as {unit}.service"),
        }),
    }
}

/// For the generator: what to guard for a word that may be sound or not. `None`: nothing can or may be.
pub(crate) fn guardable(word: &str) -> Option<(String, Kind)> {
    let with_suffix = format!("{word}.service");
    let known = kind_of(word).ok().map(|kind| (word.to_owned(), kind));
    known.or_else(|| kind_of(&with_suffix).ok().map(|kind| (with_suffix, kind)).filter(|_| !has_suffix(word)))
}

/// The unit that systemd starts because of this one, unless `Unit=` or `Service=` names another.
pub(crate) fn triggers(unit: &str) -> Option<String> {
    let (name, suffix) = unit.rsplit_once('.')?;
    let triggered = match suffix {
        "socket" | "path" | "timer" => format!("{name}.service"),
        "automount" => format!("{name}.mount"),
        _ => return None,
    };
    kind_of(&triggered).is_ok().then_some(triggered)
}

/// Whether the name ends as a unit of some kind does.
fn has_suffix(word: &str) -> bool {
    const SUFFIXES: [&str; 11] =
        ["service", "target", "mount", "automount", "swap", "socket", "path", "timer", "device", "slice", "scope"];
    word.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix))
}

/// systemd's own `VALID_CHARS_WITH_AT`.
pub(crate) fn is_unit_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@')
}

fn is_ours(unit: &str) -> bool {
    unit == OUR_SERVICE || unit == unitpath::TEMPLATE || unitpath::is_group_target(unit)
}

fn is_essential(unit: &str) -> bool {
    ESSENTIAL.contains(&unit) || (unit.starts_with("systemd-") && !unit.starts_with("systemd-nspawn@"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_by_kind() {
        for (unit, kind) in [
            ("nginx.service", Kind::Service),
            ("postgresql@15-main.service", Kind::Service),
            (r"srv-my\x2ddata.mount", Kind::Mount),
            ("srv.automount", Kind::Mount),
            ("systemd-nspawn@guest.service", Kind::Service),
            ("app.target", Kind::Target),
            ("job.timer", Kind::Trigger),
            ("fluffy.socket", Kind::Trigger),
        ] {
            assert_eq!(kind_of(unit), Ok(kind), "{unit}");
        }
    }

    #[test]
    fn what_is_no_member() {
        for unit in ["", "nginx", "a@.service", "x.slice", "x.device", "x.scope", "/srv/www", "hafailover.service"] {
            assert!(kind_of(unit).is_err(), "{unit}");
        }
        for unit in ["hafailover-group@a.target", "systemd-networkd.service", "-.mount", "sysinit.target", ".service"] {
            assert!(kind_of(unit).is_err(), "{unit}");
        }
        assert!(kind_of("nginx").expect_err("no suffix").remedy.contains("nginx.service"));
    }

    #[test]
    fn a_name_without_suffix_is_guarded_as_the_service_it_means() {
        assert_eq!(guardable("nginx"), Some(("nginx.service".to_owned(), Kind::Service)));
        assert_eq!(guardable("php8.2-fpm"), Some(("php8.2-fpm.service".to_owned(), Kind::Service)));
        assert_eq!(guardable("a.mount"), Some(("a.mount".to_owned(), Kind::Mount)));
        for unit in ["hafailover", "dbus.service", "dbus", "a.slice", "a b", "", "x@.service"] {
            assert_eq!(guardable(unit), None, "{unit}");
        }
    }
    #[test]
    fn what_a_member_triggers_has_its_name() {
        for (unit, triggered) in [
            ("web.socket", "web.service"),
            ("job@1.timer", "job@1.service"),
            ("in.path", "in.service"),
            (r"srv-my\x2ddata.automount", r"srv-my\x2ddata.mount"),
        ] {
            assert_eq!(triggers(unit).as_deref(), Some(triggered));
        }
        for unit in
            ["web.service", "app.target", "srv.mount", "hafailover.timer", "systemd-journald.socket", "dbus.path"]
        {
            assert_eq!(triggers(unit), None, "{unit}");
        }
    }
}
