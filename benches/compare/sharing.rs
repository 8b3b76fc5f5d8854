//! What workers share, a machine and the tables: what was measured of it, and its part of the
//! document.

use std::fmt::Write;

use crate::document::percent;
use crate::json::Value;
use crate::results::{Measured, read_outcome, read_row, written_outcome};
use crate::row::Row;
use crate::spread::Spread;

/// One run of the load against this tracker, both on both CPUs.
#[derive(Debug, PartialEq)]
pub(crate) struct Shared {
    /// What was asked: [`Row::Keep`] or [`Row::Close`].
    pub(crate) row: Row,
    /// Workers of the tracker.
    pub(crate) workers: u64,
    /// What came of it; or why there is nothing.
    pub(crate) outcome: Result<Measured, String>,
}

/// What threads that announce at the same time had to wait for.
#[derive(Debug, PartialEq)]
pub(crate) struct Contended {
    /// What they announced: one torrent, or many alike.
    pub(crate) torrents: String,
    /// How many they were.
    pub(crate) threads: u64,
    /// Announces of all of them.
    pub(crate) announces: f64,
    /// How often one found a shard of the tables locked by another.
    pub(crate) waits: f64,
    /// How often one slept for that, by its voluntary context switches.
    pub(crate) sleeps: f64,
    /// How often one was taken off its CPU, by its involuntary context switches.
    pub(crate) preempted: f64,
    /// Misses, where something can count them.
    pub(crate) misses: Option<Misses>,
}

/// Misses of the caches for data in each announce.
#[derive(Debug, PartialEq)]
pub(crate) struct Misses {
    /// Who counted.
    pub(crate) by: String,
    /// Of the first level.
    pub(crate) first: f64,
    /// Of the last level.
    pub(crate) last: f64,
}

impl Shared {
    /// Reads what [`Shared::written`] makes.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn read(value: &Value) -> Result<Shared, String> {
        let workers = value.number("workers")? as u64;
        Ok(Shared { row: read_row(value)?, workers, outcome: read_outcome(value)? })
    }

    /// As it is kept.
    pub(crate) fn written(&self) -> Value {
        let row = ("row", self.row.name().into());
        written_outcome(&[row, ("workers", (self.workers as f64).into())], &self.outcome)
    }
}

impl Contended {
    /// Reads what [`Contended::written`] makes.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn read(value: &Value) -> Result<Contended, String> {
        let misses = value.get("misses").map(|misses| {
            let (first, last) = (misses.number("first")?, misses.number("last")?);
            Ok::<Misses, String>(Misses { by: misses.text("by")?.to_owned(), first, last })
        });
        Ok(Contended {
            torrents: value.text("torrents")?.to_owned(),
            threads: value.number("threads")? as u64,
            announces: value.number("announces")?,
            waits: value.number("waits")?,
            sleeps: value.number("sleeps")?,
            preempted: value.number("preempted")?,
            misses: misses.transpose()?,
        })
    }

    /// As it is kept.
    pub(crate) fn written(&self) -> Value {
        let mut fields = vec![
            ("torrents", self.torrents.as_str().into()),
            ("threads", (self.threads as f64).into()),
            ("announces", self.announces.into()),
            ("waits", self.waits.into()),
            ("sleeps", self.sleeps.into()),
            ("preempted", self.preempted.into()),
        ];
        if let Some(Misses { by, first, last }) = &self.misses {
            let by = ("by", by.as_str().into());
            let misses = [by, ("first", (*first).into()), ("last", (*last).into())];
            fields.push(("misses", Value::object(misses)));
        }
        Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// The section on one worker and two; nothing where that was not measured.
pub(crate) fn workers(all: &[Shared]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n## Two workers\n\n\
         Annulus with one worker and with two, and the load with two threads, all of them on\n\
         both cores, 64 connections, as fast as is answered. The load is squeezed in: it takes\n\
         from two workers what it leaves to one, so the answers a second cannot double. What a\n\
         second worker costs shows in the CPU time of an answer: locks, cache lines that move,\n\
         fewer answers in a turn of the loop. The last column is what two workers could answer by\n\
         that, against one, if each had a core to itself.\n\n\
         | row | workers | answers a second | CPU, µs | server's CPUs | ratio of answers \
         | twice the CPU ratio |\n|---|---|---|---|---|---|---|\n",
    );
    for row in [Row::Keep, Row::Close] {
        let rates = [1, 2].map(|workers| median(all, row, workers, Measured::rate));
        let costs = [1, 2].map(|workers| median(all, row, workers, Measured::cpu_us));
        for workers in [1, 2] {
            let of = |figure| spread(all, row, workers, figure);
            let busy = percent(of(Measured::server_busy));
            let (rate, cost) = (cell(of(Measured::rate), 0), cell(of(Measured::cpu_us), 1));
            let ratios = match (workers, rates, costs) {
                (2, [Some(one), Some(two)], [Some(cost_of_one), Some(cost_of_two)]) => {
                    let scaled = 2.0 * cost_of_one / cost_of_two;
                    format!("**{:.2}** | {scaled:.2}", two / one)
                }
                _ => " | ".to_owned(),
            };
            let title = row.title();
            let cells = [rate, cost, busy, ratios].join(" | ");
            let _ = writeln!(text, "| {title} | {workers} | {cells} |");
        }
    }
    for shared in all {
        if let Err(why) = &shared.outcome {
            let (title, workers) = (shared.row.title(), shared.workers);
            let _ = writeln!(text, "\n{title}, {workers} workers: {why}.");
        }
    }
    text
}

