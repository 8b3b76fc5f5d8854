//! Every bound of the program, with its unit and its reason.

/// Bytes of a request line, with its line end. A longer one gets 414, or if it begins like an
/// announce or a scrape, a failure that names the bound. The longest of a real client is
/// Transmission's scrape of 64 hashes, 4076 bytes.
pub const REQUEST_LINE_BYTES_MAX: usize = 12 * 1024;

/// Bytes of a request's head, with request line and blank line. A larger one gets 431. CDNs add
/// some twenty headers, 2 KiB at most.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a PROXY protocol header of version 2; a longer one is refused. Addresses take 36;
/// balancers add names and certificate subjects, a few hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Upper bound of `swarms.max_peers_per_address`: all of them are compared to find the oldest,
/// which takes some microseconds in a large swarm.
pub const PEERS_PER_ADDRESS_MAX: u32 = 1000;

/// Header lines of a request; more get 431.
pub const HEADERS_MAX: usize = 128;

const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX >= 8 * 1024 && HEADERS_MAX >= 64);

/// Bytes of one receive buffer: the longest request of a real client (4076 bytes) is parsed where
/// the kernel put it.
pub const RECV_BUFFER_BYTES: u32 = 4096;

/// Receive buffers of one worker, 1 MiB if all are used: as many requests as one turn may find
/// waiting. Further bytes stay in their sockets until the next turn.
pub const RECV_BUFFERS: u16 = 256;

/// Bytes of one response, with its head. A configuration that allows longer ones is rejected.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of responses that are collected for pipelined requests before they are sent, besides room
/// for the longest one: some twenty announces.
pub const RESPONSE_BATCH_BYTES: usize = 16 * 1024;

/// Peers in one response: as many as fit into [`RESPONSE_BYTES_MAX`].
pub const NUMWANT_MAX: usize = 1068;

/// Torrents in one scrape: as many as fit into a request line, with every byte of an info hash
/// percent-encoded, and into [`RESPONSE_BYTES_MAX`]. Transmission sends 64 in one request.
pub const SCRAPE_TORRENTS_MAX: usize = 172;

/// Bytes of the URL that `/` redirects to.
pub const LOCATION_BYTES_MAX: usize = 1024;

/// Bytes of one worker's buffer for the responses of one turn: at least two batches.
pub const ARENA_BYTES: usize = 512 * 1024;

/// Bytes that a connection may have sent beyond the request being answered. A client that pipelines
/// without reading gets there, and is not received from for a while.
pub const UNREAD_BYTES_PAUSE: usize = 16 * 1024;

/// Bytes allocated for them above which the connection is reset: the pause, what one turn can
/// deliver before it takes effect (every buffer; a multishot receive takes 64 at a time on Linux
/// 6.18), and a quarter for allocation ahead. A client that reads its responses never gets there.
pub const UNREAD_BYTES_MAX: usize =
    (UNREAD_BYTES_PAUSE + RECV_BUFFERS as usize * RECV_BUFFER_BYTES as usize) / 4 * 5;

/// Bytes that all connections of one worker may have allocated for unanswered requests and unread
/// responses; beyond that, those that hold most are reset. Enough for 8,000 unfinished requests of
/// a kilobyte, and little beside the swarms on a small machine.
pub const BUFFERED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that they may have allocated afterwards: the difference must arrive before connections are
/// compared again.
pub const BUFFERED_BYTES_AFTER: usize = BUFFERED_BYTES_MAX / 4 * 3;

/// Bytes of responses in one turn after which buffered requests wait for the next, which knows how
/// many of the responses must be kept because their clients do not read.
pub const RESPONSE_BYTES_PER_TURN: usize = 4 * 1024 * 1024;

/// Seconds for which received bytes are dropped after the client has acknowledged all responses:
/// closing at once would make the kernel answer them with RST, which can destroy the last response
/// (RFC 9112 section 9.6).
pub const LINGER_S: u32 = 2;

