//! The document: tables and charts of results, in Markdown. It follows from the results alone.

use std::fmt::Write;

use crate::figures::{CPU, Chart, LATENCY, MEMORY, THROUGHPUT};
use crate::results::{Handshake, Measured, Results, Rounds, is_tracker, title};
use crate::row::{NEVER_SENT, Row};
use crate::sharing;
use crate::spread::Spread;

/// Writes the document.
pub(crate) fn write(results: &Results) -> String {
    let mut text = String::from(HEAD);
    text += &machine(results);
    text += &best(results);
    text += "\n## CPU and throughput\n";
    text += &picture(&CPU);
    text += &picture(&THROUGHPUT);
    text += SPEED;
    for row in Row::FULL_SPEED {
        text += &speed(results, row);
    }
    text += &handshakes(results);
    text += "\n## Latency at a given rate\n";
    text += &picture(&LATENCY);
    text += AT_RATE;
    for row in Row::AT_RATE {
        text += &latency(results, row);
    }
    text += "\n## Memory\n";
    text += &picture(&MEMORY);
    text += &memory(results);
    text += &sharing::workers(&results.workers);
    text += &sharing::tables(&results.tables);
    text += &allowed(results);
    text += MISSING;
    text
}

/// The name of this tracker, on the engine that it chooses itself.
const OURS: &str = "annulus";

const HEAD: &str = "\
# Performance

Annulus beside other servers, measured by `annulus-load`. This page, its charts and
[the raw results](performance/results.json) are written by `cargo bench --bench compare`;
`cargo bench --bench compare -- --render` writes page and charts again from the results.

The servers run one at a time under load, one worker each, pinned to one core; the load has
another core to itself. In every round each server has its turn, and another one goes first.
Figures are medians over the rounds, with the least and the greatest in parentheses; ratios
within a run say more than the times, which differ by machine and hour.

- **floor**: a bare io_uring loop with a constant answer, as long as Annulus' mean answer in
  that row: the least that serving can cost. It speaks no TLS.
- **Annulus**: the engine that it chooses itself, io_uring where it can be had; and on epoll.
- **nginx**: one worker, a constant answer of the same length.
- **opentracker**: Debian's build, which closes every connection and has a whitelist; behind
  hitch, with one worker, for TLS. Both are counted.
- **aquatic_http**: one socket worker and one swarm worker, as it always needs two threads;
  another process for TLS.

The load is 60,000 peers of 10,000 torrents, by Zipf's law, half of them seeders, asking for 50
peers each in announces as Transmission writes them. Before anything is measured each peer
announces once where 12 seconds suffice for that. Every answer is parsed and judged: what is
wrong makes the run fail.
";

const SPEED: &str = "
64 connections ask as fast as they are answered. *CPU* is the time of all the server's
processes, user and system, for each answer. *Answers a second* is the server's limit only
where the load's core was not: where the load used more than 90 % of its own core, the rate is
marked with ≥, and the CPU time says which server would go further. Bold is the best of a
column, trackers or not. A measurement in which something else ran on the server's core for more
than a twentieth of its time is repeated once, and the less disturbed one counts; the trackers
with several busy threads, which wait for each other, are exempt.
";

const AT_RATE: &str = "
One request a connection at half of what the slowest tracker answered at full speed, random
arrivals (Poisson) over up to 256 connections. The loop is open: a request's time counts from
the moment at which it was due, connecting and handshake included, whether the server was ready
for it or not. All servers are asked at the same rate. A percentile is that of a second, and of
these the median over the seconds of a run, without its first: in that one the load itself warms
up (its TLS takes some 50 ms once, whoever is asked), as the raw results show. At rates of a few
thousand, p99.9 stands for the few slowest requests of a second.
";

const ALLOWED: &str = "
## What was allowed

`annulus-load` fails for any fault that is not allowed. Allowed was, to opentracker, that it gives
a peer its own address (`own-address`); such answers count like the others. At a given rate it was
allowed to all that requests of the last moment find no connection free (`never-sent`); how long
they had waited is among the latencies. The constant answers of the floor and of nginx need
nothing allowed: they name whole addresses, and strange peers are no fault unless `--only-ours` is
given. What came of it:

";

const MISSING: &str = "
## What is missing

- chihaya: Debian has no package of it.
- torrust-tracker: there is a crate (3.0.0), which takes very long to build; it is not a part of
  this comparison.
- Other machines: server and load share a machine here, over loopback. Network cards, more
  cores and clients far away are not measured.
";

/// Where it was measured, with what, and how to repeat it.
fn machine(results: &Results) -> String {
    let mut text = String::from("\n| | |\n|---|---|\n");
    for (name, fact) in &results.facts {
        let _ = writeln!(text, "| {name} | {fact} |");
    }
    let _ = writeln!(text, "| rounds | {} of {} s |", results.rounds, results.seconds);
    let _ = writeln!(text, "\nTo repeat it:\n\n    {}", results.command);
    text
}

