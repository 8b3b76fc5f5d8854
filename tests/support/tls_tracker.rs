//! A tracker with HTTP and HTTPS listeners, and the authority of its certificates.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::authority::{Authority, KeyKind};
use super::tracker::{Engine, Tracker, config, has_v6, wait_for};

/// The default host name of a tracker.
pub(crate) const HOST: &str = "tracker.test";

/// A running tracker with TLS.
pub(crate) struct TlsTracker {
    /// The process; its addresses are those without TLS.
    pub(crate) tracker: Tracker,
    /// The address with TLS, IPv4.
    pub(crate) v4: SocketAddr,
    /// The address with TLS, IPv6, if the machine has IPv6.
    pub(crate) v6: Option<SocketAddr>,
    /// The authority that clients trust. It must outlive the tracker, which reads from its
    /// directory.
    pub(crate) authority: Authority,
}

impl TlsTracker {
    /// Starts a tracker of two workers with one certificate, for [`HOST`]; `tables` are added to
    /// the configuration.
    pub(crate) fn start(engine: Engine, tables: &str) -> TlsTracker {
        TlsTracker::start_with(engine, &[(HOST, KeyKind::P256)], tables)
    }

    /// The same, with certificates for these hosts.
    pub(crate) fn start_with(
        engine: Engine,
        hosts: &[(&str, KeyKind)],
        tables: &str,
    ) -> TlsTracker {
        let authority = Authority::new(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        for &(host, key) in hosts {
            authority.issue(host, key);
        }
        let names: Vec<&str> = hosts.iter().map(|&(host, _)| host).collect();
        let text = config(engine, 2, &format!("{}{tables}", tls_table(&names)));
        let mut tracker = Tracker::launch_in(authority.directory(), &text, &[]);
        let addresses = 1 + usize::from(has_v6());
        let listening = tracker.wait_ready(addresses);
        let listening = listening.and_then(|()| tracker.wait_listening(" (https)", addresses));
        let secure = listening.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
        let v6 = secure.iter().copied().find(SocketAddr::is_ipv6);
        let v4 = secure.into_iter().find(SocketAddr::is_ipv4).unwrap();
        TlsTracker { tracker, v4, v6, authority }
    }

    /// Makes the tracker reload its certificates, and waits for its log lines: one for each
    /// certificate or error.
    #[track_caller]
    pub(crate) fn reload(&self, signal: &str) -> String {
        let verdicts = |lines: &[String]| {
            let verdicts = lines.iter().filter(|line| line.contains("certificates "));
            verdicts.filter(|line| !line.contains("listening")).cloned().collect::<Vec<String>>()
        };
        let log = || self.tracker.log().lines().map(str::to_owned).collect::<Vec<String>>();
        let before = verdicts(&log()).len();
        self.tracker.signal(signal);
        wait_for(format!("the verdict on certificates after {signal}"), || {
            verdicts(&log()).get(before..).filter(|new| !new.is_empty()).map(|new| new.join("\n"))
        })
    }
}

/// The `[tls]` table with certificates of these hosts, in the files that [`Authority::issue`]
/// writes.
fn tls_table(hosts: &[&str]) -> String {
    let v6 = if has_v6() { ", \"[::1]:0\"" } else { "" };
    let file = |host: &&str| format!("{{ chain = \"{host}.pem\", key = \"{host}.key\" }}");
    let certificates: Vec<String> = hosts.iter().map(file).collect();
    let certificates = certificates.join(", ");
    format!("[tls]\nlisten = [\"127.0.0.1:0\"{v6}]\ncertificates = [{certificates}]\n")
}
