//! The tables of docs/performance.md. Its prose is written by hand; a table stands below a comment
//! that names it, and follows from the results alone.

use anyhow::{Context, Result, ensure};

use crate::handshake::BareHandshake;
use crate::results::{LoadedRun, Results, Rounds, Row, ServerRun, title};
use crate::stats::{Spread, percent, shown, spread, table};

/// The name of this tracker, on the engine that it chooses itself.
const OURS: &str = "annulus";

const MARK: (&str, &str) = ("<!-- table: ", " -->");

/// The tables that a document has to have.
pub const NAMES: &str =
    "facts keep close tls-keep tls-close handshakes latency tls-latency memory workers udp";

/// The document with its tables replaced by those of the results.
pub fn fill(document: &str, results: &Results) -> Result<String> {
    let mut text = String::new();
    let mut filled = Vec::new();
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        let name = line.strip_prefix(MARK.0).and_then(|rest| rest.strip_suffix(MARK.1));
        let Some(name) = name else { continue };
        while lines.next_if(|line| line.starts_with('|')).is_some() {}
        text += &of(results, name).with_context(|| format!("there is no table {name}"))?;
        filled.push(name);
    }
    for name in NAMES.split(' ') {
        ensure!(filled.contains(&name), "the table {name} is missing");
    }
    Ok(text)
}

pub fn of(results: &Results, name: &str) -> Option<String> {
    Some(match name {
        "facts" => facts(results),
        "keep" => full_speed(results, Row::Keep),
        "close" => full_speed(results, Row::Close),
        "tls-keep" => full_speed(results, Row::TlsKeep),
        "tls-close" => full_speed(results, Row::TlsClose),
        "handshakes" => handshakes(results),
        "latency" => latency(results, Row::Latency),
        "tls-latency" => latency(results, Row::TlsLatency),
        "memory" => memory(results),
        "workers" => workers(results),
        "udp" => udp(results, &Row::UDP),
        _ => return None,
    })
}

fn facts(results: &Results) -> String {
    let rounds = format!("{} of {} s", results.rounds, results.seconds);
    let more =
        [("rounds".to_owned(), rounds), ("command".to_owned(), format!("`{}`", results.command))];
    let facts = results.facts.iter().chain(&more);
    table(&["", ""], facts.map(|(name, fact)| vec![name.clone(), fact.clone()]))
}

pub fn full_speed(results: &Results, row: Row) -> String {
    let all = results.row(row);
    let least = best_of(&all, |rounds| rounds.median(LoadedRun::cpu_us), f64::min);
    let most = best_of(&all, |rounds| rounds.median(LoadedRun::rate), f64::max);
    // Over TLS a server is compared with itself, otherwise with the floor; round by round, because
    // a machine that slows down slows both.
    let plain = match row {
        Row::TlsKeep => results.row(Row::Keep),
        Row::TlsClose => results.row(Row::Close),
        _ => Vec::new(),
    };
    let ratio = |rounds: &Rounds<'_>| {
        let base = match row.is_tls() {
            true => plain.iter().find(|it| it.server == rounds.server),
            false => all.iter().find(|it| it.server == "floor"),
        };
        let base = base.map(|it| it.each(LoadedRun::cpu_us)).unwrap_or_default();
        spread(rounds.each(LoadedRun::cpu_us).iter().zip(base).map(|(own, base)| own / base), 2)
    };
    let base = if row.is_tls() { "× plain" } else { "× floor" };
    let titles = ["server", "CPU, µs", base, "responses a second", "server's core", "load's core"];
    table(
        &titles,
        all.iter().map(|rounds| {
            let mut cells = vec![title(rounds.server, row.is_tls()).to_owned()];
            let limit = if rounds.is_bound_by_load() { "≥ " } else { "" };
            match rounds.runs {
                Err(why) => cells.push(why.to_owned()),
                Ok(_) => cells.extend([
                    best(rounds.spread(LoadedRun::cpu_us), least, 1),
                    ratio(rounds),
                    format!("{limit}{}", best(rounds.spread(LoadedRun::rate), most, 0)),
                    percent(rounds.spread(LoadedRun::server_busy)),
                    percent(rounds.spread(LoadedRun::load_busy)),
                ]),
            }
            cells
        }),
    )
}

/// Rows by UDP. Ratios are of runs of the same round.
pub fn udp(results: &Results, rows: &[Row]) -> String {
    let mut lines = Vec::new();
    for &row in rows {
        let all = results.row(row);
        let least = best_of(&all, |rounds| rounds.median(LoadedRun::cpu_us), f64::min);
        let floor = all.iter().find(|it| it.server == "floor");
        let floor = floor.map(|it| it.each(LoadedRun::cpu_us)).unwrap_or_default();
        for rounds in &all {
            let own = rounds.each(LoadedRun::cpu_us);
            let ratios = own.iter().zip(&floor).map(|(own, floor)| own / floor);
            let limit = if rounds.is_bound_by_load() { "≥ " } else { "" };
            let mut cells = vec![title(rounds.server, false).to_owned()];
            cells.push(row.in_flight().to_string());
            match rounds.runs {
                Err(why) => cells.push(why.to_owned()),
                Ok(_) => cells.extend([
                    best(rounds.spread(LoadedRun::cpu_us), least, 2),
                    spread(ratios, 2),
                    format!("{limit}{}", shown(rounds.spread(LoadedRun::rate), 0)),
                    format!("{} %", shown(rounds.spread(|run| run.lost() * 100.0), 2)),
                    percent(rounds.spread(LoadedRun::server_busy)),
                    percent(rounds.spread(LoadedRun::load_busy)),
                ]),
            }
            lines.push(cells);
        }
    }
    let titles = [
        "server",
        "in flight",
        "CPU, µs",
        "× floor",
        "responses a second",
        "lost",
        "server's core",
        "load's core",
    ];
    table(&titles, lines)
}