/// Seconds between two checks of how much a slow client has acknowledged.
pub const PROGRESS_CHECK_S: u32 = 1;

/// Bytes a second that a client must acknowledge, on average over `send_timeout`, to keep its
/// connection. The slowest links have ten times as much. Without this bound a byte a minute would
/// hold a connection and megabytes of the kernel's memory for ever; with it the longest response
/// takes nine minutes.
pub const SEND_BYTES_PER_S_MIN: u32 = 128;

/// Bytes that may be unacknowledged when a connection is closed: so few fit into any client's first
/// window and are already sent. More may still be queued, and the kernel drops the queue of a
/// closed socket if the client sends anything.
pub const UNACKED_AT_CLOSE_MAX: usize = 4096;

/// Full scrapes that one worker sends at once; further ones fail. Each keeps at most 3 MB of info
/// hashes and counts.
pub const FULL_SCRAPES_MAX: usize = 8;

/// Seconds after `shutdown_timeout` for sending errors to clients in the middle of a request.
pub const SHUTDOWN_ERRORS_S: u32 = 2;

/// Bytes that are dropped while lingering before the connection is reset.
pub const LINGER_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Descriptors kept free for the log, reloaded files, /proc and the admin connections.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors of one worker besides its listeners: ring or epoll, timer, waker, some to spare.
pub const DESCRIPTORS_PER_WORKER: u64 = 6;

/// Seven eighths of the connection limit: beyond that, responses close their connections, so that
/// there is room for new ones before the limit is reached.
pub const fn nearly_all(connections_max: usize) -> usize {
    connections_max - connections_max / 8
}

/// Connections accepted in one turn, some 30 µs each with their first response. More wait in the
/// kernel, so that open connections wait a few milliseconds at most. Far fewer than receive
/// buffers, or new connections would use them all.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

const _: () = assert!(ACCEPTS_PER_TURN_MAX * 2 <= RECV_BUFFERS as usize);

/// Peers in the swarms from which on what requests need of them is prefetched. With 60,000 it saves
/// a thirtieth of an announce by UDP, for the kernel's work between two turns takes the processor's
/// caches; with 10,000 it saves nothing.
pub const PREFETCH_PEERS_MIN: u64 = 20_000;

/// The same for records of other nodes, whose thread has its caches for itself: with a million
/// peers it saves a third of a record, with 10,000 it costs as much again. Unit tests always do it.
pub const PREFETCH_RECORDS_PEERS_MIN: u64 = if cfg!(test) { 1 } else { 300_000 };

/// The same for scrapes, which need less memory: with ten million peers it saves two fifths of a
/// torrent, with one million it costs a seventh.
pub const PREFETCH_SCRAPES_PEERS_MIN: u64 = if cfg!(test) { 1 } else { 3_000_000 };

/// Requests answered in one turn, one or two microseconds each: only pipelining on many connections
/// exceeds it. Further requests wait for the next turn, connection by connection.
pub const REQUESTS_PER_TURN_MAX: u32 = 1024;

/// Expired deadlines handled in one turn: connections that came together expire together.
pub const DEADLINES_PER_TURN_MAX: usize = 256;

/// Events in a turn from which on those of known connections are handled before those of new ones;
/// sorting fewer is not worth it.
pub const EVENTS_SORTED_MIN: usize = 64;

/// Connections closed in one turn to make room for new ones, which takes the kernel a millisecond.
pub const EVICTIONS_PER_TURN_MAX: usize = 64;

/// While others wait for its connection, a client has this part of its time (one in so many) for a
/// handshake or first request: well-behaved clients need a fraction of a second.
pub const UNANSWERED_SHARE: u32 = 4;

/// Seconds between two warnings of one cause that clients can provoke.
pub const LOG_PAUSE_S: u32 = 10;

/// Bytes of a log line; the rest is cut. The longest line names all hosts of a certificate of
/// [`CHAIN_BYTES_MAX`]; the journal cuts at 48 KiB (journald.conf(5), LineMax=).
pub const LOG_LINE_BYTES_MAX: usize = 32 * 1024;

