//! Every bound of the program, with its unit and its reason. Nothing else decides a limit.

/// Bytes of a request line, its line end included; more is answered with 414, or with a failure
/// that names the bound if it begins like an announce or a scrape. The longest that a real client
/// sends is Transmission's scrape of 64 hashes, 4076 bytes.
pub const REQUEST_LINE_BYTES_MAX: usize = 12 * 1024;

/// Bytes of a request's head, request line and blank line included; more is answered with
/// 431. CDNs add some twenty headers, 2 KiB at most.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a PROXY protocol header of version 2; a longer one ends its connection. Addresses
/// have 36; beside them balancers send names and certificates' subjects, a few hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Endpoints that one address may be configured to have in a torrent. To find the oldest of them
/// all are looked at: of so many, in a large swarm, that takes some microseconds.
pub const PEERS_PER_ADDRESS_MAX: u32 = 1000;

/// Header lines of a request; more is answered with 431.
pub const HEADERS_MAX: usize = 128;

const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX >= 8 * 1024 && HEADERS_MAX >= 64);

/// Bytes of one receive buffer: the longest request of a real client, a scrape of 64
/// hashes in 4076 bytes, is parsed where the kernel put it.
pub const RECV_BUFFER_BYTES: u32 = 4096;

/// Receive buffers of one worker (1 MiB, if it ever needs all): as many requests as one turn of
/// the loop may find waiting; beyond, the bytes wait in their sockets for the next turn.
pub const RECV_BUFFERS: u16 = 256;

/// Bytes that one reply may take at most, headers included. A configuration whose longest
/// answer would not fit is refused at start.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of replies that pipelined requests may gather before they are sent: some twenty
/// announces' worth, beside room for the longest single reply.
pub const RESPONSE_BATCH_BYTES: usize = 16 * 1024;

/// Peers in one response: as many as fit into [`RESPONSE_BYTES_MAX`].
pub const NUMWANT_MAX: usize = 1068;

/// Torrents in one scrape: as many as fit into a request line, with every byte of an info hash
/// percent-encoded, and into [`RESPONSE_BYTES_MAX`]. Transmission sends 64 in one request.
pub const SCRAPE_TORRENTS_MAX: usize = 172;

/// Bytes of the URL that a visitor of `/` is sent to.
pub const LOCATION_BYTES_MAX: usize = 1024;

/// Bytes of one worker's arena for the replies of one turn, at least twice a batch.
pub const ARENA_BYTES: usize = 512 * 1024;

/// Bytes that a connection may have sent beyond the request being answered: reached only by
/// pipelining without reading; its receive is then paused.
pub const UNREAD_BYTES_PAUSE: usize = 16 * 1024;

/// Bytes allocated for them after which such a connection is reset: the pause itself, and what one
/// turn can deliver before it takes effect, which is every buffer (a multishot receive takes 64
/// at a time on Linux 6.18), and the quarter that is allocated ahead. Who reads what it asked for
/// never gets there.
pub const UNREAD_BYTES_MAX: usize =
    (UNREAD_BYTES_PAUSE + RECV_BUFFERS as usize * RECV_BUFFER_BYTES as usize) / 4 * 5;

/// Bytes that all connections of one worker together may have allocated, for what they have sent
/// and that is not answered yet, and for answers that they do not read; beyond, those that hold
/// most are reset. Requests come whole, or in pieces for as long as a packet is under way: this
/// is room for 8,000 of a kilobyte that are under way at once, and leaves most of a small
/// machine's memory to the swarms.
pub const BUFFERED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that they may have allocated afterwards: whoever wants to have them looked at again has to
/// send the difference.
pub const BUFFERED_BYTES_AFTER: usize = BUFFERED_BYTES_MAX / 4 * 3;

/// Bytes of replies in one turn after which requests that have been waiting wait on: it is not
/// known before the next turn which replies will be kept because their clients do not read.
pub const RESPONSE_BYTES_PER_TURN: usize = 4 * 1024 * 1024;

