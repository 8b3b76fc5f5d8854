//! Listening, and what to do where it fails.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use annulus_ring::{ListenAddress, Listener};
use anyhow::{Context, anyhow, bail};
use rustix::io::Errno;

use crate::config::{Config, overlaps};
use crate::log;
use crate::os::{Ids, InheritedSocket, SocketFile, SocketKind};

/// How often an address in use is tried again, and after which time: a second in all.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// An address that is listened on.
pub(super) struct BoundAddress {
    pub(super) address: ListenAddress,
    /// Whether the kernel chose its port.
    pub(super) is_any_port: bool,
    /// Whether its connections begin with a header of the PROXY protocol.
    pub(super) proxy_protocol: bool,
    /// The Unix socket that was made for it. Dropping this removes it.
    _file: Option<SocketFile>,
}

impl BoundAddress {
    /// One that datagrams are received at.
    pub(super) fn udp(address: SocketAddr) -> BoundAddress {
        let address = address.into();
        BoundAddress { address, is_any_port: false, proxy_protocol: false, _file: None }
    }

    /// Logs it, with these marks.
    pub(super) fn log(&self, marks: &[&str]) {
        let proxy_protocol = self.proxy_protocol.then_some("PROXY protocol");
        let marks: Vec<&str> = marks.iter().copied().chain(proxy_protocol).collect();
        match &marks[..] {
            [] => log::info(format_args!("listening on {}", self.address)),
            marks => {
                log::info(format_args!("listening on {} ({})", self.address, marks.join(", ")));
            }
        }
    }
}

/// The sockets that were passed to the program, until a configured address claims them.
pub(super) struct InheritedSockets(Vec<InheritedSocket>);

impl InheritedSockets {
    /// All that were passed, which may be none. To be called once, before anything is opened.
    pub(super) fn take() -> anyhow::Result<InheritedSockets> {
        InheritedSocket::take_all().map(InheritedSockets)
    }

    /// What `open` makes of the sockets of this address, `count` of them, if any were passed. Where
    /// there are fewer sockets they are shared, which `open` is told.
    pub(super) fn claim<T>(
        &mut self,
        kind: SocketKind,
        address: &ListenAddress,
        count: usize,
        open: impl Fn(OwnedFd, bool) -> io::Result<T>,
    ) -> anyhow::Result<Option<Vec<T>>> {
        let is_claimed = |it: &mut InheritedSocket| it.kind == kind && it.address == *address;
        let claimed: Vec<InheritedSocket> = self.0.extract_if(.., is_claimed).collect();
        let Some(InheritedSocket { name, .. }) = claimed.first() else {
            return self.check_conflict(kind, address).map(|()| None);
        };
        let (key, mark) = (kind.unit_key(), kind.mark());
        if claimed.len() > count {
            bail!(
                "{} sockets were passed for {address}{mark} ({name}), but there are {count} \
                 workers, and clients of the others would never be served: repeat the {key} of its \
                 .socket unit as often as there are workers at most, or set `workers`",
                claimed.len()
            );
        }
        log::info(format_args!("{address}{mark} was passed ({name})"));
        let shared = claimed.len() < count;
        let sockets = claimed.iter().cycle().take(count);
        let opened: io::Result<Vec<T>> =
            sockets.map(|it| open(it.socket.try_clone()?, shared)).collect();
        let cause = || format!("cannot share the socket passed for {address}{mark}");
        opened.map(Some).with_context(cause)
    }

    /// Fails if a socket that was passed prevents listening on `address`: the kernel would only say
    /// that it is in use.
    fn check_conflict(&self, kind: SocketKind, address: &ListenAddress) -> anyhow::Result<()> {
        let mut alike = self.0.iter().filter(|inherited| inherited.kind == kind);
        let conflict = alike.find(|inherited| overlaps(&inherited.address, address));
        let Some(InheritedSocket { address: passed, name, .. }) = conflict else { return Ok(()) };
        let (key, mark) = (kind.unit_key(), kind.mark());
        bail!(
            "cannot listen on {address}{mark}: a socket was passed for {passed}{mark} ({name}), \
             and one includes the other: write the same address in the configuration and in the \
             {key} of the .socket unit"
        )
    }

