//! One run of wrk, a client that the project did not write: it sends the announces of
//! `annulus-load` in turn, and counts responses without reading them.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::process::Stdio;

use annulus_load::options::LoadOptions;
use annulus_load::plan::LoadPlan;
use annulus_load::request::{RequestKind, RequestTemplates};
use annulus_load::tracker_url::TrackerUrl;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::load::{CONNECTIONS, LoadJob};
use crate::net::KeepAlive;
use crate::process::{LOAD_CPU, pinned};
use crate::scratch;
use crate::servers::installed;
use crate::torrents::write_list;

const SCRIPT: &str = include_str!("wrk.lua");

/// Why there is no wrk, if there is none.
pub fn missing() -> Option<String> {
    installed("wrk").is_none().then(|| "wrk is not installed (apt-get install wrk)".to_owned())
}

/// Runs it on the load's CPU. The report has what a benchmark reads of one of `annulus-load`.
pub fn run(job: &LoadJob) -> Result<Value> {
    let (script, requests) = (scratch("wrk.lua"), scratch("wrk-requests"));
    fs::write(&script, SCRIPT)?;
    fs::write(&requests, announces(job)?)?;
    let mut command = pinned(LOAD_CPU, "wrk");
    command.args(["--threads", "1", "--connections", &CONNECTIONS.to_string()]);
    command.args(["--duration", &job.seconds.to_string()]).arg("--script").arg(&script);
    command.arg(job.at.url("/announce")).arg("--").arg(&requests);
    let before_ns = children_ns()?;
    let output = command.stdin(Stdio::null()).output()?;
    let cpu_ns = children_ns()? - before_ns;
    let printed = String::from_utf8_lossy(&output.stdout);
    let counts = printed.lines().find_map(|line| line.strip_prefix("answered "));
    let counts = counts.with_context(|| format!("wrk failed: {printed}"))?;
    let counts: Vec<u64> = counts.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [answered, duration_us, failed] = counts[..] else { bail!("wrk printed {printed}") };
    ensure!(failed == 0, "{failed} of {answered} requests failed under wrk");
    Ok(json!({ "good": answered, "seconds": duration_us as f64 / 1e6, "cpu_ns": cpu_ns }))
}

/// The announces that `annulus-load` makes, each once.
fn announces(job: &LoadJob) -> Result<Vec<u8>> {
    let list = scratch("load-torrents");
    write_list(&list, job.size.torrents())?;
    let torrents_file = list.to_str().context("a path that is not Unicode")?.to_owned();
    let options =
        LoadOptions { torrents_file, peers: job.size.announces(false), ..LoadOptions::default() };
    let plan = LoadPlan::new(&options).map_err(|why| anyhow!(why))?;
    let url = TrackerUrl::parse("http://127.0.0.1/announce", "").map_err(|why| anyhow!(why))?;
    let templates = RequestTemplates::new(&url, &options);
    let mut request = vec![0; templates.bytes_max()];
    let mut all = Vec::new();
    for peer in 0..plan.peers() {
        let kind = RequestKind::Announce { peer, started: false };
        let last = job.keep_alive == KeepAlive::Close;
        let length = templates.write(&mut request, &plan, kind, last);
        all.extend_from_slice(&request[..length]);
    }
    Ok(all)
}

/// CPU time of the programs that this process has started and that have ended.
fn children_ns() -> Result<u64> {
    let mut used = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one structure, to `used`, which has room for it.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, used.as_mut_ptr()) };
    ensure!(result == 0, "getrusage: {}", io::Error::last_os_error());
    // SAFETY: plain numbers, and zeroed before.
    let used = unsafe { used.assume_init() };
    let nanoseconds = |time: libc::timeval| time.tv_sec * 1_000_000_000 + time.tv_usec * 1000;
    Ok((nanoseconds(used.ru_utime) + nanoseconds(used.ru_stime)) as u64)
}
