//! What was measured, as Markdown: medians with their extremes.

use std::time::Duration;

use crate::load::Load;
use crate::process::CpuTime;
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

/// All measurements of one server in one row, or why there are none.
#[derive(Debug)]
pub(crate) struct Series {
    /// The server.
    pub(crate) server: Server,
    /// In the order in which they were made; the first of all servers belong together.
    pub(crate) rounds: Result<Vec<Round>, String>,
}

/// Prints one row's servers, the floor first.
pub(crate) fn print(title: &str, all: &[Series]) {
    let floor: &[Round] = all
        .iter()
        .find(|series| series.server == Server::Floor)
        .and_then(|series| series.rounds.as_deref().ok())
        .unwrap_or(&[]);
    println!("\n### {title}\n");
    println!(
        "| server | CPU µs/answer | × floor | answers/s | p50 µs | p99 µs | bytes/answer \
         | socket errors | status errors | waited |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut has_unannounced_closes = false;
    for series in all {
        match &series.rounds {
            Ok(rounds) => {
                println!("| {} |{} |", series.server.name(), cells(rounds, floor));
                has_unannounced_closes |= series.server == Server::Opentracker;
            }
            Err(why) => {
                println!("| {} | {why} | | | | | | | | |", series.server.name());
            }
        }
    }
    if has_unannounced_closes {
        println!(
            "\nopentracker closes without `Connection: close`, which wrk counts as a socket error \
             each time."
        );
    }
}

fn cells(rounds: &[Round], floor: &[Round]) -> String {
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    // Each round against the floor's of the same round: a machine that slows down slows both.
    let ratios: Vec<f64> = rounds
        .iter()
        .zip(floor)
        .map(|(own, floor)| own.cpu_micros() / floor.cpu_micros())
        .collect();
    let socket_errors: u64 = rounds.iter().map(|round| round.load.socket_errors).sum();
    let status_errors: u64 = rounds.iter().map(|round| round.load.status_errors).sum();
    let waited = each(&Round::waited).into_iter().fold(0.0, f64::max);
    [
        spread(each(&Round::cpu_micros), 2),
        spread(ratios, 2),
        spread(each(&Round::answers_per_second), 0),
        spread(each(&|round| micros(round.load.latency_p50)), 0),
        spread(each(&|round| micros(round.load.latency_p99)), 0),
        format!(
            "{:.0}",
            median(each(&|round| round.load.bytes as f64 / round.load.answers as f64))
        ),
        socket_errors.to_string(),
        status_errors.to_string(),
        format!("{:.1} %{}", waited * 100.0, if waited > WAITED_MAX { " (disturbed)" } else { "" }),
    ]
    .map(|cell| format!(" {cell}"))
    .join(" |")
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
