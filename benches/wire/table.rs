//! What was measured, as Markdown: medians with their extremes.

use std::time::Duration;

use crate::endpoint::Transport;
use crate::floor::Connections;
use crate::handshake::{BareHandshake, PAUSE};
use crate::load::Load;
use crate::process::CpuTime;
use crate::row::Row;
use crate::servers::Server;

/// Waiting for the CPU, as a share of the CPU time used, beyond which a measurement counts as
/// disturbed: something else ran on the server's CPU.
const WAITED_MAX: f64 = 0.05;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// What the load counted.
    pub(crate) load: Load,
    /// What the server used meanwhile.
    pub(crate) cpu: CpuTime,
}

impl Round {
    fn answers_per_second(&self) -> f64 {
        self.load.answers as f64 / self.load.took.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        micros(self.cpu.ran) / self.load.answers as f64
    }

    /// How long the server waited for its CPU, as a share of the time it had it.
    pub(crate) fn waited(&self) -> f64 {
        self.cpu.waited.as_secs_f64() / self.cpu.ran.as_secs_f64()
    }

    /// Whether something else ran on the server's CPU.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.waited() > WAITED_MAX
    }
}

/// All measurements of one server on one transport in one row, or why there are none.
#[derive(Debug)]
pub(crate) struct Series {
    /// The server.
    pub(crate) server: Server,
    /// What carried the requests.
    pub(crate) transport: Transport,
    /// In the order in which they were made; those of all servers at one place belong together.
    pub(crate) rounds: Result<Vec<Round>, String>,
}

impl Series {
    /// Whether it is without an error, or of a server that is not ours to put right.
    pub(crate) fn is_sound(&self) -> bool {
        let is_clean = |round: &Round| round.load.socket_errors + round.load.status_errors == 0;
        !(self.server.is_floor() || self.server.is_ours())
            || self.rounds.as_ref().is_ok_and(|rounds| rounds.iter().all(is_clean))
    }

    /// The longest wait for the CPU, and what it means.
    fn waited(&self, rounds: &[Round]) -> String {
        let waited = rounds.iter().map(Round::waited).fold(0.0, f64::max);
        let why = match waited > WAITED_MAX {
            true if self.server.waits_for_itself(self.transport) => " (own threads)",
            true => " (disturbed)",
            false => "",
        };
        format!("{:.1} %{why}", waited * 100.0)
    }

    fn cpu_micros(&self) -> Vec<f64> {
        self.rounds.iter().flatten().map(Round::cpu_micros).collect()
    }
}

/// A column that relates a server's CPU time to something else's.
struct Ratio<'a> {
    title: &'a str,
    /// What it is divided by, µs, round by round: a machine that slows down slows both. Empty
    /// if there is no such thing.
    base: &'a dyn Fn(Server) -> Vec<f64>,
}

/// Prints one row: a table for each transport. `handshakes` is what a bare handshake cost in
/// each round, where that was measured.
pub(crate) fn print(
    row: Row,
    all: &[Series],
    handshakes: Option<&Result<Vec<BareHandshake>, String>>,
) {
    let plain = |server: Server| {
        let mut plain = all.iter().filter(|series| series.transport == Transport::Plain);
        plain.find(|series| series.server == server).map_or(Vec::new(), Series::cpu_micros)
    };
    let to_floor = Ratio { title: "× floor", base: &|_| plain(Server::Floor) };
    let to_short_floor = Ratio { title: "× short floor", base: &|_| plain(Server::ShortFloor) };
    print_table(Transport::Plain, row.connections, all, &[to_floor, to_short_floor]);
    if !row.tls {
        return;
    }

    let to_plain = Ratio { title: "× plain", base: &plain };
    let Some(handshakes) = handshakes else {
        print_table(Transport::Tls, row.connections, all, &[to_plain]);
        return;
    };
    let costs = |of: fn(&BareHandshake) -> Duration| -> Vec<f64> {
        handshakes.iter().flatten().map(|bare| micros(of(bare))).collect()
    };
    let (back_to_back, paused) = (costs(|bare| bare.back_to_back), costs(|bare| bare.paused));
    let beside_load = costs(|bare| bare.beside_load);
    let sum = |server| plain(server).iter().zip(&back_to_back).map(|(a, b)| a + b).collect();
    let to_sum = Ratio { title: "× (handshake + plain)", base: &sum };
    print_table(Transport::Tls, row.connections, all, &[to_plain, to_sum]);
    if let Err(why) = handshakes {
        println!("\nThe bare handshake is unknown: {why}");
        return;
    }
    println!(
        "\nA bare handshake in rustls takes {} µs, one after another: that is the handshake of the \
         ratio. While the load's CPU does the same it takes {} µs; alone again, but with an idle \
         CPU for {} µs before each flight, {} µs. Both of that is what the servers have here: wrk \
         takes far longer for its side than they do for theirs.",
        spread(back_to_back, 1),
        spread(beside_load, 1),
        PAUSE.as_micros(),
        spread(paused, 1)
    );
}

