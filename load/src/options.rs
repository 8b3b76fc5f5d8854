//! Every option: its field, its default, its bounds, and what it is for.

use annulus_ring::EngineChoice;

use super::fault::FAULTS;
use super::option::{Kind, Opt};
use super::target::Target;
use crate::sources::AddressRange;
use crate::text::{Word, did_you_mean, nearest};

/// What is to be asked, of whom, and how fast. Values are within the bounds that
/// `annulus-load -p` states.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The tracker's announce URL.
    pub url: String,
    /// Put behind the path of every URL.
    pub path_suffix: String,
    /// Threads; 0 is one per core.
    pub workers: u64,
    /// Connections of all workers together.
    pub connections: u64,
    /// Seconds for which is asked.
    pub duration: u64,
    /// Requests to make in all; 0 is no bound.
    pub requests: u64,
    /// Requests on one connection; 0 is no bound.
    pub requests_per_connection: u64,
    /// Requests on their way on one connection.
    pub pipeline: u64,
    /// Requests a second in all; 0 is as many as are answered.
    pub rate: u64,
    /// How the requests of `rate` are spread in time.
    pub arrivals: Arrivals,
    /// Seconds that an answer may take.
    pub timeout: u64,
    /// Torrents, unless there is a file of them.
    pub torrents: u64,
    /// A file of info hashes; empty is none.
    pub torrents_file: String,
    /// How likely each torrent is.
    pub popularity: Popularity,
    /// See [`Popularity::Zipf`].
    pub zipf_exponent: f64,
    /// See [`Popularity::Gamma`].
    pub gamma_shape: f64,
    /// See [`Popularity::Gamma`].
    pub gamma_scale: f64,
    /// Different announces: peers, each of one torrent.
    pub peers: u64,
    /// How many of a hundred peers are seeders.
    pub seeders: u64,
    /// How many of a hundred requests are scrapes.
    pub scrapes: u64,
    /// Torrents of a scrape.
    pub hashes_per_scrape: u64,
    /// Peers asked for.
    pub numwant: u64,
    /// Addresses to connect from; empty leaves it to the kernel.
    pub sources: String,
    /// Whether nobody else announces, or has.
    pub only_ours: bool,
    /// Names of faults that are no failure, with commas.
    pub allow: String,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// A file of certificates to trust; empty is the system's.
    pub ca: String,
    /// Whether TLS sessions are resumed.
    pub resume: bool,
    /// How to talk to the kernel.
    pub engine: EngineChoice,
    /// Where all choices come from.
    pub seed: u64,
    /// Where a report for programs goes; empty is nowhere.
    pub json: String,
    /// Where a drawing goes; empty is nowhere.
    pub plot: String,
}

impl Default for Options {
    /// A tracker on this machine, as the bench of this repository asks it.
    fn default() -> Options {
        Options {
            url: "http://127.0.0.1:3000/announce".to_owned(),
            path_suffix: String::new(),
            workers: 1,
            connections: 64,
            duration: 10,
            requests: 0,
            requests_per_connection: 0,
            pipeline: 1,
            rate: 0,
            arrivals: Arrivals::Random,
            timeout: 5,
            torrents: 10_000,
            torrents_file: String::new(),
            popularity: Popularity::Zipf,
            zipf_exponent: 1.0,
            gamma_shape: 0.2,
            gamma_scale: 100.0,
            peers: 60_000,
            seeders: 50,
            scrapes: 0,
            hashes_per_scrape: 1,
            numwant: 50,
            sources: String::new(),
            only_ours: false,
            allow: String::new(),
            insecure: false,
            ca: String::new(),
            resume: false,
            engine: EngineChoice::Auto,
            seed: 1,
            json: String::new(),
            plot: String::new(),
        }
    }
}

/// How the requests of a given rate are spread in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Independent of each other, as those of many clients are (Poisson).
    Random,
    /// At equal distances.
    Even,
}

impl Word for Arrivals {
    fn words(&self) -> &'static [&'static str] {
        &["random", "even"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [Arrivals::Random, Arrivals::Even][index];
    }
}

/// How likely each torrent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popularity {
    /// The torrent of rank r by 1 / r^exponent.
    Zipf,
    /// As aquatic's load tests choose: a gamma distribution, cut off at 101 and stretched.
    Gamma,
    /// All alike.
    Even,
}

impl Word for Popularity {
    fn words(&self) -> &'static [&'static str] {
        &["zipf", "gamma", "even"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [Popularity::Zipf, Popularity::Gamma, Popularity::Even][index];
    }
}

impl Word for EngineChoice {
    fn words(&self) -> &'static [&'static str] {
        &["auto", "io_uring", "epoll"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [EngineChoice::Auto, EngineChoice::IoUring, EngineChoice::Epoll][index];
    }
}

