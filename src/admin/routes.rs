//! Which paths there are.

use super::{json, overview, prometheus, top};
use crate::admin::stats::{Health, StatsSource};

const PLAIN: &str = "text/plain; charset=utf-8";

/// An answer, but for what every answer has.
#[derive(Debug)]
pub(super) struct Page {
    /// The status with its reason, as in "200 OK".
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    /// What is told in a line.
    pub(super) fn line(status: &'static str, text: impl Into<String>) -> Page {
        Page { status, content_type: PLAIN, body: text.into() }
    }
}

/// The answer to a request for `path`, and for what `query` says of it.
pub(super) fn page(observer: &StatsSource, path: &[u8], query: &[u8]) -> Page {
    match path {
        b"/" => Page {
            status: "200 OK",
            content_type: "text/html; charset=utf-8",
            body: overview::write(&observer.snapshot()),
        },
        b"/health" => health(observer.health(), observer.reload_health.problem()),
        b"/metrics" => Page {
            status: "200 OK",
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: prometheus::write(&observer.snapshot()),
        },
        b"/stats.json" => Page {
            status: "200 OK",
            content_type: "application/json",
            body: json::write(&observer.snapshot()),
        },
        b"/top.json" => match top::Wanted::parse(query) {
            Ok(wanted) => Page {
                status: "200 OK",
                content_type: "application/json",
                body: top::write(&observer.ranking(), wanted),
            },
            Err(what) => Page::line("400 Bad Request", what),
        },
        _ => Page::line(
            "404 Not Found",
            "There are /, /health, /metrics, /stats.json and /top.json here.\n",
        ),
    }
}

/// What keeps files from being read again is no reason to send clients elsewhere, but to be told.
fn health(health: Health, obstacle: Option<&str>) -> Page {
    const UNAVAILABLE: &str = "503 Service Unavailable";
    match health {
        Health::Good => {
            let told = |why| format!("certificates and access list cannot be reloaded: {why}\n");
            Page::line("200 OK", format!("ok\n{}", obstacle.map_or(String::new(), told)))
        }
        Health::Draining => Page::line(UNAVAILABLE, "draining\n"),
        Health::Stuck { worker, silence_s } => {
            Page::line(UNAVAILABLE, format!("worker {worker} is stuck for {silence_s} seconds\n"))
        }
    }
}
