//! From files to a [`model::Config`]: `hafailover.toml`, `local.toml`, `authkeys` and the groups' drop-ins.
//! Every mistake is found at once, each with file, line, column, what is wrong and the remedy.
//!
//! | file | what it reads |
//! |---|---|
//! | `cluster`, `link`, `linkkind`, `unbuilt` | `hafailover.toml`; what a later version will know and this one refuses |
//! | `local` | `local.toml` |
//! | `authkeys` | the keys |
//! | `unitfile`, `unitpath` | unit files: their syntax, and where systemd looks for them |
//! | `section`, `member`, `address`, `group`, `groups` | `[X-HAFailover]`: the merged section, its parts, one group, all of them together |
//! | `tree`, `duration`, `problem`, `digest` | what they share |

mod address;
pub(crate) mod authkeys;
mod cluster;
pub(crate) mod digest;
mod duration;
mod group;
mod groups;
mod link;
mod linkkind;
mod local;
pub(crate) mod member;
pub mod model;
pub(crate) mod name;
pub mod problem;
pub(crate) mod section;
mod tree;
mod unbuilt;
pub(crate) mod unitfile;
pub(crate) mod unitpath;

pub use problem::Problem;

use crate::wire::seal::KeySet;
use problem::Position;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No configuration a person writes is larger; a mistaken file must not fill the memory.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub cluster: PathBuf,
    pub local: PathBuf,
    pub authkeys: PathBuf,
    /// The authkeys of `$CREDENTIALS_DIRECTORY`: wins where given.
    pub credential: Option<PathBuf>,
    /// systemd's directories for units, first one first.
    pub units: Vec<PathBuf>,
    /// What the generator left in its own output directory.
    pub generator_digest: PathBuf,
    /// The configuration that a daemon adopted, as it keeps it: in this boot, and on disk.
    pub adopted: [PathBuf; 2],
}

/// A sound configuration, and what is worth a word all the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: model::Config,
    pub keys: KeySet,
    pub warnings: Vec<Problem>,
}

impl Paths {
    /// Everything below `root`; `/` is the host itself.
    pub fn under(root: &Path) -> Paths {
        let etc = root.join("etc/hafailover");
        Paths {
            cluster: etc.join("hafailover.toml"),
            local: etc.join("local.toml"),
            authkeys: etc.join("authkeys"),
            credential: None,
            units: unitpath::SEARCH_PATH.iter().map(|directory| root.join(directory)).collect(),
            generator_digest: root.join("run/systemd/generator").join(crate::host::systemd::generator::DIGEST_FILE),
            adopted: ["run/hafailover/running.json", "var/lib/hafailover/adopted.json"].map(|file| root.join(file)),
        }
    }

    /// With the value of `$CREDENTIALS_DIRECTORY`: its `authkeys`, if there is one, stand for the file.
    pub fn with_credentials(mut self, directory: Option<&Path>) -> Paths {
        self.credential = directory.map(|directory| directory.join("authkeys")).filter(|file| file.exists());
        self
    }
}

/// Reads everything. `hostname` is `uname -n`. On failure: every mistake, sorted by file and place.
pub fn load(paths: &Paths, hostname: &str) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let local = local::load(&paths.local, hostname, &mut problems, &mut warnings);
    let cluster = cluster::load(&paths.cluster, &local, &mut problems, &mut warnings);
    let groups = groups::load(paths, hostname, &cluster, &local, &mut problems, &mut warnings);
    local.check_use(&cluster, &groups, &mut warnings);
    let keys = match authkeys::load(paths.credential.as_ref().unwrap_or(&paths.authkeys)) {
        Ok((keys, short)) => {
            warnings.extend(short);
            Some(keys)
        }
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    problems.sort();
    problems.dedup();
    warnings.sort();
    warnings.dedup();
    match (keys, cluster.me) {
        (Some(keys), Some(me)) if problems.is_empty() => {
            Ok(Loaded { config: assemble(cluster, me, groups), keys, warnings })
        }
        _ => Err(problems),
    }
}

/// The keys alone, whatever the other files say.
pub fn load_keys(paths: &Paths) -> Result<KeySet, Vec<Problem>> {
    authkeys::load(paths.credential.as_ref().unwrap_or(&paths.authkeys)).map(|(keys, _)| keys)
}

fn assemble(cluster: cluster::Cluster, me: model::NodeId, groups: groups::Groups) -> model::Config {
    model::Config {
        cluster_tag: digest::cluster_tag(&cluster.name),
        cluster_digest: cluster.digest(),
        cluster: cluster.name,
        nodes: cluster.nodes,
        me,
        timing: cluster.timing,
        links: cluster.links,
        takeover: cluster.takeover,
        groups: groups.groups,
    }
}

/// `uname -n`, as the kernel has it now.
pub fn hostname() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

/// A file's bytes; `None` if it is not there.
pub(crate) fn read(file: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let problem = |what: String| Problem::new(file, Position::START, what, "make it a readable file of at most 1 MiB");
    // NONBLOCK: a FIFO of this name must not hang a boot.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let handle = match File::options().read(true).custom_flags(flags).open(file) {
        Ok(handle) => handle,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(format!("cannot be read: {error}"))),
    };
    let mut bytes = Vec::new();
    match handle.take(LARGEST_FILE + 1).read_to_end(&mut bytes) {
        Err(error) => Err(problem(format!("cannot be read: {error}"))),
        Ok(_) if bytes.len() as u64 > LARGEST_FILE => Err(problem("is larger than 1 MiB".to_owned())),
        Ok(_) => Ok(Some(bytes)),
    }
}

/// A text file of ours; `None` if it is not there.
fn read_text(file: &Path) -> Result<Option<String>, Problem> {
    let Some(bytes) = read(file)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        Problem::new(file, problem::position_of(&text, valid), "this is not UTF-8 text", "save the file as UTF-8")
    })
}