fn print_table(
    transport: Transport,
    connections: Connections,
    all: &[Series],
    ratios: &[Ratio<'_>],
) {
    let kind = match connections {
        Connections::Keep => "keep-alive",
        Connections::Close => "one request a connection",
    };
    let titles: Vec<&str> = ["server", "CPU µs/answer"]
        .into_iter()
        .chain(ratios.iter().map(|ratio| ratio.title))
        .chain(["answers/s", "p50 µs", "p99 µs", "bytes/answer"])
        .chain(["socket errors", "status errors", "waited"])
        .collect();
    println!("\n### {transport}, {kind}\n");
    println!("| {} |", titles.join(" | "));
    println!("|{}", "---|".repeat(titles.len()));
    let mut has_unannounced_closes = false;
    for series in all.iter().filter(|series| series.transport == transport) {
        let mut cells = vec![series.server.title(transport).to_owned()];
        match &series.rounds {
            Ok(rounds) => {
                cells.extend(measures(series.server, rounds, ratios));
                cells.push(series.waited(rounds));
                has_unannounced_closes |= series.server.closes_unannounced();
            }
            Err(why) => cells.push(why.clone()),
        }
        cells.resize(titles.len(), String::new());
        println!("| {} |", cells.join(" | "));
    }
    if connections == Connections::Close && has_unannounced_closes {
        println!(
            "\nopentracker and aquatic_http close without `Connection: close`, which wrk counts as \
             a socket error each time."
        );
    }
}

/// The cells of a table's line between its first and its last.
fn measures(server: Server, rounds: &[Round], ratios: &[Ratio<'_>]) -> Vec<String> {
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    let mut cells = vec![spread(each(&Round::cpu_micros), 2)];
    for ratio in ratios {
        let base = (ratio.base)(server);
        let own = rounds.iter().map(Round::cpu_micros);
        cells.push(spread(own.zip(base).map(|(own, base)| own / base).collect(), 2));
    }
    let socket_errors: u64 = rounds.iter().map(|round| round.load.socket_errors).sum();
    let status_errors: u64 = rounds.iter().map(|round| round.load.status_errors).sum();
    let bytes = each(&|round| round.load.bytes as f64 / round.load.answers as f64);
    cells.extend([
        spread(each(&Round::answers_per_second), 0),
        spread(each(&|round| micros(round.load.latency_p50)), 0),
        spread(each(&|round| micros(round.load.latency_p99)), 0),
        format!("{:.0}", median(bytes)),
        socket_errors.to_string(),
        status_errors.to_string(),
    ]);
    cells
}

/// Median, and the least and the greatest in parentheses.
fn spread(values: Vec<f64>, decimals: usize) -> String {
    let Some(least) = values.iter().copied().reduce(f64::min) else { return "-".to_owned() };
    let greatest = values.iter().copied().fold(least, f64::max);
    let middle = median(values);
    format!("{middle:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values[middle];
    }
    (values[middle - 1] + values[middle]) / 2.0
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
