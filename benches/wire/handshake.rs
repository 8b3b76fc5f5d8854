//! What a TLS handshake alone costs the server: rustls on both sides, in memory, and only the
//! server's side is timed. No server that uses rustls can do with less.

use std::error::Error;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind, version};

use crate::process::{LOAD_CPU, SERVER_CPU, pinned, stop};
use crate::tls::{self, client_configuration, provider};

/// The argument with which this executable measures handshakes, before the microseconds of
/// their pauses.
pub(crate) const MEASURE_HANDSHAKES: &str = "measure-handshakes";

/// Handshakes of one measurement.
const HANDSHAKES: usize = 3000;

/// Handshakes of whoever only keeps a CPU busy: a bound on how long, if nobody stops it.
const NEIGHBOUR_HANDSHAKES: usize = 100 * HANDSHAKES;

/// Handshakes before it: the first ones fill the caches.
const WARM_UP_HANDSHAKES: usize = 200;

/// Idle time before each flight of the second measurement. The load spends far longer on its
/// side of a handshake than the server does, so the server's CPU idles about as long between
/// two flights, and finds its caches and its clock cold.
pub(crate) const PAUSE: Duration = Duration::from_micros(200);

/// Flights that the client of a full TLS 1.3 handshake sends: its hello and its Finished.
const CLIENT_FLIGHTS: usize = 2;

/// Room for what the server sends in one flight, bytes.
const FLIGHT_BYTES: usize = 8 * 1024;

/// The median cost of a handshake to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BareHandshake {
    /// Of one after another.
    pub(crate) back_to_back: Duration,
    /// With a [`PAUSE`] before each of the client's flights.
    pub(crate) paused: Duration,
    /// Of one after another, while the load's CPU does the same. Where two virtual CPUs are two
    /// threads of one core, as most that are rented, each takes from the other.
    pub(crate) beside_load: Duration,
}

impl BareHandshake {
    /// Measures in processes of their own on the server's CPU.
    ///
    /// # Errors
    ///
    /// What such a process said when a handshake failed.
    pub(crate) fn measure() -> io::Result<BareHandshake> {
        let (back_to_back, paused) =
            (median_of_process(Duration::ZERO)?, median_of_process(PAUSE)?);
        let busy = NEIGHBOUR_HANDSHAKES.to_string();
        let mut neighbour = measuring(LOAD_CPU, Duration::ZERO)?
            .arg(busy)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let beside_load = median_of_process(Duration::ZERO);
        stop(&mut neighbour);
        Ok(BareHandshake { back_to_back, paused, beside_load: beside_load? })
    }
}

/// This program on `cpu`, to measure handshakes with such pauses.
fn measuring(cpu: u32, pause: Duration) -> io::Result<Command> {
    let mut command = pinned(cpu, std::env::current_exe()?);
    command.arg(MEASURE_HANDSHAKES).arg(pause.as_micros().to_string());
    Ok(command)
}

fn median_of_process(pause: Duration) -> io::Result<Duration> {
    let output = measuring(SERVER_CPU, pause)?.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let Ok(nanos) = printed.trim().parse() else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("no handshakes: {printed}{complaint}")));
    };
    Ok(Duration::from_nanos(nanos))
}

/// Measures in this process and prints the median, nanoseconds. `arguments` are the microseconds
/// of the pauses and, if need be, the number of handshakes.
///
/// # Errors
///
/// If a handshake fails, or is not the one to be measured, or the arguments are no numbers.
pub(crate) fn print_median(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let mut numbers = arguments.iter().map(|argument| argument.parse());
    let pause = Duration::from_micros(numbers.next().unwrap_or(Ok(0))?);
    let count = numbers.next().map_or(Ok(HANDSHAKES), |count| count.map(|count| count as usize))?;
    println!("{}", median(pause, count)?.as_nanos());
    Ok(())
}

fn median(pause: Duration, count: usize) -> Result<Duration, Box<dyn Error>> {
    let (server, client) = (server_configuration()?, client_configuration()?);
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

/// One ticket, which costs a little, and no table of sessions.
fn server_configuration() -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let chain = vec![CertificateDer::from_pem_file(tls::file(tls::CHAIN))?];
    let key = PrivateKeyDer::from_pem_file(tls::file(tls::KEY))?;
    let mut configuration = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    configuration.ignore_client_order = true;
    configuration.send_tls13_tickets = 1;
    configuration.session_storage = Arc::new(NoServerSessionStorage {});
    configuration.ticketer = Ticketer::new()?;
    Ok(Arc::new(configuration))
}

/// One whole handshake. Returns the time that the server's side took, from making the
/// connection to dropping it.
fn shake_hands(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    pause: Duration,
) -> Result<Duration, Box<dyn Error>> {
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
    if server.is_handshaking()
        || client.is_handshaking()
        || server.handshake_kind() != Some(HandshakeKind::Full)
        || suite != Some(CipherSuite::TLS13_AES_128_GCM_SHA256)
        || client.tls13_tickets_received() != 1
    {
        return Err("not a full handshake with one ticket".into());
    }
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
) -> Result<usize, Box<dyn Error>> {
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
            state => return Err(format!("not part of a handshake: {state:?}").into()),
        };
        incoming.drain(..discard);
        if waits {
            return Ok(sent);
        }
    }
}