/// Who is first in which row.
fn best(results: &Results) -> String {
    let mut text = String::from(
        "\n## Who is first\n\n\
         | row | first of all | first of the trackers | Annulus, of the first of all |\n\
         |---|---|---|---|\n",
    );
    for row in Row::FULL_SPEED {
        let of = |rounds: &Rounds<'_>| rounds.spread(Measured::cpu_us);
        text += &first(results, row, &format!("{}: CPU per answer", row.title()), "µs", of);
    }
    for row in Row::AT_RATE {
        for percentile in ["p50", "p99"] {
            let of = |rounds: &Rounds<'_>| rounds.spread(|run| run.latency_ms(percentile));
            text += &first(results, row, &format!("{}: {percentile}", row.title()), "ms", of);
        }
    }
    text
}

fn first(
    results: &Results,
    row: Row,
    name: &str,
    unit: &str,
    figure: impl Fn(&Rounds<'_>) -> Option<Spread>,
) -> String {
    let mut all: Vec<(&str, f64)> = results
        .row(row)
        .iter()
        .filter_map(|rounds| Some((rounds.server, figure(rounds)?.median)))
        .collect();
    all.sort_by(|one, other| one.1.total_cmp(&other.1));
    let shown = |found: Option<&(&str, f64)>| {
        found.map_or("-".to_owned(), |(server, value)| {
            format!("{}, {value:.2} {unit}", title(server, row.is_tls()))
        })
    };
    let ours = all.iter().find(|(server, _)| *server == OURS);
    let ratio = match (ours, all.first()) {
        (Some((_, ours)), Some((_, first))) => format!("{:.2} times", ours / first),
        _ => "-".to_owned(),
    };
    let tracker = all.iter().find(|(server, _)| is_tracker(server));
    format!("| {name} | {} | {} | {ratio} |\n", shown(all.first()), shown(tracker))
}

fn picture(chart: &Chart) -> String {
    format!("\n![{}](performance/{})\n", chart.title, chart.file)
}

/// The table of a row at full speed.
fn speed(results: &Results, row: Row) -> String {
    let all = results.row(row);
    let mut text = format!(
        "\n### {}\n\n\
         | server | CPU, µs | answers a second | server's core | load's core |\n\
         |---|---|---|---|---|\n",
        row.title()
    );
    let least = best_of(&all, |rounds| rounds.spread(Measured::cpu_us), f64::min);
    let most = best_of(&all, |rounds| rounds.spread(Measured::rate), f64::max);
    for rounds in &all {
        let server = title(rounds.server, row.is_tls());
        let _ = match &rounds.runs {
            Err(why) => writeln!(text, "| {server} | {why} | | | |"),
            Ok(_) => {
                let limit = if rounds.is_bound_by_load() { "≥ " } else { "" };
                writeln!(
                    text,
                    "| {server} | {} | {limit}{} | {} | {} |",
                    cell(rounds.spread(Measured::cpu_us), least, 1),
                    cell(rounds.spread(Measured::rate), most, 0),
                    percent(rounds.spread(Measured::server_busy)),
                    percent(rounds.spread(Measured::load_busy)),
                )
            }
        };
    }
    text
}

/// What a handshake alone takes, and this tracker's last row beside it.
fn handshakes(results: &Results) -> String {
    let cpu_of = |row: Row| {
        let all = results.row(row);
        let ours = all.into_iter().find(|rounds| rounds.server == OURS);
        let runs = ours.and_then(|rounds| rounds.runs.ok()).unwrap_or_default();
        runs.into_iter().map(Measured::cpu_us).collect::<Vec<f64>>()
    };
    let (secured, plain) = (cpu_of(Row::TlsClose), cpu_of(Row::Close));
    let line = |what: &str, figure: fn(&Handshake) -> f64| {
        let bare = || results.handshakes.iter().map(|it| figure(it) / 1e3);
        let sums = bare().zip(&plain).map(|(bare, plain)| bare + plain);
        let ratios = Spread::of(secured.iter().zip(sums).map(|(secured, sum)| secured / sum));
        format!("| {what} | {} | {} |\n", plainly(Spread::of(bare()), 0), plainly(ratios, 2))
    };
    if results.handshakes.is_empty() {
        return String::new();
    }
    format!(
        "\nThe floor of the last row is a handshake and a plain connection. What a full handshake\n\
         takes rustls, in memory, and what Annulus takes in that row of the sum of this and its\n\
         plain row, round by round:\n\n\
         | a handshake in memory | µs | Annulus, of handshake and plain connection |\n\
         |---|---|---|\n{}{}{}\n\
         A processor of a rented machine is often half of a core, and then whatever the load does\n\
         beside it slows it: the second line is the handshake as it has to run here. The third is\n\
         for servers whose clients leave them idle between flights.\n",
        line("alone, one after another", |it| it.back_to_back_ns),
        line("one after another, the load's core as busy", |it| it.beside_load_ns),
        line("alone, after 200 µs of idleness before each flight", |it| it.paused_ns),
    )
}

/// A figure with its least and greatest.
fn plainly(spread: Option<Spread>, decimals: usize) -> String {
    let Some(Spread { median, least, greatest }) = spread else { return "-".to_owned() };
    format!("{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
}

/// The table of a row at a rate.
fn latency(results: &Results, row: Row) -> String {
    let all = results.row(row);
    let Some(rate) = results.offered_rate(row) else { return String::new() };
    let mut text = format!(
        "\n### {}: {rate} requests a second\n\n\
         | server | p50, ms | p99, ms | p99.9, ms | server's core |\n|---|---|---|---|---|\n",
        row.title()
    );
    let spread = |rounds: &Rounds<'_>, percentile| rounds.spread(|run| run.latency_ms(percentile));
    let percentiles = ["p50", "p99", "p99.9"];
    let least = percentiles.map(|it| best_of(&all, |rounds| spread(rounds, it), f64::min));
    for rounds in &all {
        let server = title(rounds.server, row.is_tls());
        let _ = match &rounds.runs {
            Err(why) => writeln!(text, "| {server} | {why} | | | |"),
            Ok(_) => {
                let cells = [0, 1, 2].map(|at| cell(spread(rounds, percentiles[at]), least[at], 2));
                let busy = percent(rounds.spread(Measured::server_busy));
                writeln!(text, "| {server} | {} | {busy} |", cells.join(" | "))
            }
        };
    }
    text
}

fn memory(results: &Results) -> String {
    let mut text = String::from(
        "\nResident memory of the tracker's processes after 1.1 million announces, each of\n\
         another peer, over 500,000 torrents, of which a few are popular. Measured once. One\n\
         that takes no pipelined requests may not be full in the time allowed.\n\n\
         | server | bytes per announce | of it grown | MiB before | MiB after |\n\
         |---|---|---|---|---|\n",
    );
    let all = results.memory.iter().filter_map(|filled| filled.bytes_each());
    let least = all.reduce(f64::min);
    for filled in &results.memory {
        let server = title(&filled.server, false);
        let _ = match &filled.outcome {
            Err(why) => writeln!(text, "| {server} | {why} | | | |"),
            Ok([announces, before, after]) => {
                let mib = |bytes: &f64| bytes / f64::from(1 << 20);
                let (each, grown) = (after / announces, (after - before) / announces);
                let each = bold(format!("{each:.1}"), Some(each) == least);
                let (before, after) = (mib(before), mib(after));
                writeln!(text, "| {server} | {each} | {grown:.1} | {before:.1} | {after:.1} |")
            }
        };
    }
    text
}

/// Which faults were let pass, whose, and how many.
fn allowed(results: &Results) -> String {
    let mut text = String::from(ALLOWED);
    let mut servers: Vec<&str> = Vec::new();
    for run in &results.runs {
        if !servers.contains(&run.server.as_str()) {
            servers.push(&run.server);
        }
    }
    for server in servers {
        let runs = results.runs.iter().filter(|run| run.server == server);
        let runs: Vec<&Measured> = runs.filter_map(|run| run.outcome.as_ref().ok()).collect();
        let sum = |figure: fn(&Measured) -> f64| runs.iter().map(|run| figure(run)).sum::<f64>();
        let (answers, never_sent) = (sum(Measured::answers), sum(Measured::never_sent));
        let faulty = answers - sum(Measured::good);
        let mut said = Vec::new();
        if faulty > 0.0 {
            said.push(format!("own-address in {:.0} % of its answers", faulty / answers * 100.0));
        }
        if never_sent > 0.0 {
            said.push(format!("{never_sent} requests {NEVER_SENT}"));
        }
        if !said.is_empty() {
            let _ = writeln!(text, "- {}: {}.", title(server, false), said.join(", "));
        }
    }
    text
}

/// The best median of all servers.
fn best_of(
    all: &[Rounds<'_>],
    figure: impl Fn(&Rounds<'_>) -> Option<Spread>,
    better: fn(f64, f64) -> f64,
) -> Option<f64> {
    all.iter().filter_map(|rounds| Some(figure(rounds)?.median)).reduce(better)
}

/// A median with its bounds.
fn cell(spread: Option<Spread>, best: Option<f64>, decimals: usize) -> String {
    let Some(Spread { median, least, greatest }) = spread else { return "-".to_owned() };
    let middle = bold(format!("{median:.decimals$}"), Some(median) == best);
    format!("{middle} ({least:.decimals$}-{greatest:.decimals$})")
}

pub(crate) fn percent(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |share| format!("{:.0} %", share.median * 100.0))
}

fn bold(text: String, is_best: bool) -> String {
    if is_best { format!("**{text}**") } else { text }
}