const fn whole(at: fn(&mut Options) -> &mut u64, min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Whole { at, min, max, unit }
}

/// A path of a file, or none.
const fn path(at: fn(&mut Options) -> &mut String) -> Kind {
    Kind::Text { at, form: "the path of a file, in quotes, or \"\"", check: |_| Ok(()) }
}

/// Every option, in the order of the help and of `annulus-load -p`.
pub const OPTIONS: &[Opt] = &[
    Opt {
        name: "url",
        value: "URL",
        kind: Kind::Text {
            at: |options| &mut options.url,
            form: "a URL like \"http://127.0.0.1:3000/announce\"",
            check: |text| Target::parse(text, "").map(|_| ()),
        },
        about: "The tracker's announce URL; the word URL alone does the same",
        more: "With http or https, a name, an IPv4 address or an IPv6 address in brackets. \
               Scrapes go to the same path with scrape for its last announce (BEP 48).",
    },
    Opt {
        name: "path_suffix",
        value: "TEXT",
        kind: Kind::Text {
            at: |options| &mut options.path_suffix,
            form: "text without spaces, ? and #, in quotes",
            check: |text| {
                let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
                match text.bytes().all(fits) {
                    true => Ok(()),
                    false => Err("must be ASCII text without spaces, ? and #".to_owned()),
                }
            },
        },
        about: "Put TEXT behind the path, such as a passkey",
        more: "",
    },
    Opt {
        name: "workers",
        value: "N",
        kind: whole(|options| &mut options.workers, 0, 1024, "threads"),
        about: "Ask from N threads; 0 is one per core available",
        more: "",
    },
    Opt {
        name: "connections",
        value: "N",
        kind: whole(|options| &mut options.connections, 1, 1_000_000, "connections"),
        about: "Hold N connections at once, of all threads together",
        more: "",
    },
    Opt {
        name: "duration",
        value: "SECONDS",
        kind: whole(|options| &mut options.duration, 1, 86_400, "seconds"),
        about: "Ask for so many seconds; answers may take a timeout more",
        more: "",
    },
    Opt {
        name: "requests",
        value: "N",
        kind: whole(|options| &mut options.requests, 0, 1_000_000_000_000, "requests"),
        about: "Ask N times at most; 0 leaves it to the duration",
        more: "Each thread has its share.",
    },
    Opt {
        name: "requests_per_connection",
        value: "N",
        kind: whole(|options| &mut options.requests_per_connection, 0, 1_000_000_000, "requests"),
        about: "Ask N times on a connection, 1 to keep none alive; 0 is no bound",
        more: "The last request of a connection says \"Connection: close\".",
    },
    Opt {
        name: "pipeline",
        value: "N",
        kind: whole(|options| &mut options.pipeline, 1, 64, "requests"),
        about: "Have up to N requests on their way on a connection",
        more: "",
    },
    Opt {
        name: "rate",
        value: "N",
        kind: whole(|options| &mut options.rate, 0, 100_000_000, "requests a second"),
        about: "Ask N times a second, come what may; 0 asks as fast as is answered",
        more: "With a rate, a latency counts from the moment at which the request should have \
               been sent, so that a stall counts for all that arrive in it.",
    },
    Opt {
        name: "arrivals",
        value: "HOW",
        kind: Kind::Word { at: |options| &mut options.arrivals },
        about: "Spread the requests of a rate like \"random\" clients, or \"even\"ly",
        more: "",
    },
    Opt {
        name: "timeout",
        value: "SECONDS",
        kind: whole(|options| &mut options.timeout, 1, 3600, "seconds"),
        about: "Give an answer, or a connection, so many seconds",
        more: "",
    },
    Opt {
        name: "torrents",
        value: "N",
        kind: whole(|options| &mut options.torrents, 1, 50_000_000, "torrents"),
        about: "Announce N torrents, whose hashes follow from the seed",
        more: "",
    },
    Opt {
        name: "torrents_file",
        value: "FILE",
        kind: path(|options| &mut options.torrents_file),
        about: "Announce the torrents of FILE instead, the most popular first",
        more: "One info hash a line, in 40 hexadecimal digits; what follows a # is a comment.",
    },
    Opt {
        name: "popularity",
        value: "HOW",
        kind: Kind::Word { at: |options| &mut options.popularity },
        about: "Choose torrents by \"zipf\", as aquatic's tester by \"gamma\", or \"even\"ly",
        more: "",
    },
    Opt {
        name: "zipf_exponent",
        value: "X",
        kind: Kind::Real { at: |options| &mut options.zipf_exponent, max: 10.0 },
        about: "Weigh the torrent of rank r by 1 / r^X",
        more: "",
    },
    Opt {
        name: "gamma_shape",
        value: "X",
        kind: Kind::Real { at: |options| &mut options.gamma_shape, max: 1000.0 },
        about: "The shape of the gamma distribution",
        more: "",
    },
    Opt {
        name: "gamma_scale",
        value: "X",
        kind: Kind::Real { at: |options| &mut options.gamma_scale, max: 10_000.0 },
        about: "The scale of the gamma distribution",
        more: "",
    },
    Opt {
        name: "peers",
        value: "N",
        kind: whole(|options| &mut options.peers, 1, 100_000_000, "peers"),
        about: "Announce N different peers, each of one torrent",
        more: "Every connection announces its share of them in turn, the first time as started.",
    },
    Opt {
        name: "seeders",
        value: "PERCENT",
        kind: whole(|options| &mut options.seeders, 0, 100, "percent"),
        about: "Let so many of a hundred peers be seeders",
        more: "",
    },
    Opt {
        name: "scrapes",
        value: "PERCENT",
        kind: whole(|options| &mut options.scrapes, 0, 100, "percent"),
        about: "Let so many of a hundred requests be scrapes",
        more: "",
    },
    Opt {
        name: "hashes_per_scrape",
        value: "N",
        kind: whole(|options| &mut options.hashes_per_scrape, 1, 64, "torrents"),
        about: "Scrape N torrents at once",
        more: "",
    },
    Opt {
        name: "numwant",
        value: "N",
        kind: whole(|options| &mut options.numwant, 0, 10_000, "peers"),
        about: "Ask for N peers",
        more: "An answer with more is wrong.",
    },
    Opt {
        name: "sources",
        value: "RANGE",
        kind: Kind::Text {
            at: |options| &mut options.sources,
            form: "an address or a range like \"127.0.0.0/8\", in quotes, or \"\"",
            check: |text| match text.is_empty() {
                true => Ok(()),
                false => text.parse::<AddressRange>().map(|_| ()),
            },
        },
        about: "Connect from the addresses of RANGE in turn, such as 127.0.0.0/8",
        more: "They must be this machine's, as all of 127.0.0.0/8 is; a range of IPv6 is with \
               \"ip -6 route add local RANGE dev lo\" and net.ipv6.ip_nonlocal_bind=1. Connections \
               that are kept keep their address: for many addresses bound the requests per \
               connection.",
    },
    Opt {
        name: "only_ours",
        value: "",
        kind: Kind::Switch { at: |options| &mut options.only_ours },
        about: "Take peers for wrong that these options do not announce",
        more: "For a tracker that was empty before.",
    },
    Opt {
        name: "allow",
        value: "NAMES",
        kind: Kind::Text {
            at: |options| &mut options.allow,
            form: "names of faults, with commas between, in quotes",
            check: |text| allowed(text).try_for_each(check_name),
        },
        about: "Count these faults, but do not fail for them",
        more: "The names are those of the report, such as \"own-address\".",
    },
    Opt {
        name: "insecure",
        value: "",
        kind: Kind::Switch { at: |options| &mut options.insecure },
        about: "Take any certificate",
        more: "",
    },
    Opt {
        name: "ca",
        value: "FILE",
        kind: path(|options| &mut options.ca),
        about: "Trust the certificates of FILE (PEM) instead of the system's",
        more: "",
    },
    Opt {
        name: "resume",
        value: "",
        kind: Kind::Switch { at: |options| &mut options.resume },
        about: "Resume TLS sessions where the server lets them be",
        more: "Without it every handshake is a full one. Both are counted.",
    },
    Opt {
        name: "engine",
        value: "NAME",
        kind: Kind::Word { at: |options| &mut options.engine },
        about: "Talk to the kernel by \"io_uring\", \"epoll\", or \"auto\" as it can be had",
        more: "",
    },
    Opt {
        name: "seed",
        value: "N",
        kind: whole(|options| &mut options.seed, 0, u64::MAX, "of 64 bits"),
        about: "Derive all choices from N: the same seed asks the same",
        more: "",
    },
    Opt {
        name: "json",
        value: "FILE",
        kind: path(|options| &mut options.json),
        about: "Write the report to FILE in JSON too",
        more: "",
    },
    Opt {
        name: "plot",
        value: "FILE",
        kind: path(|options| &mut options.plot),
        about: "Draw rate and latency over time into FILE (SVG)",
        more: "",
    },
];

/// The names of a list with commas.
pub(super) fn allowed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn check_name(name: &str) -> Result<(), String> {
    let names = || FAULTS.iter().map(|fault| fault.name());
    match names().any(|known| known == name) {
        true => Ok(()),
        false => {
            let guess = did_you_mean(nearest(name, names()));
            Err(format!("there is no fault \"{name}\"{guess}"))
        }
    }
}
