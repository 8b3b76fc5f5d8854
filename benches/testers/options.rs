//! The command line of the benchmark.

/// How to call it.
pub(crate) const USAGE: &str = "\
usage: cargo bench --bench testers -- [OPTIONS]
  --rounds N      runs of each tester in each row (default 3)
  --seconds S     seconds of each run (default 5); aquatic_http_load_test, which counts by five
                  seconds, runs for the next multiple of them
The testers beside `annulus-load` are left out where they are not installed:
  apt-get install wrk
  cargo install aquatic_http_load_test --version 0.9.0 --locked";

/// Rounds and seconds that may be asked for.
const BOUNDS: std::ops::RangeInclusive<u64> = 1..=1000;

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    /// Runs of each tester in each row.
    pub(crate) rounds: usize,
    /// Seconds of each run.
    pub(crate) seconds: u64,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    ///
    /// The argument that is not understood.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { rounds: 3, seconds: 5 };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
                let number = value.parse().ok().filter(|number| BOUNDS.contains(number));
                number.ok_or(format!("{argument}: not 1 to 1000: {value}"))
            };
            match argument.as_str() {
                // Added by cargo.
                "--bench" => {}
                "--rounds" => options.rounds = number()? as usize,
                "--seconds" => options.seconds = number()?,
                _ => return Err(format!("not understood: {argument}")),
            }
        }
        Ok(options)
    }
}
