//! What a TLS handshake alone costs the server: rustls on both sides, in memory, and only the
//! server's side is timed. No server that uses rustls can do with less.

use std::env;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind, version};
use serde::{Deserialize, Serialize};

use crate::Helper;
use crate::process::{LOAD_CPU, SERVER_CPU, pinned, stop};
use crate::tls::{self, client_config, provider};

/// Measures in this process and prints the median, nanoseconds. Its arguments are the microseconds
/// of the pauses and the number of handshakes.
pub const HELPER: Helper = ("measure-handshakes", |arguments| {
    let [pause_us, count] = arguments else { bail!("two numbers are needed") };
    println!("{}", median(Duration::from_micros(pause_us.parse()?), count.parse()?)?.as_nanos());
    Ok(())
});

/// Handshakes of one measurement, and before it, to fill the caches; and those of the process that
/// keeps the other CPU busy, which is stopped long before.
const HANDSHAKES: usize = 3000;
const WARM_UP_HANDSHAKES: usize = 200;
const BUSY_HANDSHAKES: usize = 100 * HANDSHAKES;

/// Idle time before each flight of the second measurement. A slow client spends far longer on its
/// side of a handshake than the server does; then the server's CPU idles about as long between two
/// flights, and finds its caches and its clock cold.
pub const PAUSE: Duration = Duration::from_micros(200);

/// Flights of the client in a full TLS 1.3 handshake, and room for one of the server's.
const CLIENT_FLIGHTS: usize = 2;
const FLIGHT_BYTES: usize = 8 * 1024;

/// The median cost of a handshake to the server, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BareHandshake {
    /// One after another.
    pub back_to_back_ns: f64,
    /// With a [`PAUSE`] before each of the client's flights.
    pub paused_ns: f64,
    /// One after another, while the load's CPU does the same. Where two virtual CPUs are two
    /// threads of one core, as on most rented machines, each slows the other.
    pub beside_load_ns: f64,
}

impl BareHandshake {
    /// Measures in processes of their own on the server's CPU.
    pub fn measure() -> Result<BareHandshake> {
        let (back_to_back_ns, paused_ns) =
            (median_of_process(Duration::ZERO)?, median_of_process(PAUSE)?);
        let mut busy = helper(LOAD_CPU, Duration::ZERO, BUSY_HANDSHAKES)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let beside_load_ns = median_of_process(Duration::ZERO);
        stop(&mut busy);
        Ok(BareHandshake { back_to_back_ns, paused_ns, beside_load_ns: beside_load_ns? })
    }
}

fn helper(cpu: u32, pause: Duration, count: usize) -> Result<Command> {
    let mut command = pinned(cpu, env::current_exe()?);
    command.args([HELPER.0, &pause.as_micros().to_string(), &count.to_string()]);
    Ok(command)
}

fn median_of_process(pause: Duration) -> Result<f64> {
    let output = helper(SERVER_CPU, pause, HANDSHAKES)?.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    printed.trim().parse().with_context(|| format!("no handshakes: {printed}{complaint}"))
}

fn median(pause: Duration, count: usize) -> Result<Duration> {
    let (server, client) = (server_config()?, client_config()?);
    let mut costs = Vec::with_capacity(count);
    for number in 0..WARM_UP_HANDSHAKES + count {
        let cost = shake_hands(&server, &client, pause)?;
        if number >= WARM_UP_HANDSHAKES {
            costs.push(cost);
        }
    }
    costs.sort_unstable();
    Ok(costs[count / 2])
}

fn server_config() -> Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_file(tls::file(tls::CHAIN))?];
    let key = PrivateKeyDer::from_pem_file(tls::file(tls::KEY))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ignore_client_order = true;
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// One whole handshake. Returns the time that the server's side took, from making the connection
/// to dropping it.
fn shake_hands(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    pause: Duration,
) -> Result<Duration> {
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let (mut incoming, mut outgoing) = (Vec::new(), vec![0; FLIGHT_BYTES]);

    let started = Instant::now();
    let mut server = UnbufferedServerConnection::new(Arc::clone(server))?;
    let mut cost = started.elapsed();
    for _ in 0..CLIENT_FLIGHTS {
        while client.wants_write() {
            client.write_tls(&mut incoming)?;
        }
        if !pause.is_zero() {
            sleep(pause);
        }
        let started = Instant::now();
        let sent = answer_flight(&mut server, &mut incoming, &mut outgoing)?;
        cost += started.elapsed();
        let mut flight = &outgoing[..sent];
        while !flight.is_empty() {
            client.read_tls(&mut flight)?;
            client.process_new_packets()?;
        }
    }

    let suite = server.negotiated_cipher_suite().map(|suite| suite.suite());
    ensure!(
        !server.is_handshaking()
            && !client.is_handshaking()
            && server.handshake_kind() == Some(HandshakeKind::Full)
            && suite == Some(CipherSuite::TLS13_AES_128_GCM_SHA256)
            && client.tls13_tickets_received() == 1,
        "not a full handshake with one ticket"
    );
    let started = Instant::now();
    drop(server);
    Ok(cost + started.elapsed())
}

/// Takes what the client sent out of `incoming`, and puts what has to be sent into `outgoing`.
/// Returns how many bytes that is.
fn answer_flight(
    server: &mut UnbufferedServerConnection,
    incoming: &mut Vec<u8>,
    outgoing: &mut [u8],
) -> Result<usize> {
    let mut sent = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = server.process_tls_records(incoming);
        let waits = match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                sent += data.encode(&mut outgoing[sent..])?;
                false
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                false
            }
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
            state => bail!("not part of a handshake: {state:?}"),
        };
        incoming.drain(..discard);
        if waits {
            return Ok(sent);
        }
    }
}