    /// Fails if a socket is left that no configured address has claimed: its clients would wait for
    /// ever.
    pub(super) fn check_all_claimed(self) -> anyhow::Result<()> {
        let Some(InheritedSocket { kind, address, name, .. }) = self.0.first() else {
            return Ok(());
        };
        let (key, mark) = (kind.unit_key(), kind.mark());
        let keys = match kind {
            SocketKind::Connections => "`listen`, `tls.listen` or `operations.listen`",
            SocketKind::Datagrams => "`udp.listen`",
        };
        bail!(
            "a socket was passed for {address}{mark} ({name}), on which the configuration does not \
             listen: add it to {keys}, or take its {key} out of the .socket unit"
        )
    }
}

/// How the addresses of a list are listened on.
#[derive(Clone, Copy)]
pub(super) struct ListenOptions<'a> {
    pub(super) config: &'a Config,
    /// The owner of new Unix sockets, if it is not the user of this process.
    pub(super) owner: Option<Ids>,
    /// Whether a machine without IPv6 may do without an address of this list.
    pub(super) optional: bool,
}

impl ListenOptions<'_> {
    /// Listens on every address, with one listener for each of `groups`: on sockets that were
    /// passed, and else on new ones.
    pub(super) fn listen(
        self,
        addresses: &[ListenAddress],
        inherited: &mut InheritedSockets,
        groups: &mut [Vec<Listener>],
    ) -> anyhow::Result<Vec<BoundAddress>> {
        let mut bound = Vec::new();
        let count = groups.len();
        let mut claim =
            |address| inherited.claim(SocketKind::Connections, address, count, Listener::inherited);
        for configured in addresses {
            let (address, file, listeners) = match claim(configured)? {
                Some(listeners) => (configured.clone(), None, listeners),
                None => match configured {
                    ListenAddress::Unix(path) => {
                        let made = retry(|| SocketFile::bind(path, count, self.owner));
                        let (file, listeners) =
                            made.map_err(|error| failure(configured, &error, unix_cure(&error)))?;
                        (configured.clone(), Some(file), listeners)
                    }
                    ListenAddress::Tcp(tcp) => match retry(|| Listener::bind_group(*tcp, count)) {
                        Ok((address, listeners)) => (address.into(), None, listeners),
                        Err(error) if self.optional && is_without_ipv6(*tcp, &error) => {
                            log::warning(format_args!(
                                "not listening on {tcp}: this machine has no IPv6"
                            ));
                            continue;
                        }
                        Err(error) => bail!(failure(configured, &error, tcp_cure(&error))),
                    },
                },
            };
            let proxy_protocol = self.config.proxy.protocol_listen.contains(configured);
            let is_any_port = configured.tcp().is_some_and(|it| it.port() == 0);
            bound.push(BoundAddress { address, is_any_port, proxy_protocol, _file: file });
            groups.iter_mut().zip(listeners).for_each(|(group, it)| group.push(it));
        }
        Ok(bound)
    }
}

/// Retries while the address is in use: a tracker that was killed a moment ago holds its port until
/// the kernel has taken its ring apart.
#[expect(clippy::disallowed_methods, reason = "at start, before any worker runs")]
pub(super) fn retry<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BIND_TRIES {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    bind()
}

pub(super) fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let unavailable = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT].map(|it| Some(it.raw_os_error()));
    address.is_ipv6()
        && address.ip().is_unspecified()
        && unavailable.contains(&error.raw_os_error())
}

fn failure(address: &ListenAddress, error: &io::Error, cure: &str) -> anyhow::Error {
    anyhow!("cannot listen on {address}: {error}: {cure}")
}

fn unix_cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, perhaps another annulus, listens there: stop it, or choose another \
             path with `listen`"
        }
        ErrorKind::AlreadyExists => {
            "there is a file that is not a socket: remove it, or choose another path with `listen`"
        }
        ErrorKind::NotFound => {
            "make its directory first (RuntimeDirectory= of a systemd unit does)"
        }
        ErrorKind::PermissionDenied => {
            "the directory must be one that the tracker's user may write to, and so must a socket \
             that is there already"
        }
        _ => "check `listen`",
    }
}

fn tcp_cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, perhaps another annulus, listens there: stop it, or choose \
             another address with `listen` (two trackers on one port would split every swarm)"
        }
        ErrorKind::PermissionDenied => {
            "ports below net.ipv4.ip_unprivileged_port_start (1024 by default) need \
             CAP_NET_BIND_SERVICE"
        }
        ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "check `listen`",
    }
}
