//! Where a server is reached, and how.

use std::fmt;
use std::net::SocketAddr;

/// What carries the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP alone.
    Plain,
    /// TLS 1.3.
    Tls,
}

impl Transport {
    /// Both, in the order of the tables.
    pub(crate) const ALL: [Transport; 2] = [Transport::Plain, Transport::Tls];
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Plain => "plain",
            Transport::Tls => "TLS 1.3",
        })
    }
}

/// One of a server's listeners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) transport: Transport,
}

impl Endpoint {
    /// As URLs begin.
    pub(crate) fn scheme(self) -> &'static str {
        match self.transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        }
    }
}
