//! One HTTP request and its response, and the paths that are served.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read};

use annulus_parser::{Bounds, Error, Head, Method, Parsed, Target, parse_head};

use super::stats::{Health, StatsSource};
use super::{json, prometheus};
use crate::limits::{ADMIN_HEAD_BYTES_MAX, TOP_TORRENTS_DEFAULT, TOP_TORRENTS_MAX};
use annulus_swarm::RankBy;

const PAGE: &str = include_str!("page.html");

/// What a browser may do with any response: use the style and the script of [`PAGE`], given by
/// their hashes, and fetch from this listener. A test computes the hashes.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-Fb8hg+WHo8gRjC3HtNj242tWSefcQHLmLuiSdJ9sFEY='; \
    script-src 'sha256-o8cla9LcatX0YZM6n9OLvrQogR11/SjNFUaYMtBai0s='; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const BOUNDS: Bounds = Bounds {
    request_line_bytes_max: ADMIN_HEAD_BYTES_MAX,
    head_bytes_max: ADMIN_HEAD_BYTES_MAX,
    headers_max: 100,
};

const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Status, content type and body.
#[derive(Debug)]
struct AdminResponse {
    /// As in "200 OK".
    status: &'static str,
    content_type: &'static str,
    body: Cow<'static, str>,
}

impl AdminResponse {
    fn ok(content_type: &'static str, body: impl Into<Cow<'static, str>>) -> AdminResponse {
        AdminResponse { status: "200 OK", content_type, body: body.into() }
    }

    fn text(status: &'static str, text: impl Into<Cow<'static, str>>) -> AdminResponse {
        AdminResponse { status, content_type: TEXT, body: text.into() }
    }
}

/// Reads a request from `stream` and returns the bytes of its response, the last of the
/// connection.
///
/// # Errors
/// Reading fails, or the stream ends before the request does.
pub(super) fn respond(stream: &mut impl Read, source: &StatsSource) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let seen = received.len();
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            len => received.extend_from_slice(&chunk[..len]),
        }
        match parse_head(&received, seen, &BOUNDS) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete { head, .. }) => return Ok(respond_to(&head, source)),
            Err(error) => return Ok(write(&error_response(error), false)),
        }
    }
}

fn respond_to(head: &Head<'_>, source: &StatsSource) -> Vec<u8> {
    if head.method == Method::Options {
        return format!("HTTP/1.1 204 No Content\r\n{ALLOW}Connection: close\r\n\r\n").into_bytes();
    }
    let target = match head.target {
        Target::Other(target) => target,
        // Those paths are served on the tracker's own addresses only.
        Target::Announce(_) | Target::Scrape(_) => b"",
    };
    let mut parts = target.splitn(2, |&byte| byte == b'?');
    let [path, query] = [parts.next(), parts.next()].map(Option::unwrap_or_default);
    write(&route(source, path, query), head.method == Method::Head)
}

fn error_response(error: Error) -> AdminResponse {
    let (status, text) = match error {
        Error::MethodNotAllowed => {
            ("405 Method Not Allowed", "Only GET, HEAD and OPTIONS are served.\n")
        }
        Error::VersionNotSupported => {
            ("505 HTTP Version Not Supported", "Only HTTP/1.x is served.\n")
        }
        Error::RequestLineTooLong | Error::HeadTooLarge | Error::TooManyHeaders => {
            ("431 Request Header Fields Too Large", "The request is too long.\n")
        }
        _ => ("400 Bad Request", "The request is malformed.\n"),
    };
    AdminResponse::text(status, text)
}

/// The bytes of a response, without its body if `head_only`.
fn write(response: &AdminResponse, head_only: bool) -> Vec<u8> {
    let AdminResponse { status, content_type, body } = response;
    let allow = if status.starts_with("405") { ALLOW } else { "" };
    let mut text = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: {content_type}\r\n\
         Content-Length: {}\r\n\
         Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: {CONTENT_SECURITY_POLICY}\r\n\
         {allow}Connection: close\r\n\r\n",
        body.len()
    );
    if !head_only {
        text += body;
    }
    text.into_bytes()
}

