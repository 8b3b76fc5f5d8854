//! Trackers with certificates, and a control: every client refuses a tracker whose root it does not
//! trust.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::clients::{ClientProgram, Share};
use super::{
    LeechFrom, SEEDER_MAX, Scheme, Transfer, announce_url, missing, start_tracker, wait_until,
    write_random_file,
};
use crate::support::authority::{Authority, KeyKind};
use crate::support::network::{Family, Network};
use crate::support::requirements::{TempDir, can_run};

/// The authority of a network's trackers.
pub(crate) struct Trust(Authority);

impl Trust {
    /// Creates an authority with a certificate for a tracker at this address.
    pub(crate) fn new(address: IpAddr) -> Trust {
        let authority = Authority::new(&[address]);
        authority.issue("tracker", KeyKind::P256);
        Trust(authority)
    }

    /// The root certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.root()
    }

    /// The `[tls]` table of a tracker that listens on this address.
    pub(crate) fn tls_table(&self, address: SocketAddr) -> String {
        let [chain, key] = ["tracker.pem", "tracker.key"].map(|file| self.0.path(file));
        format!(
            "[tls]\nlisten = [\"{address}\"]\n\
             certificates = [{{ chain = {chain:?}, key = {key:?} }}]\n"
        )
    }
}

/// What a client logs about a certificate that it does not trust.
fn complaint(client: ClientProgram) -> &'static str {
    match client {
        ClientProgram::Aria2 => "not signed by known authorities",
        ClientProgram::Transmission => "SSL certificate problem",
        ClientProgram::Libtorrent => "certificate verify failed",
        ClientProgram::Rtorrent => "SSL peer certificate or SSH remote key was not OK",
        ClientProgram::Ctorrent => unreachable!("it does not speak TLS"),
    }
}

#[test]
fn unknown_roots_are_not_trusted() {
    if !can_run("the control of the transfers with HTTPS", &missing()) {
        return;
    }
    let scratch = TempDir::new("strangers");
    let clients = ClientProgram::WITH_TLS;
    let network = Network::new("strangers", &[Family::V4], clients.len() as u8);
    let trust = Trust::new(network.hub_address());
    let tracker = start_tracker(&network, "auto", Some(&trust));
    // The scrapes trust the root, the clients do not.
    let transfer = Transfer {
        network: &network,
        announce: announce_url(&tracker, Scheme::Https),
        trusted: Some(trust.root()),
        hosts: (0, 1),
        directory: scratch.path(),
        start: LeechFrom::Torrent,
    };
    let torrent = scratch.path().join("file.torrent");
    let mut peers = Vec::new();
    let mut info_hash = String::new();
    for (client, host) in clients.into_iter().zip(0..) {
        let share = transfer.share(&format!("{client:?}"), &torrent);
        fs::create_dir_all(&share.content).expect("a directory");
        let file = share.content.join(share.file);
        if info_hash.is_empty() {
            write_random_file(&file).expect("a file");
            info_hash = transfer.make_torrent(&file, &torrent, 64 * 1024).expect("a torrent");
        }
        let share = Share { trusted: None, ..share };
        peers.push((client, client.start(&network, host, &share)));
    }
    for (client, peer) in &mut peers {
        let complained = wait_until(SEEDER_MAX, || peer.has_said(complaint(*client)));
        assert!(complained, "{client:?}: {}", peer.last_words());
    }
    let known = transfer.scrape(&info_hash).expect("a scrape");
    assert_eq!(known.all(), 0, "somebody announced to a tracker that nobody vouches for");
}