/// What a handshake alone takes, and this tracker's last row beside it.
fn handshakes(results: &Results) -> String {
    let cpu_of = |row: Row| {
        let all = results.row(row);
        let ours = all.iter().find(|rounds| rounds.server == OURS);
        ours.map(|rounds| rounds.each(LoadedRun::cpu_us)).unwrap_or_default()
    };
    let (tls, plain) = (cpu_of(Row::TlsClose), cpu_of(Row::Close));
    let line = |what: &str, figure: fn(&BareHandshake) -> f64| {
        let bare = || results.handshakes.iter().map(|it| figure(it) / 1e3);
        let sums = bare().zip(&plain).map(|(bare, plain)| bare + plain);
        let ratios = tls.iter().zip(sums).map(|(tls, sum)| tls / sum);
        vec![what.to_owned(), spread(bare(), 0), spread(ratios, 2)]
    };
    let lines = [
        line("alone, one after another", |it| it.back_to_back_ns),
        line("one after another, the load's core as busy", |it| it.beside_load_ns),
        line("alone, after 200 µs of idleness before each flight", |it| it.paused_ns),
    ];
    table(&["a handshake in memory", "µs", "Annulus, of handshake and plain connection"], lines)
}

fn latency(results: &Results, row: Row) -> String {
    let all = results.row(row);
    let rate = results.offered_rate(row).unwrap_or_default();
    let percentiles = ["p50", "p99", "p99.9"];
    let of = |rounds: &Rounds<'_>, percentile| rounds.spread(|run| run.latency_ms(percentile));
    let least = percentiles.map(|percentile| {
        best_of(&all, |rounds| of(rounds, percentile).map(|spread| spread.median), f64::min)
    });
    let titles = [
        &format!("server, at {rate} requests a second"),
        "p50, ms",
        "p99, ms",
        "p99.9, ms",
        "server's core",
    ];
    table(
        &titles,
        all.iter().map(|rounds| {
            let mut cells = vec![title(rounds.server, row.is_tls()).to_owned()];
            match rounds.runs {
                Err(why) => cells.push(why.to_owned()),
                Ok(_) => {
                    let columns = percentiles.iter().zip(least);
                    cells.extend(columns.map(|(it, least)| best(of(rounds, it), least, 2)));
                    cells.push(percent(rounds.spread(LoadedRun::server_busy)));
                }
            }
            cells
        }),
    )
}

fn memory(results: &Results) -> String {
    let done = results.memory.iter().filter_map(|filled| filled.outcome.done().ok());
    let least = done.map(|memory| memory.bytes_each()).reduce(f64::min);
    let titles = ["server", "bytes per announce", "of it grown", "MiB before", "MiB after"];
    table(
        &titles,
        results.memory.iter().map(|filled| {
            let mut cells = vec![title(&filled.server, false).to_owned()];
            match filled.outcome.done() {
                Err(why) => cells.push(why.to_owned()),
                Ok(memory) => {
                    let each = memory.bytes_each();
                    let grown = (memory.after_bytes - memory.before_bytes) / memory.announces;
                    cells.push(bold(format!("{each:.1}"), Some(each) == least));
                    cells.push(format!("{grown:.1}"));
                    let mib = |bytes: f64| format!("{:.1}", bytes / f64::from(1 << 20));
                    cells.extend([mib(memory.before_bytes), mib(memory.after_bytes)]);
                }
            }
            cells
        }),
    )
}

fn workers(results: &Results) -> String {
    let of = |row: Row, workers: u64, figure: fn(&LoadedRun) -> f64| {
        let is_asked = |it: &&ServerRun| (it.row, it.workers) == (row, workers);
        let runs = results.workers.iter().filter(is_asked);
        Spread::of(runs.filter_map(|it| it.outcome.done().ok().map(figure)))
    };
    let mut lines = Vec::new();
    for (row, workers) in [(Row::Keep, 1), (Row::Keep, 2), (Row::Close, 1), (Row::Close, 2)] {
        let ratio = |figure| Some(of(row, 2, figure)?.median / of(row, 1, figure)?.median);
        let mut cells = vec![
            row.title().to_owned(),
            workers.to_string(),
            shown(of(row, workers, LoadedRun::rate), 0),
            shown(of(row, workers, LoadedRun::cpu_us), 1),
            percent(of(row, workers, LoadedRun::server_busy)),
        ];
        if let (2, Some(rates), Some(costs)) =
            (workers, ratio(LoadedRun::rate), ratio(LoadedRun::cpu_us))
        {
            cells.extend([format!("**{rates:.2}**"), format!("{:.2}", 2.0 / costs)]);
        }
        lines.push(cells);
    }
    let titles = [
        "row",
        "workers",
        "responses a second",
        "CPU, µs",
        "server's CPUs",
        "ratio of responses",
        "twice the CPU ratio",
    ];
    table(&titles, lines)
}

fn best_of(
    all: &[Rounds<'_>],
    figure: impl Fn(&Rounds<'_>) -> Option<f64>,
    better: fn(f64, f64) -> f64,
) -> Option<f64> {
    all.iter().filter_map(figure).reduce(better)
}

fn best(spread: Option<Spread>, best: Option<f64>, decimals: usize) -> String {
    let Some(Spread { median, least, greatest }) = spread else { return "-".to_owned() };
    let middle = bold(format!("{median:.decimals$}"), Some(median) == best);
    format!("{middle} ({least:.decimals$}-{greatest:.decimals$})")
}

fn bold(text: String, is_best: bool) -> String {
    if is_best { format!("**{text}**") } else { text }
}