/// Bytes of log lines that wait to be written; beyond that, lines are dropped and counted. These
/// are some thousand lines: enough for the restart of the program that reads them.
pub const LOG_QUEUE_BYTES_MAX: usize = 256 * 1024;

/// Seconds for which the end of the process waits until the last lines are written: a reader on a
/// busy machine takes some time, and a stop should not take long.
pub const LOG_FLUSH_S_MAX: u64 = 3;

const _: () = assert!(LOG_LINE_BYTES_MAX > CHAIN_BYTES_MAX);
const _: () = assert!(LOG_QUEUE_BYTES_MAX > 2 * LOG_LINE_BYTES_MAX);

/// Percent of the announce interval that is added at random, so that clients that start together do
/// not announce together for ever.
pub const INTERVAL_SPREAD_PERCENT: u32 = 10;

/// Seconds that a peer is kept after the longest interval that it can have been given, for its next
/// announce may need a retry.
pub const PEER_TIMEOUT_GRACE_S: u32 = 60;

/// Worker threads: more than the cores of the largest machines are a typing error.
pub const WORKERS_MAX: usize = 256;

/// Addresses to listen on. Every worker opens a socket for each.
pub const LISTENERS_MAX: usize = 64;

/// Bytes of the path of a Unix socket: as many as its address holds beside the NUL (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Bytes of a configuration file. A real one has a few hundred; the bound keeps a wrong
/// path (a log, a device) from filling memory.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;

/// Errors listed of a configuration file. More than these mean that it is some other file.
pub const CONFIG_ERRORS_MAX: usize = 100;

/// Bytes of a file with a certificate chain or a key. A long one has ten thousand; the bound
/// keeps a wrong path from filling memory.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Bytes of the certificates that one client is sent: what a handshake sends at once has to
/// fit one send buffer. Usual chains have 2 to 5 KiB.
pub const CHAIN_BYTES_MAX: usize = 16 * 1024;

/// Certificates are warned about when this part of their life (one in so many) is left: renewal
/// tools have begun by then, and some certificates live for six days.
pub const CERTIFICATE_NOTICE_PARTS: i64 = 3;

/// Seconds before a certificate's end at which it is warned about at the earliest: 30 days, a third
/// of a life of 90.
pub const CERTIFICATE_NOTICE_S_MAX: i64 = 30 * 86_400;

/// Seconds between two checks of the certificates in use, and so the delay with which a step of the
/// clock is noticed.
pub const CERTIFICATE_LOOK_S_MAX: u64 = 60;

/// Info hashes of an access list: a gigabyte in memory, more torrents than any tracker has. Keeps a
/// wrong path from filling memory.
pub const ACCESS_ENTRIES_MAX: usize = 50_000_000;

/// Bytes of a line of an access list, its end not included: an info hash and a long comment.
pub const ACCESS_LINE_BYTES_MAX: usize = 1024;

/// Bad lines of an access list that are reported one by one.
pub const ACCESS_BAD_LINES_SHOWN: usize = 20;

/// Bytes of /etc/passwd and /etc/group: a hundred thousand accounts. The bound keeps what is no
/// such file from filling memory.
pub const ACCOUNTS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Seconds that the file broker has to open all files of a reload, each of which takes microseconds
/// on a local disk.
pub const FILE_BROKER_TIMEOUT_S: u64 = 10;

/// Seconds after which the log says that a reload is still reading.
pub const RELOAD_SLOW_S: u32 = 10;

/// Seconds after which a reload is given up, whatever it reads. The longest list that is read,
/// [`ACCESS_ENTRIES_MAX`], has two gigabytes.
pub const RELOAD_S_MAX: u32 = 40;

const _: () = assert!(RELOAD_SLOW_S < RELOAD_S_MAX && FILE_BROKER_TIMEOUT_S < RELOAD_S_MAX as u64);

/// Symbolic links that are followed in a path, as in the kernel.
pub const SYMLINKS_MAX: usize = 40;

