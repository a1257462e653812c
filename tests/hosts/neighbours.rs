//! Other clusters on a LAN of the lab: nodes that are threads of this program, each with the real configuration reader,
//! heart, links and beat thread, in a namespace that may hold several of them. In place of a host thread stands nobody: they
//! have no groups. It must not know what they are to show.

use crate::sweep::LAB;
use crate::sys::{Result, enter, wait_for};
use hafailover::beat::BeatThread;
use hafailover::cluster::status::LinkStatus;
use hafailover::cluster::{BootId, Cluster, Identity, Incarnation, RequestId, Saved, Status};
use hafailover::config::{self, Paths};
use hafailover::host::address::{Neighbours, Netlink};
use hafailover::host::clock;
use hafailover::host::orders::{Beat, MOVES_EVERY, ToBeat, ToHost, beat_channel};
use hafailover::host::state::{self, Places};
use hafailover::journal::Journal;
use hafailover::perform::Edges;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const QUEUE: usize = 512;

/// Shows that the host thread moves, which there is none of, as long as the beat thread looks.
fn stand_in(moves: &Arc<AtomicU64>) {
    let moves = Arc::downgrade(moves);
    std::thread::spawn(move || {
        while let Some(moves) = moves.upgrade() {
            moves.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(MOVES_EVERY / 2);
        }
    });
}

/// One node of another cluster.
#[derive(Debug)]
pub struct Neighbour {
    pub cluster: String,
    pub node: &'static str,
    root: PathBuf,
    beat: Beat,
    orders: Receiver<ToHost>,
    requests: u64,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// `cluster_file` and `keys` as an administrator would write them.
    pub fn start(
        namespace: &str,
        cluster: &str,
        node: &'static str,
        cluster_file: &str,
        keys: &str,
    ) -> Result<Neighbour> {
        let root = Path::new(LAB).join("neighbours").join(format!("{cluster}-{node}-{namespace}"));
        let paths = Paths::under(&root);
        let places = Places { run: root.join("run/hafailover"), state: root.join("state") };
        for directory in [root.join("etc/hafailover"), places.run.clone(), places.state.clone()] {
            fs::create_dir_all(directory)?;
        }
        fs::write(&paths.cluster, cluster_file)?;
        fs::write(&paths.authkeys, keys)?;
        fs::set_permissions(&paths.authkeys, fs::Permissions::from_mode(0o600))?;
        let loaded = config::load(&paths, node).map_err(|problems| format!("{cluster}: {problems:?}"))?;
        let (beat, inbox) = beat_channel()?;
        let (host, orders) = channel(QUEUE);
        let (begun, begins) = std::sync::mpsc::channel();
        let within = namespace.to_owned();
        let body = move || {
            let thread = enter(&within).and_then(|()| {
                let config = Arc::new(loaded.config);
                let identity =
                    Identity { incarnation: Incarnation(clock::random_u64()?), boot: BootId(clock::random_u64()?) };
                let heart = Cluster::new(config.clone(), identity, &Saved::default(), &[], clock::now());
                let (netlink, network, journal) = (Netlink::open()?, Neighbours::open()?, Journal::start()?);
                let machine = state::Identity { machine_id: within.clone(), product_uuid: String::new() };
                let edges = Edges::new(config, loaded.keys, places, machine, netlink, network, host, journal);
                let moves = Arc::new(AtomicU64::new(0));
                stand_in(&moves);
                Ok(BeatThread::new(heart, edges, inbox, Arc::default(), moves))
            });
            match thread {
                Ok(thread) => {
                    drop(begun.send(Ok::<(), io::Error>(())));
                    thread.run(Vec::new());
                }
                Err(error) => drop(begun.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new().name(format!("{cluster}-{node}")).spawn(body)?;
        begins.recv()??;
        Ok(Neighbour { cluster: cluster.into(), node, root, beat, orders, requests: 0, thread: Some(thread) })
    }

    pub fn status(&mut self) -> Result<Status> {
        self.requests += 1;
        let wanted = RequestId(self.requests);
        self.beat.send(ToBeat::Status { request: wanted });
        wait_for(&format!("the status of {} in {}", self.node, self.cluster), ANSWER_WITHIN, || {
            loop {
                if let ToHost::Status { request, status } = self.orders.try_recv().ok()?
                    && request == wanted
                {
                    return Some(*status);
                }
            }
        })
    }

    /// What this node says of its only peer.
    pub fn peer_state(&mut self) -> Result<String> {
        let peers = self.status()?.nodes.into_iter().find(|node| !node.me);
        Ok(peers.ok_or("it has no peer")?.state)
    }

    /// Its only link.
    pub fn link(&mut self) -> Result<LinkStatus> {
        self.status()?.links.into_iter().next().ok_or_else(|| "it has no link".into())
    }

    /// Ends without a word, as a node without power does.
    pub fn end(&mut self) {
        self.beat.send(ToBeat::ExitLeavingGroups);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.root);
        // The last one clears the place.
        let _ = fs::remove_dir(Path::new(LAB).join("neighbours"));
    }
}
