//! Trackers with certificates, and the control of the transfers by them: every client refuses
//! a tracker that nobody whom it trusts has vouched for.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::clients::{Client, Share};
use super::network::{Family, Network};
use super::{
    SEEDER_MAX, Scheme, Start, Transfer, announce_url, missing, start_tracker, wait_until,
    write_random_file,
};
use crate::support::authority::{Authority, KeyKind};
use crate::support::requirements::{TempDir, can_run};

/// What vouches for the trackers of a network.
pub(crate) struct Trust(Authority);

impl Trust {
    /// Certificates for trackers at an address.
    pub(crate) fn new(address: IpAddr) -> Trust {
        let authority = Authority::new(&[address]);
        authority.issue("tracker", KeyKind::P256);
        Trust(authority)
    }

    /// The file that a client must be given to believe it.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.root()
    }

    /// The table of a tracker's configuration with which it listens there.
    pub(crate) fn tls_table(&self, address: SocketAddr) -> String {
        let [chain, key] = ["tracker.pem", "tracker.key"].map(|file| self.0.path(file));
        format!(
            "[tls]\nlisten = [\"{address}\"]\n\
             certificates = [{{ chain = {chain:?}, key = {key:?} }}]\n"
        )
    }
}

/// What a client says of a certificate that it does not trust.
fn complaint(client: Client) -> &'static str {
    match client {
        Client::Aria2 => "not signed by known authorities",
        Client::Transmission => "SSL certificate problem",
        Client::Libtorrent => "certificate verify failed",
        Client::Rtorrent => "SSL peer certificate or SSH remote key was not OK",
        Client::Ctorrent => unreachable!("it does not speak TLS"),
    }
}

#[test]
fn strangers_are_not_trusted() {
    if !can_run("the control of the transfers with HTTPS", &missing()) {
        return;
    }
    let scratch = TempDir::new("strangers");
    let clients = Client::WITH_TLS;
    let network = Network::new("strangers", Family::V4, clients.len() as u8);
    let trust = Trust::new(network.hub_address());
    let tracker = start_tracker(&network, "auto", Some(&trust));
    // The scrapes trust it, and the clients do not.
    let transfer = Transfer {
        network: &network,
        announce: announce_url(&tracker, Scheme::Https),
        trusted: Some(trust.root()),
        hosts: (0, 1),
        directory: scratch.path(),
        start: Start::Torrent,
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