/// Servers of a cluster that are tried in turn: a primary and its replicas.
pub const CLUSTER_SERVERS_MAX: usize = 16;

/// Addresses of one name of a server that are tried.
pub const CLUSTER_ADDRESSES_MAX: usize = 16;

/// Bytes of the name of a cluster's channel. Nodes have channels of their own, with 17 more.
pub const CLUSTER_CHANNEL_BYTES_MAX: usize = 64;

/// Bytes of a user name and of a password of a server. Generated ones have 32 or 64.
pub const CREDENTIAL_BYTES_MAX: usize = 512;

/// Bytes of a file with credentials, of which the first line is read. The bound keeps a wrong path
/// from filling memory.
pub const CREDENTIALS_FILE_BYTES_MAX: u64 = 4096;

/// Bytes of a host name (RFC 1035 section 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 253;

/// Bytes of a file with the certificates of authorities: those of all public ones have 230 KB.
pub const AUTHORITIES_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of the records that a worker collects in a turn: two announced addresses for each of
/// [`REQUESTS_PER_TURN_MAX`].
pub const OUTBOX_BYTES: usize = 80 * 1024;

/// Bytes of the records that a worker has handed over and the publisher's thread has not taken:
/// what 100,000 announces a second are in 190 ms. The thread comes every 20.
pub const OUTBOX_SLOT_BYTES: usize = 512 * 1024;

/// Seconds that the cluster's server has to accept a connection, to answer, and to take bytes; and
/// that a node waits for its own messages to come back before it takes the connection for dead.
pub const CLUSTER_TIMEOUT_S: u64 = 5;

/// Seconds after which a node that is not heard counts as gone: each says hello once a second.
pub const CLUSTER_NODE_SILENCE_S: u32 = 5;

/// Seconds that a stop waits for the last records to be published.
pub const CLUSTER_STOP_S_MAX: u64 = 2;

