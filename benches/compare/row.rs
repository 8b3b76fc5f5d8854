//! The rows of the comparison: what is asked of every server.

/// The fault of a request that was due, in a row at a rate, and had no connection until the end: no
/// answer at all.
pub(crate) const NEVER_SENT: &str = "never-sent";

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Connections that are kept, as fast as is answered.
    Keep,
    /// One request a connection, as fast as is answered.
    Close,
    /// [`Row::Keep`] over TLS.
    TlsKeep,
    /// [`Row::Close`] over TLS: every request takes a full handshake.
    TlsClose,
    /// One request a connection, at a rate that all servers can keep.
    Latency,
    /// The same over TLS.
    TlsLatency,
}

impl Row {
    /// The rows in which the servers are asked as fast as they answer.
    pub(crate) const FULL_SPEED: [Row; 4] = [Row::Keep, Row::Close, Row::TlsKeep, Row::TlsClose];

    /// The rows with a given rate.
    pub(crate) const AT_RATE: [Row; 2] = [Row::Latency, Row::TlsLatency];

    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::Keep => "keep",
            Row::Close => "close",
            Row::TlsKeep => "tls-keep",
            Row::TlsClose => "tls-close",
            Row::Latency => "latency",
            Row::TlsLatency => "tls-latency",
        }
    }

    /// The row of a name.
    pub(crate) fn named(name: &str) -> Option<Row> {
        let mut all = Row::FULL_SPEED.into_iter().chain(Row::AT_RATE);
        all.find(|row| row.name() == name)
    }

    /// Its name in tables and charts.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Row::Keep => "Plain, keep-alive",
            Row::Close | Row::Latency => "Plain, one request a connection",
            Row::TlsKeep => "TLS 1.3, keep-alive",
            Row::TlsClose | Row::TlsLatency => {
                "TLS 1.3 (P-256), one request a connection, full handshakes"
            }
        }
    }

    /// Whether it goes over TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Row::TlsKeep | Row::TlsClose | Row::TlsLatency)
    }
}
