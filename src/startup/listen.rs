//! Listening, and why it cannot be had.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use annulus_ring::{Ids, Inherited, ListenAddress, Listener, SocketFile};

use crate::config::{Config, collide};
use crate::log;

/// How often a port in use is tried again, and how long after: a second in all.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// EAFNOSUPPORT of Linux, on every architecture.
const EAFNOSUPPORT: i32 = 97;

/// An address that is listened on.
pub(super) struct Bound {
    pub(super) address: ListenAddress,
    /// Whether connections to it begin with a header of the PROXY protocol.
    pub(super) introduced: bool,
    /// The Unix socket that was made for it, which goes with this.
    _file: Option<SocketFile>,
}

/// The sockets that were passed to the program, until a configured address claims them.
pub(super) struct InheritedSockets(Vec<Inherited>);

impl InheritedSockets {
    /// All that were passed, which may be none. To be called once, before anything is opened.
    pub(super) fn take() -> Result<InheritedSockets, String> {
        Inherited::take().map(InheritedSockets)
    }

    /// Listeners over the sockets of this address, one for each of `workers`, if any were passed.
    fn claim(
        &mut self,
        address: &ListenAddress,
        workers: usize,
    ) -> Result<Option<Vec<Listener>>, String> {
        let claimed: Vec<Inherited> =
            self.0.extract_if(.., |inherited| inherited.address == *address).collect();
        let Some(Inherited { name, .. }) = claimed.first() else {
            return self.leave_room(address).map(|()| None);
        };
        if claimed.len() > workers {
            return Err(format!(
                "{} sockets were passed for {address} ({name}), but there are {workers} workers, \
                 and connections to the others would never be accepted: repeat the ListenStream= \
                 of its .socket unit as often as there are workers at most, or set `workers`",
                claimed.len()
            ));
        }
        log::info(format_args!("{address} was passed ({name})"));
        Inherited::spread(&claimed, workers)
            .map(Some)
            .map_err(|error| format!("cannot share the socket passed for {address}: {error}"))
    }

    /// Fails if a socket that was passed keeps us from listening on `address` ourselves: the
    /// kernel would only say that somebody does.
    fn leave_room(&self, address: &ListenAddress) -> Result<(), String> {
        let in_the_way = self.0.iter().find(|inherited| collide(&inherited.address, address));
        let Some(Inherited { address: passed, name, .. }) = in_the_way else { return Ok(()) };
        Err(format!(
            "cannot listen on {address}: a socket was passed for {passed} ({name}), and one \
             includes the other: write the same address in the configuration and in the \
             ListenStream= of the .socket unit"
        ))
    }

    /// To be called when all configured addresses have claimed what is theirs: a socket that
    /// nobody accepts from would leave its clients waiting.
    pub(super) fn all_claimed(self) -> Result<(), String> {
        let Some(Inherited { address, name, .. }) = self.0.first() else { return Ok(()) };
        Err(format!(
            "a socket was passed for {address} ({name}), on which the configuration does not \
             listen: add it to `listen`, `tls.listen` or `operations.listen`, or take its \
             ListenStream= out of the .socket unit"
        ))
    }
}

/// Adds listeners on every address, one to each worker's `groups`: those that were passed, and
/// our own for the others. Returns the addresses bound. `alone`: these addresses are all there
/// are. Unix sockets are made for `owner`, or whoever runs the program.
pub(super) fn listen(
    config: &Config,
    addresses: &[ListenAddress],
    passed: &mut InheritedSockets,
    groups: &mut [Vec<Listener>],
    alone: bool,
    owner: Option<Ids>,
) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for address in addresses {
        let introduced = config.proxy.protocol_listen.contains(address);
        let (at, file, listeners) = match passed.claim(address, groups.len())? {
            Some(listeners) => (address.clone(), None, listeners),
            None => match address {
                ListenAddress::Unix(path) => {
                    let made = patiently(|| SocketFile::bind(path, groups.len(), owner));
                    let (file, listeners) = made.map_err(|error| explain_unix(path, &error))?;
                    (address.clone(), Some(file), listeners)
                }
                ListenAddress::Tcp(address) => {
                    match patiently(|| Listener::bind_group(*address, groups.len())) {
                        Ok((address, listeners)) => (address.into(), None, listeners),
                        // A machine without IPv6 has "all IPv6 addresses" served by having none.
                        Err(error)
                            if no_ipv6(*address, &error) && !(alone && addresses.len() == 1) =>
                        {
                            log::warning(format_args!(
                                "not listening on {address}: this machine has no IPv6"
                            ));
                            continue;
                        }
                        Err(error) => return Err(explain_listen(*address, &error)),
                    }
                }
            },
        };
        bound.push(Bound { address: at, introduced, _file: file });
        for (group, listener) in groups.iter_mut().zip(listeners) {
            group.push(listener);
        }
    }
    Ok(bound)
}

/// Binds, with some patience: a tracker that was killed a moment ago still holds its port
/// until the kernel has taken its ring apart.
fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BIND_TRIES {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    bind()
}

fn explain_unix(path: &Path, error: &io::Error) -> String {
    let cure = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, perhaps another annulus, listens there: stop it, or choose another \
             path with `listen`"
        }
        ErrorKind::AlreadyExists => {
            "there is a file that is no socket: remove it, or choose another path with `listen`"
        }
        ErrorKind::NotFound => {
            "make its directory first (RuntimeDirectory= of a systemd unit does)"
        }
        ErrorKind::PermissionDenied => {
            "the directory must be one that the tracker's user may write to, and so must a socket \
             that is there already"
        }
        _ => "check `listen`",
    };
    format!("cannot listen on unix:{}: {error}: {cure}", path.display())
}

fn no_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let unavailable =
        error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT);
    address.is_ipv6() && address.ip().is_unspecified() && unavailable
}

fn explain_listen(address: SocketAddr, error: &io::Error) -> String {
    let cure = match error.kind() {
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
    };
    format!("cannot listen on {address}: {error}: {cure}")
}
