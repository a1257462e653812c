//! What must hold for any bytes that come from outside: as functions of bytes, for the property tests here and the fuzzer in `fuzz/`.
//! It must not know who chose the bytes.

use hafailover::cluster::{BootId, Time};
use hafailover::config::model::Config;
use hafailover::config::{Loaded, Paths, Problem, load};
use hafailover::host::state::{Identity, Places};
use hafailover::host::systemd::generator::{self, DROP_IN};
use hafailover::host::{deaths, held, running, state};
use hafailover::wire::codec;
use hafailover::wire::seal::{Key, KeySet, Method, SEAL_LEN};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub const CLUSTER: &str = "etc/hafailover/hafailover.toml";
pub const LOCAL: &str = "etc/hafailover/local.toml";
pub const KEYS: &str = "etc/hafailover/authkeys";
pub const UNIT: &str = "etc/systemd/system/hafailover-group@web.target.d/web.conf";
const HOSTNAME: &str = "alpha";
const BOOT: BootId = BootId(0x77);

/// A sound configuration: what is under test stands in for one of its files.
pub const SOUND: [(&str, &str); 4] = [
    (
        CLUSTER,
        "[cluster]\nname = \"shop\"\nnodes = [\"alpha\", \"beta\"]\n\n[timing]\nkeepalive = \"100ms\"\nwarntime = 0.15\n\
         deadtime = \"300ms\"\ninitdead = \"10s\"\n\n[[link]]\nkind = \"ucast\"\ninterface = \"hb0\"\nport = 694\n\
         peers = { alpha = \"172.16.1.75\", beta = \"172.16.1.76\" }\n\n[takeover]\nproof = \"silence\"\ndelay = \"0s\"\n",
    ),
    (LOCAL, "node = \"alpha\"\n\n[interfaces]\nhb0 = \"enp3s0\"\n"),
    (KEYS, "# keys\nauth 1\n1 sha256 a8fdc205a9f19cc1c7507a60c4f01b13\n2 md5 another\n"),
    (
        UNIT,
        "[Unit]\nDescription=Public \\\n web site\n\n[X-HAFailover]\nNodes=alpha beta\nAddress=10.0.0.77/24 dev eth0 label ha\n\
         Address=10.0.1.77/24 dev eth1 broadcast 10.0.1.255\n# why\nStart=srv-www.mount \"nginx.service\"\nStart=\n\
         Start=php@%l.service\nFailback=no\nTakeoverDelaySec=0\nTimeoutStartSec=1min 30s\n",
    ),
];

/// A folder of its own for each thread, gone with it.
struct House {
    root: PathBuf,
    /// What the sound files say.
    config: Config,
}

impl House {
    fn new() -> House {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // In memory: some thousand files a second are written.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = parent.join(format!("hafailover-holds-{}-{number}", std::process::id()));
        assert!(rustix::process::geteuid().is_root(), "run as root: authkeys must be root's own file");
        let _ = std::fs::remove_dir_all(&root);
        SOUND.iter().for_each(|(file, text)| write(&root, file, text.as_bytes()));
        for folder in ["run/hafailover/held", "run/hafailover/grant", "var/lib/hafailover"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let loaded = load(&Paths::under(&root), HOSTNAME);
        let config = loaded.unwrap_or_else(|problems| panic!("the sound configuration is not: {problems:?}")).config;
        House { root, config }
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        write(&self.root, file, bytes);
    }

    fn load(&self) -> Result<Loaded, Vec<Problem>> {
        load(&Paths::under(&self.root), HOSTNAME)
    }

    fn places(&self) -> Places {
        Places { run: self.root.join("run/hafailover"), state: self.root.join("var/lib/hafailover") }
    }
}

fn write(root: &Path, file: &str, bytes: &[u8]) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// What the sound files say.
pub fn sound_config() -> Config {
    HOUSE.with(|house| house.config.clone())
}

thread_local! {
    static HOUSE: House = House::new();
}

pub fn keys() -> KeySet {
    let key = |method| Key { method, secret: b"a secret".to_vec() };
    let keys = BTreeMap::from([(1, key(Method::Sha256)), (2, key(Method::Sha1)), (3, key(Method::Md5))]);
    KeySet::new(1, keys).expect("the signing key is among them")
}

/// Nothing is opened that was not sealed; what is a message is the same one after another way over the wire.
pub fn packet(bytes: &[u8]) {
    let keys = keys();
    if let Ok(body) = keys.open(bytes) {
        assert_eq!(bytes.len(), body.len() + SEAL_LEN);
    }
    assert_eq!(keys.open(&keys.seal(bytes.to_vec())), Ok(bytes));
    if let Ok(message) = codec::decode(bytes) {
        assert_eq!(codec::peek_cluster(bytes), Some(message.cluster_tag));
        assert_eq!(codec::decode(&codec::encode(&message)), Ok(message));
    }
}

/// Any content of one of the configuration's files: it is accepted, and then the same after it was kept and read back; or it is refused, and
/// then every mistake names an existing place, what is wrong there and the remedy.
pub fn configuration(file: &str, bytes: &[u8]) {
    HOUSE.with(|house| {
        house.write(file, bytes);
        match house.load() {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(stands_in_its_file);
                ids_in_range(&loaded.config);
                let places = house.places();
                running::keep_keys(&places, &loaded.keys).expect("they can be kept");
                running::note(&places, &loaded.config).expect("it can be kept");
                let (config, keys) = running::load(&places).unwrap_or_else(|error| panic!("kept, not read: {error}"));
                assert_eq!((config, keys), (loaded.config, loaded.keys));
            }
            Err(problems) => {
                assert!(!problems.is_empty(), "refused without a reason");
                problems.iter().for_each(stands_in_its_file);
            }
        }
        guards_stay_in_their_files(&house.root);
        for (name, text) in SOUND.iter().filter(|(name, _)| *name == file) {
            house.write(name, text.as_bytes());
        }
    });
}