/// Seconds that a closed connection's remaining bytes are read and dropped for once its client has
/// acknowledged all answers, so that the kernel does not reset away the last of them (RFC 9112
/// section 9.6). Until then it has `send_timeout` without progress.
pub const LINGER_S: u32 = 2;

/// Seconds between two looks at how much of its answers a slow client has taken.
pub const PROGRESS_LOOK_S: u32 = 1;

/// Bytes a second that a client has to take of its answers, over a whole `send_timeout`, to be
/// waited for any longer. The slowest links have ten times as much; without a bound, who takes a
/// byte a minute holds a connection and megabytes of the kernel's for ever. With it the longest
/// answer of [`RESPONSE_BYTES_MAX`] takes nine minutes at most.
pub const SEND_BYTES_PER_S_MIN: u32 = 128;

/// Bytes of answers that are left to the kernel together with the end of their connection. So few
/// are on their way at once, in the first window of any client. More may wait in the send
/// queue for long, and a closed socket drops that queue when its client says another word.
pub const CLOSED_WITH_BYTES_MAX: usize = 4096;

/// Full scrapes that one worker answers at once; beyond, they are told to come back. The cursor of
/// each keeps at most 3 MB of info hashes and counts.
pub const FULL_SCRAPES_MAX: usize = 8;

/// Seconds past the bound of a shutdown for what is said to whoever is in the middle of a request.
pub const LAST_WORD_S: u32 = 2;

/// Bytes dropped so at most, before the connection is reset.
pub const LINGER_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Descriptors kept free of connections, beside those of listeners and workers: log, files being
/// reloaded, those of /proc, and the operations' connections.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors of one worker beside its listeners: ring or epoll, timer, waker and slack.
pub const DESCRIPTORS_PER_WORKER: u64 = 6;

/// Connections that are nearly as many as may be: seven eighths. From there on answers end their
/// connections, so that there is room for new ones before the limit is reached.
pub const fn nearly_all(connections_max: usize) -> usize {
    connections_max - connections_max / 8
}

/// Connections accepted in one turn of the loop, from all listeners together, some 30 µs each with
/// the answers to their first requests: beyond, they wait in the kernel, lest those that are
/// connected wait for more than a few milliseconds. Far fewer than there are receive buffers, or
/// new connections would take them all and those that are connected would go without.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

const _: () = assert!(ACCEPTS_PER_TURN_MAX * 2 <= RECV_BUFFERS as usize);

/// Requests answered in one turn, a microsecond or two each: reached only by pipelining on many
/// connections. Beyond, what was received waits for the next turn, each connection in its turn.
pub const REQUESTS_PER_TURN_MAX: u32 = 1024;

/// Connections whose deadline is looked at in one turn. Many that came together run out of time
/// together.
pub const DEADLINES_PER_TURN_MAX: usize = 256;

/// Events of a turn from which on connections that have been answered come before new ones. Fewer
/// are not worth the sorting.
pub const EVENTS_SORTED_MIN: usize = 64;

/// Connections closed in one turn to make room for new ones: what the kernel then takes a
/// millisecond for.
pub const EVICTIONS_PER_TURN_MAX: usize = 64;

/// The share of its time (one in so many) that a client has for its handshake or its first request
/// when others wait for its connection: honest ones need a fraction of a second.
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

/// Percent of the announce interval that is added at random, so that clients that came
/// together do not come back together. Above it the interval is never stretched.
pub const INTERVAL_SPREAD_PERCENT: u32 = 10;

/// Seconds that a peer is kept beyond the longest interval it can have been told: its next
/// announce may need a retry.
pub const PEER_TIMEOUT_GRACE_S: u32 = 60;

/// Worker threads. More than the cores of the largest machines it is meant for would only
/// be a slip of the keyboard.
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

