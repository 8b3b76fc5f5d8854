//! One connection: a request, its answer, and the end.

use std::io::{self, ErrorKind, Read};

use annulus_parser::{Bounds, Error, Head, Method, Parsed, Target, parse_head};

use super::overview::POLICY;
use super::routes::{Page, page};
use crate::admin::stats::StatsSource;
use crate::limits::OPERATIONS_HEAD_BYTES_MAX;

const BOUNDS: Bounds = Bounds {
    request_line_bytes_max: OPERATIONS_HEAD_BYTES_MAX,
    head_bytes_max: OPERATIONS_HEAD_BYTES_MAX,
    headers_max: 100,
};

/// The methods that are answered.
const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";

/// Reads a request from `stream`. Returns its answer, after which nothing more is to be sent.
///
/// # Errors
/// The stream fails or ends before, or has had its time.
pub(super) fn answer(stream: &mut impl Read, observer: &StatsSource) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    loop {
        let seen = received.len();
        read_some(stream, &mut received)?;
        match parse_head(&received, seen, &BOUNDS) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete { head, .. }) => return Ok(respond(observer, &head)),
            Err(error) => return Ok(write_page(&refusal(error), false)),
        }
    }
}

fn read_some(stream: &mut impl Read, received: &mut Vec<u8>) -> io::Result<()> {
    let mut space = [0; 2048];
    match stream.read(&mut space)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        len => {
            received.extend_from_slice(&space[..len]);
            Ok(())
        }
    }
}

fn respond(observer: &StatsSource, head: &Head<'_>) -> Vec<u8> {
    if head.method == Method::Options {
        return format!("HTTP/1.1 204 No Content\r\n{ALLOW}Connection: close\r\n\r\n").into_bytes();
    }
    let target = match head.target {
        Target::Other(target) => target,
        // Those are for the tracker's own addresses.
        Target::Announce(_) | Target::Scrape(_) => b"",
    };
    let mut parts = target.splitn(2, |&byte| byte == b'?');
    let [path, query] = [parts.next(), parts.next()].map(Option::unwrap_or_default);
    write_page(&page(observer, path, query), head.method == Method::Head)
}

fn refusal(error: Error) -> Page {
    match error {
        Error::MethodNotAllowed => {
            Page::line("405 Method Not Allowed", "Only GET, HEAD and OPTIONS are served.\n")
        }
        Error::VersionNotSupported => {
            Page::line("505 HTTP Version Not Supported", "Only HTTP/1.x is served.\n")
        }
        Error::RequestLineTooLong | Error::HeadTooLarge | Error::TooManyHeaders => {
            Page::line("431 Request Header Fields Too Large", "The request is too long.\n")
        }
        _ => Page::line("400 Bad Request", "This is not a request that can be answered.\n"),
    }
}

/// The bytes of an answer; that to a HEAD has no body.
fn write_page(page: &Page, head_only: bool) -> Vec<u8> {
    let Page { status, content_type, body } = page;
    let allow = if status.starts_with("405") { ALLOW } else { "" };
    let mut text = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: {content_type}\r\n\
         Content-Length: {}\r\n\
         Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: {POLICY}\r\n\
         {allow}Connection: close\r\n\r\n",
        body.len()
    );
    if !head_only {
        text += body;
    }
    text.into_bytes()
}