/// Bytes of a message of the cluster's server that are read at most. A frame has 64 KiB; a longer
/// message is no frame.
pub const CLUSTER_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a TLS record before encryption (RFC 8446 section 5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of incomplete TLS records of a client: a record of TLS 1.2 with its largest expansion (RFC
/// 5246 section 6.2.3), and a receive buffer.
pub const UNFINISHED_RECORDS_BYTES_MAX: usize = RECORD_BYTES_MAX + 2048 + 5 + 4096;

/// Bytes that a TLS handshake sends at once: the certificates, and 4 KiB for the messages around
/// them, whose keys and signatures may have a kilobyte each.
pub const FLIGHT_BYTES_MAX: usize = CHAIN_BYTES_MAX + 4 * 1024;

/// Bytes of a session ticket that waits for the first response; a usual one has 250.
pub const TICKET_BYTES_MAX: usize = 512;

/// Seconds, about, that a TLS 1.3 Finished stays unread, to be received with the request that
/// mostly follows at once.
pub const FINISHED_WAIT_S: u32 = 1;

/// Costly handshake steps in one turn, 60 to 100 µs each: hellos, second hellos, key exchanges.
/// More wait for the next turn, so that plain requests wait a millisecond at most.
pub const HANDSHAKES_PER_TURN_MAX: u32 = 8;

/// Sets of the table of rate-limited addresses, 128 bytes and 7 addresses each: 16 MiB for 917,504
/// addresses. The largest public trackers see some ten thousand addresses a second, and most
/// entries can be discarded after ten seconds. Without limits there is no table.
pub const CLIENT_TABLE_SETS: usize = 1 << 17;

/// Upper bound of the configured requests per second of an address: more than any tracker serves.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;

/// The default burst of an address, in seconds' worth of requests.
pub const REQUEST_BURST_S: u32 = 10;

/// Rejected requests of an address that are answered in one second; connections after them are
/// reset, and datagrams dropped. Several clients may share an address and should learn why; one
/// that floods does not read.
pub const REJECTIONS_ANSWERED_PER_S: u16 = 4;

/// Seconds for which connection ids of UDP are given out that are alike. A client uses one for a
/// minute (BEP 15), and it is good for two to three times as long.
pub const CONNECTION_ID_WINDOW_S: u32 = 60;

/// Minutes after which a client that exceeded its rate limit may try again.
pub const REFUSED_RETRY_MINUTES: u32 = 5;

/// Minutes after which a client may ask again for a torrent that is not on the access list: lists
/// change, but a client that gets `never` does not come back.
pub const NOT_SERVED_RETRY_MINUTES: u32 = 60;

/// Connections to the admin listeners at once, each with a thread of its own; beyond that a new
/// one closes the oldest. A few programs and a browser are expected.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;

/// Seconds that the client of such a connection has to send its request, and again to read the
/// response. The time to compute the response, up to seconds with millions of torrents, is extra.
pub const ADMIN_TIMEOUT_S: u32 = 5;

/// Torrents in `/top.json` at most, which are 100 KB.
pub const TOP_TORRENTS_MAX: usize = 1000;

/// Torrents in `/top.json` if the request has no `n`.
pub const TOP_TORRENTS_DEFAULT: usize = 100;

/// The list of the largest torrents is used again for one second per this many torrents searched:
/// with ten million it may be ten seconds old, with fewer than one million it is always new.
pub const TOP_TORRENTS_PER_S: u64 = 1_000_000;

/// Bytes of a request to an admin listener: browsers send the cookies of other ports of the host.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the name of the state file: a file system allows 255, and what is set aside gets a
/// longer one.
pub const STATE_NAME_BYTES_MAX: usize = 200;

/// Microseconds that the thread which writes the state pauses after each step, of some hundred: it
/// has a fifth of a core at most, and that never for long.
pub const STATE_PAUSE_US: u64 = 500;

/// Seconds after which a failure to write the state is logged again although it is the same.
pub const STATE_LOG_PAUSE_S: u64 = 3600;

/// Seconds that the service manager waits, from each sign of progress on, for the state to be
/// written at a stop.
pub const STATE_STOP_S: u64 = 60;

/// Seconds beyond `shutdown_timeout` that a start waits for another tracker, which is about to end,
/// to release the state: it may have to write gigabytes.
pub const STATE_LOCK_S: u32 = 30;

/// A worker whose loop has not completed a turn for more seconds is stuck: without events it turns
/// once a second.
pub const WORKER_SILENCE_S_MAX: u32 = 5;

const _: () = assert!(ARENA_BYTES >= 2 * (RESPONSE_BYTES_MAX + RESPONSE_BATCH_BYTES));
const _: () = assert!(UNREAD_BYTES_PAUSE >= HEAD_BYTES_MAX);
const _: () = assert!(BUFFERED_BYTES_AFTER >= 4 * UNREAD_BYTES_MAX);

/// Other nodes of a cluster that are known at a time, a few hundred bytes each. One process is one
/// node: those that have ended are replaced.
pub const CLUSTER_NODES_MAX: usize = 64;

/// Peers that have stopped and are remembered for other nodes, 82 bytes each: those of half a
/// minute at 200,000 announces a second.
pub const CLUSTER_STOPS_MAX: usize = 1 << 18;

/// Requests that wait for the thread that publishes, 32 bytes each.
pub const CLUSTER_REQUESTS_MAX: usize = 256;

/// States that a node streams to others at a time.
pub const CLUSTER_STREAMS_MAX: usize = 4;

/// Parts of a stream that may be on their way: 2 MiB, far below what Valkey and Redis buffer for a
/// subscriber by default (8 MiB for a minute, 32 MiB at once).
pub const CLUSTER_STREAM_WINDOW: u32 = 32;

/// Bytes of states that a node streams in a second to all others: ten million peers in some three
/// seconds.
pub const CLUSTER_STREAM_BYTES_PER_S: i64 = 32 * 1024 * 1024;

/// Seconds after the start for which a node says that it is warming while it does not have the
/// others' state.
pub const CLUSTER_WARMING_S: u32 = 60;
