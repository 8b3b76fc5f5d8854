//! Requests by UDP (BEP 15).

use std::net::SocketAddr;

use super::Server;
use crate::metrics::labels::DatagramDrop;

impl Server {
    /// Answers a datagram from `from`: the length of the reply in `out`, or why there is none.
    pub fn answer_datagram(
        &mut self,
        from: SocketAddr,
        request: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DatagramDrop> {
        let _ = (from, request, out);
        Err(DatagramDrop::Malformed)
    }
}