/// The section on the tables; nothing where that was not measured.
pub(crate) fn tables(all: &[Contended]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n## Threads at the tables\n\n\
         Threads that do nothing but announce to the same tables, 50 peers wanted, more threads\n\
         than cores: what can be counted is told, not times. *Hot* is one torrent with all of\n\
         50,000 peers, and so one lock; *uniform* are 10,000 torrents of five peers. A *wait* is\n\
         a lock found taken, a *sleep* one that lasted (a voluntary context switch), *preempted*\n\
         a thread that had to leave its core, perhaps with a lock that others then wait for.\n\n\
         | torrents | threads | waits of 1,000 | sleeps of 1,000 | preempted of 1,000 \
         | first-level misses each | last-level misses each |\n|---|---|---|---|---|---|---|\n",
    );
    for contended in all {
        let Contended { torrents, threads, announces, waits, sleeps, preempted, misses } =
            contended;
        let each = [waits, sleeps, preempted].map(|count| count / announces * 1e3);
        let missed = match misses {
            Some(Misses { first, last, .. }) => format!("{first:.1} | {last:.2}"),
            None => "not counted | not counted".to_owned(),
        };
        let [waits, sleeps, preempted] = each.map(|count| format!("{count:.2}"));
        let _ = writeln!(
            text,
            "| {torrents} | {threads} | {waits} | {sleeps} | {preempted} | {missed} |"
        );
    }
    let by = all.iter().find_map(|contended| contended.misses.as_ref()).map(|misses| &misses.by);
    text += match by.map(String::as_str) {
        Some(SIMULATED) => {
            "\nMisses are those of cachegrind's model of this processor's caches, which runs one\n\
             thread at a time: it has no counters that can be had here (perf: not supported).\n\
             Lines that move from core to core are not among them; where there are counters,\n\
             this table has those of perf, and `perf c2c` finds such lines.\n"
        }
        Some(_) => "\nMisses are what the processor counted, as perf tells.\n",
        None => {
            "\nNothing here counts misses: perf finds no counters (cache-misses), and there is no\n\
             valgrind to simulate them.\n"
        }
    };
    text
}

/// Who counts where the processor does not.
pub(crate) const SIMULATED: &str = "cachegrind";

fn spread(all: &[Shared], row: Row, workers: u64, figure: fn(&Measured) -> f64) -> Option<Spread> {
    let runs = all.iter().filter(|shared| (shared.row, shared.workers) == (row, workers));
    Spread::of(runs.filter_map(|shared| shared.outcome.as_ref().ok().map(figure)))
}

fn median(all: &[Shared], row: Row, workers: u64, figure: fn(&Measured) -> f64) -> Option<f64> {
    spread(all, row, workers, figure).map(|spread| spread.median)
}

fn cell(spread: Option<Spread>, decimals: usize) -> String {
    let Some(Spread { median, least, greatest }) = spread else { return "-".to_owned() };
    format!("{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
}
