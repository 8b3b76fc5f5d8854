//! What was measured, as Markdown: medians with their extremes, and the ratios that are aimed at.

use crate::row::Row;
use crate::spread::Spread;
use crate::tester::{Driven, Tester};

/// What has to be known of the figures, printed below them.
pub(crate) const NOTES: &str = "\
A CPU second is one of the tester's own process, user and system, from its start to its end; \
less what wrk takes to make its requests before it sends the first. annulus-load judges every \
answer in full, wrk sees that it is HTTP and looks at its status, aquatic_http_load_test reads \
it as bencode.

Where no connection is kept, aquatic_http_load_test has the threads with which it does best: 8, \
each with one connection after the other, or over TLS 4, each with a new one every millisecond. \
Over TLS no tester asks who has signed the certificate; wrk (OpenSSL) checks the \
handshake's signature by it, the others do not. Handshakes of annulus-load and wrk are full \
ones; aquatic_http_load_test resumes its sessions and cannot be told otherwise, so that most of \
its handshakes are shorter.";

/// All runs of one tester in one row, or why there are none.
pub(crate) struct Series {
    /// The tester.
    pub(crate) tester: Tester,
    /// In the order in which they were made; those of all testers at one place belong together.
    pub(crate) rounds: Result<Vec<Driven>, String>,
}

/// How often what `annulus-load` drives with a CPU second should be what another tester does.
fn aim(row: Row, other: Tester) -> Option<f64> {
    match (row, other) {
        (Row::Keep, Tester::Wrk) => Some(1.25),
        (Row::Close, Tester::Wrk) => Some(1.0),
        (Row::Keep | Row::Close, Tester::Aquatic) => Some(3.0),
        _ => None,
    }
}

/// Prints one row.
pub(crate) fn print(row: Row, all: &[Series]) {
    println!("\n### {}\n", row.title());
    println!("| tester | requests/CPU s | requests/s | busy | annulus-load, times it | aim |");
    println!("|---|---|---|---|---|---|");
    let ours = all.iter().find(|series| series.tester == Tester::Ours);
    let ours: Vec<f64> =
        ours.iter().flat_map(|series| series.figures(Driven::per_cpu_second)).collect();
    for series in all {
        let name = series.tester.name();
        if let Err(why) = &series.rounds {
            println!("| {name} | {why} | | | | |");
            continue;
        }
        // Round by round: a machine that slows down slows both.
        let own = series.figures(Driven::per_cpu_second);
        let ratios = ours.iter().zip(own).map(|(ours, own)| ours / own);
        let ratio = Spread::of(ratios).filter(|_| series.tester != Tester::Ours);
        let aim = ratio.and_then(|ratio| {
            let aim = aim(row, series.tester)?;
            Some(format!("{aim}: {}", if ratio.median >= aim { "reached" } else { "missed" }))
        });
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            shown(Spread::of(series.figures(Driven::per_cpu_second)), 0),
            shown(Spread::of(series.figures(Driven::rate)), 0),
            shown(Spread::of(series.figures(Driven::busy_percent)), 0) + " %",
            shown(ratio, 2),
            aim.unwrap_or_default()
        );
    }
}

impl Series {
    fn figures(&self, of: impl Fn(&Driven) -> f64) -> impl Iterator<Item = f64> {
        self.rounds.iter().flatten().map(of)
    }
}

/// Median, and the least and the greatest in parentheses.
fn shown(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or(String::new(), |Spread { median, least, greatest }| {
        format!("{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
    })
}