fn route(source: &StatsSource, path: &[u8], query: &[u8]) -> AdminResponse {
    match path {
        b"/" => AdminResponse::ok(HTML, PAGE),
        b"/health" => health(source),
        b"/metrics" => AdminResponse::ok(PROMETHEUS, prometheus::write(&source.snapshot())),
        b"/stats.json" => json_response(json::stats(&source.snapshot())),
        b"/top.json" => match parse_top_query(query) {
            Ok((by, n)) => json_response(json::torrents(source.ranking().top(by).take(n))),
            Err(text) => AdminResponse::text("400 Bad Request", text),
        },
        _ => AdminResponse::text(
            "404 Not Found",
            "The paths are /, /health, /metrics, /stats.json and /top.json.\n",
        ),
    }
}

fn json_response(body: serde_json::Result<String>) -> AdminResponse {
    match body {
        Ok(body) => AdminResponse::ok(JSON, body),
        Err(error) => AdminResponse::text("500 Internal Server Error", format!("{error}\n")),
    }
}

/// A reload that is not possible, or a state that cannot be written, is no reason to stop sending
/// clients here: it is only reported.
fn health(source: &StatsSource) -> AdminResponse {
    const UNAVAILABLE: &str = "503 Service Unavailable";
    let mut text = match source.health() {
        Health::Good => "ok\n".to_owned(),
        Health::Draining => return AdminResponse::text(UNAVAILABLE, "draining\n"),
        Health::Warming => {
            let what = "warming: the peers of the other nodes are not all here yet\n";
            return AdminResponse::text(UNAVAILABLE, what);
        }
        Health::Stuck { worker, silence_s } => {
            let what = format!("worker {worker} is stuck for {silence_s} seconds\n");
            return AdminResponse::text(UNAVAILABLE, what);
        }
    };
    if let Some(why) = source.parts.reload_health.problem() {
        text += &format!("certificates and access list cannot be reloaded: {why}\n");
    }
    if let Some(why) = source.parts.state.as_ref().and_then(|state| state.report().problem) {
        text += &format!("the swarms are not kept on disk: {why}\n");
    }
    if source.parts.cluster.as_ref().is_some_and(|cluster| !cluster.link.is_connected()) {
        text += "this node serves alone: no server of the cluster is connected, and the log says \
                 why\n";
    }
    AdminResponse::ok(TEXT, text)
}

/// The order and the number of torrents that a query as in `by=seeders&n=10` asks `/top.json` for.
/// The defaults are `leechers` and [`TOP_TORRENTS_DEFAULT`]; other parameters are ignored.
///
/// # Errors
/// The text of the error response.
fn parse_top_query(query: &[u8]) -> Result<(RankBy, usize), String> {
    let (mut by, mut n) = (RankBy::Leechers, TOP_TORRENTS_DEFAULT);
    for parameter in query.split(|&byte| byte == b'&') {
        if let Some(value) = parameter.strip_prefix(b"by=") {
            by = match value {
                b"leechers" => RankBy::Leechers,
                b"seeders" => RankBy::Seeders,
                b"downloads" => RankBy::Downloads,
                _ => return Err("by must be leechers, seeders or downloads\n".to_owned()),
            };
        } else if let Some(value) = parameter.strip_prefix(b"n=") {
            // `parse` alone would accept a sign too.
            let digits = value.iter().all(u8::is_ascii_digit).then_some(value);
            n = match digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()) {
                Some(n @ 1..=TOP_TORRENTS_MAX) => n,
                _ => return Err(format!("n must be a number from 1 to {TOP_TORRENTS_MAX}\n")),
            };
        }
    }
    Ok((by, n))
}