/// The part of a certificate's life, as one of so many, that is left when its end is first warned
/// of: a third. What renews certificates by itself has begun to by then; some live for six days.
pub const CERTIFICATE_NOTICE_PARTS: i64 = 3;

/// Seconds before the end of a certificate from which on it is warned of at the earliest: 30 days,
/// a third of the life of those that live for 90.
pub const CERTIFICATE_NOTICE_S_MAX: i64 = 30 * 86_400;

/// Seconds between two looks at the certificates that are served, for what time has changed: as
/// late as that a reload or a step of the clock is noticed there.
pub const CERTIFICATE_LOOK_S_MAX: u64 = 60;

/// Info hashes of an access list: a gigabyte in memory, and more torrents than any tracker has
/// been seen with. The bound keeps a wrong path from filling memory.
pub const ACCESS_ENTRIES_MAX: usize = 50_000_000;

/// Bytes of a line of an access list, its end not included: an info hash and a long comment.
pub const ACCESS_LINE_BYTES_MAX: usize = 1024;

/// Bad lines of an access list that are listed one by one.
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

/// Links that lead on to one another, of one path, that are followed at the start: as many as
/// the kernel follows.
pub const LINKS_MAX: usize = 40;

/// Bytes of a TLS record before encryption (RFC 8446 section 5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of records that a client may have begun and not finished: a whole record of TLS 1.2
/// with all that it may add (RFC 5246 section 6.2.3), and a receive buffer.
pub const UNFINISHED_RECORDS_BYTES_MAX: usize = RECORD_BYTES_MAX + 2048 + 5 + 4096;

/// Bytes that the server's part of a TLS handshake sends at once: the certificates, and what
/// stands around them, of which keys and signatures may have a kilobyte each.
pub const FLIGHT_BYTES_MAX: usize = CHAIN_BYTES_MAX + 4 * 1024;

/// Bytes of a ticket that waits to be sent with the first reply; a usual one has 250.
pub const TICKET_BYTES_MAX: usize = 512;

/// Seconds, about, for which the end of a TLS 1.3 handshake is left unread, to be read together
/// with the request that most clients send right behind it.
pub const TOGETHER_S: u32 = 1;

/// Costly steps of handshakes in one turn of the loop, 60 to 100 µs each: hellos, second hellos and
/// key exchanges. Beyond, they wait for the next, lest plain requests wait for more than a
/// millisecond.
pub const HANDSHAKES_PER_TURN_MAX: u32 = 8;

/// Sets of the table of rate-limited addresses, 128 bytes and 7 addresses each: 16 MiB for 917,504
/// addresses. The largest public trackers see some ten thousand addresses a second, and most entries
/// can be discarded after ten seconds. Without limits there is no table.
pub const CLIENT_TABLE_SETS: usize = 1 << 17;

/// Upper bound of the configured requests per second of an address: more than any tracker serves.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;

/// The default burst of an address, in seconds' worth of requests.
pub const REQUEST_BURST_S: u32 = 10;

/// Rejected requests of an address that are answered in one second; connections after them are
/// reset. Several clients may share an address and should learn why; one that floods does not read.
pub const REJECTIONS_ANSWERED_PER_S: u16 = 4;

/// Minutes after which a client may try again whose address had used up its requests.
pub const REFUSED_RETRY_MINUTES: u32 = 5;

/// Minutes after which a client may ask again for a torrent that is not served: lists change, and
/// one that is told "never" does not come back once they have.
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

/// A worker whose loop has not completed a turn for more seconds is stuck: without events it turns
/// once a second.
pub const WORKER_SILENCE_S_MAX: u32 = 5;

const _: () = assert!(ARENA_BYTES >= 2 * (RESPONSE_BYTES_MAX + RESPONSE_BATCH_BYTES));
const _: () = assert!(UNREAD_BYTES_PAUSE >= HEAD_BYTES_MAX);
const _: () = assert!(BUFFERED_BYTES_AFTER >= 4 * UNREAD_BYTES_MAX);