fn stands_in_its_file(problem: &Problem) {
    let text = std::fs::read(&problem.file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    let columns = |line: &str| line.chars().count() + 1;
    let (found, longest) = if problem.file.extension().is_some_and(|extension| extension == "conf") {
        // systemd ends lines at these, too, and takes some pairs of them for one.
        let lines: Vec<&str> = text.split(['\n', '\r', '\0']).collect();
        (problem.line <= lines.len(), lines.into_iter().map(columns).max().unwrap_or(1))
    } else {
        let line = problem.line.checked_sub(1).and_then(|index| text.split('\n').nth(index));
        (line.is_some(), columns(line.unwrap_or_default()))
    };
    assert!(found && problem.line > 0, "no such line: {problem:?}");
    assert!((1..=longest).contains(&problem.column), "no such column, there are {longest}: {problem:?}");
}

/// Whatever a unit file holds, the generator writes only settings of its own.
fn guards_stay_in_their_files(root: &Path) {
    const KEYS: [&str; 11] = [
        "AssertPathExists",
        "After",
        "Before",
        "Conflicts",
        "DefaultDependencies",
        "IgnoreOnIsolate",
        "PartOf",
        "Requires",
        "Wants",
        "# Written by hafailover-generator. Change the group's Start",
        "[Unit]",
    ];
    for (name, text) in generator::render(&Paths::under(root), HOSTNAME).files {
        let plain = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        assert!(plain && name.components().count() == 2 && name.ends_with(DROP_IN), "{name:?}");
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or((line, "x"));
            assert!(KEYS.contains(&key) && !value.is_empty() && !value.chars().any(char::is_control), "{line:?}");
        }
    }
}

/// Whoever reads it looks things up by them without asking.
fn ids_in_range(config: &Config) {
    let nodes = config.nodes.len();
    assert!(usize::from(config.me.0) < nodes);
    let named = config.groups.iter().flat_map(|group| &group.nodes);
    assert!(named.clone().all(|node| usize::from(node.0) < nodes), "a group on a node that is not");
    assert!(config.links.iter().flat_map(|link| link.peers()).all(|(node, _)| usize::from(node.0) < nodes));
}

/// What the next daemon finds of the last one's configuration.
pub fn kept_configuration(bytes: &[u8]) {
    HOUSE.with(|house| {
        running::keep_keys(&house.places(), &keys()).expect("they can be kept");
        running::note(&house.places(), &house.config).expect("it can be kept");
        house.write("run/hafailover/running.json", bytes);
        if let Ok((config, _)) = running::load(&house.places()) {
            ids_in_range(&config);
        }
        guards_stay_in_their_files(&house.root);
        std::fs::remove_file(house.root.join("run/hafailover/running.json")).expect("it was written");
    });
}

/// What the disk says of former owners: what is believed is the same after it was written and read once more.
pub fn saved_state(bytes: &[u8]) {
    HOUSE.with(|house| {
        let (places, config) = (house.places(), &house.config);
        let machine = Identity { machine_id: "m".into(), product_uuid: String::new() };
        house.write("var/lib/hafailover/state.json", bytes);
        let (saved, notes) = state::load(&places, config, &machine);
        assert!(notes.iter().all(|note| !note.is_empty()));
        state::save(&places, config, &machine, &saved).expect("it can be saved");
        assert_eq!(state::load(&places, config, &machine), (saved, vec![]));
    });
}

/// A note of what is held here, with and without its grant: what is found is of this boot, and what is not keeps no grant.
pub fn held_note(bytes: &[u8]) {
    HOUSE.with(|house| {
        let (places, config) = (house.places(), &house.config);
        for granted in [true, false] {
            house.write("run/hafailover/held/web", bytes);
            let grant = places.grant_file("web");
            if granted {
                house.write("run/hafailover/grant/web", bytes);
            } else {
                let _ = std::fs::remove_file(&grant);
            }
            let (found, _) = held::load_held(&places, config, BOOT);
            assert!(found.iter().all(|held| held.group == "web" && held.grant.boot == BOOT), "{found:?}");
            assert_eq!(
                grant.exists(),
                granted && !found.is_empty(),
                "a grant that nothing holds, or none for what is held"
            );
            for held in &found {
                held::hold(&places, "web", &held.grant, &config.node(held.grant.node).name, held.phase).expect("noted");
            }
            assert_eq!(held::load_held(&places, config, BOOT).0, found);
        }
        held::forget(&places, "web").expect("forgotten");
    });
}

/// The count of deaths never grows by what cannot be read, and one more death is one more.
pub fn death_count(bytes: &[u8]) {
    HOUSE.with(|house| {
        let (run, now) = (house.places().run, Time(1_000_000_000_000));
        house.write("run/hafailover/deaths", bytes);
        let before = deaths::count(&run, now);
        assert!(before <= bytes.split(|byte| *byte == b'\n').count());
        assert_eq!(deaths::record(&run, now).expect("it can be counted"), before + 1);
    });
}

/// Fails by a panic.
pub type Holds = fn(&[u8]);

/// Every parser by its name.
pub const ALL: [(&str, Holds); 9] = [
    ("packet", packet),
    ("cluster", |bytes| configuration(CLUSTER, bytes)),
    ("local", |bytes| configuration(LOCAL, bytes)),
    ("authkeys", |bytes| configuration(KEYS, bytes)),
    ("unit", |bytes| configuration(UNIT, bytes)),
    ("running", kept_configuration),
    ("state", saved_state),
    ("held", held_note),
    ("deaths", death_count),
];
