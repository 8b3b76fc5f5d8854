//! Requests that are not granted: what each of them is told.

use std::net::IpAddr;

use annulus_parser::{Error, Target, target_so_far};

use super::Server;
use crate::connection::RequestError;
use crate::limits::{HEAD_BYTES_MAX, REFUSED_RETRY_MINUTES, REQUEST_LINE_BYTES_MAX};
use crate::metrics::labels::{FailureReason, RefusalReason, RequestType};
use crate::proxy::UnknownClient;
use crate::response::{self, ResponseOptions, RetryIn, Status};

/// Minutes after which a client may try again whose address was not told.
const UNKNOWN_RETRY_MINUTES: u32 = 5;

impl Server {
    /// Answers a client whose address the proxy before it has kept back: that may be mended.
    pub(super) fn answer_unknown(
        &mut self,
        proxy: Option<IpAddr>,
        unknown: UnknownClient,
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.note_unknown(proxy, self.now_s);
        }
        let (refusal, reason) = match unknown {
            UnknownClient::Missing => (
                RefusalReason::ClientMissing,
                "the proxy before this tracker does not say your address: its header is missing",
            ),
            UnknownClient::Unreadable => (
                RefusalReason::ClientUnreadable,
                "the proxy before this tracker does not say your address: its header is unreadable",
            ),
        };
        self.fail(FailureReason::Refusal(refusal));
        let retry = RetryIn::Minutes(UNKNOWN_RETRY_MINUTES);
        response::failure(out, envelope, reason, self.intervals(), retry)
    }

    /// Answers a client at whose address no peer can be reached, by what its connection or the
    /// PROXY protocol says: that may be mended.
    pub(super) fn answer_unreachable(
        &mut self,
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        self.fail(FailureReason::Refusal(RefusalReason::ClientUnreachable));
        let reason = "nobody can reach a peer at the address that this request came from";
        let retry = RetryIn::Minutes(UNKNOWN_RETRY_MINUTES);
        response::failure(out, envelope, reason, self.intervals(), retry)
    }

    /// Answers a request of an address that has made too many.
    pub(super) fn put_off(
        &mut self,
        kind: RequestType,
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        self.fail(FailureReason::Refusal(RefusalReason::TooManyRequests));
        if kind == RequestType::Page {
            let text = "Too many requests come from your address: try again later.\n";
            return response::message(out, envelope, Status::TooManyRequests, text);
        }
        let reason = "too many requests come from your address: try again later";
        let retry = RetryIn::Minutes(REFUSED_RETRY_MINUTES);
        response::failure(out, envelope, reason, self.intervals(), retry)
    }

    /// Answers a query that is wrong.
    pub(super) fn reject(
        &mut self,
        error: Error,
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        self.fail(FailureReason::Malformed(error));
        match verdict(error) {
            ErrorResponse::Failure(reason) => {
                response::failure(out, envelope, reason, self.intervals(), RetryIn::Never)
            }
            ErrorResponse::Close(status, text) => {
                let closing = ResponseOptions { keep_alive: false, ..envelope };
                response::message(out, closing, status, text)
            }
        }
    }

    /// Answers a scrape of more torrents than one may ask for.
    pub(super) fn refuse_long_scrape(
        &mut self,
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        self.fail(FailureReason::Refusal(RefusalReason::ScrapeTooLarge));
        let reason = self.scrape_bound();
        response::failure(out, envelope, &reason, self.intervals(), RetryIn::Never)
    }

    fn scrape_bound(&self) -> String {
        format!("a scrape may ask for {} torrents at most", self.protocol.max_scrape_torrents)
    }

    /// Answers a request line without an end, so that who is a client can read it.
    fn refuse_long_line(
        &mut self,
        said: &[u8],
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let bound = format!("the request line is longer than {REQUEST_LINE_BYTES_MAX} bytes");
        let reason = match target_so_far(&said[..said.len().min(HEAD_BYTES_MAX)]) {
            Some(Target::Announce(_)) => bound,
            Some(Target::Scrape(_)) => format!("{bound}: {}", self.scrape_bound()),
            Some(Target::Other(_)) | None => {
                return self.reject(Error::RequestLineTooLong, envelope, out);
            }
        };
        self.fail(FailureReason::Malformed(Error::RequestLineTooLong));
        response::failure(out, envelope, &reason, self.intervals(), RetryIn::Never)
    }

    /// Answers `said`, which is no request that can be served.
    pub(super) fn send_away(
        &mut self,
        mistake: RequestError,
        said: &[u8],
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let (refusal, status, text) = match mistake {
            RequestError::Malformed(Error::RequestLineTooLong) => {
                return self.refuse_long_line(said, envelope, out);
            }
            RequestError::Malformed(error) => return self.reject(error, envelope, out),
            RequestError::Truncated => (
                RefusalReason::Truncated,
                Status::BadRequest,
                "The request ended before it was whole.\n",
            ),
            RequestError::Timeout => (
                RefusalReason::Timeout,
                Status::RequestTimeout,
                "The request took too long to arrive.\n",
            ),
            RequestError::UnexpectedTls => (
                RefusalReason::UnexpectedTls,
                Status::BadRequest,
                "This port speaks HTTP without TLS: write http:// in the URL.\n",
            ),
            RequestError::NotTls => (
                RefusalReason::NotTls,
                Status::BadRequest,
                "This port speaks TLS: write https:// in the URL.\n",
            ),
            RequestError::MissingProxyHeader => (
                RefusalReason::MissingProxyHeader,
                Status::BadRequest,
                "This port speaks the PROXY protocol to trusted proxies.\n",
            ),
        };
        self.fail(FailureReason::Refusal(refusal));
        response::message(out, envelope, status, text)
    }
}

/// How a mistake is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorResponse {
    /// HTTP 200 with this `failure reason`; the connection goes on as the request asked.
    Failure(&'static str),
    /// This status and text; the connection is closed.
    Close(Status, &'static str),
}

/// The answer to every mistake a request can make.
fn verdict(error: Error) -> ErrorResponse {
    use ErrorResponse::{Close, Failure};
    use Status::{
        BadRequest, HeaderFieldsTooLarge, MethodNotAllowed, UriTooLong, VersionNotSupported,
    };
    match error {
        Error::MethodMalformed => Close(BadRequest, "This is not HTTP.\n"),
        Error::MethodNotAllowed => {
            Close(MethodNotAllowed, "Only GET, HEAD and OPTIONS are served.\n")
        }
        Error::TargetMalformed => Close(BadRequest, "The request target is malformed.\n"),
        Error::VersionMalformed => Close(BadRequest, "The HTTP version is malformed.\n"),
        Error::VersionNotSupported => Close(VersionNotSupported, "Only HTTP/1.x is served.\n"),
        Error::RequestLineTooLong => Close(UriTooLong, "The request line is too long.\n"),
        Error::HeadTooLarge => Close(HeaderFieldsTooLarge, "The request head is too large.\n"),
        Error::TooManyHeaders => Close(HeaderFieldsTooLarge, "Too many header lines.\n"),
        Error::LineEndMalformed => Close(BadRequest, "A CR stands without its LF.\n"),
        Error::HeaderFolded => Close(BadRequest, "Folded header lines are not accepted.\n"),
        Error::HeaderNameMalformed => Close(BadRequest, "A header name is malformed.\n"),
        Error::HeaderValueMalformed => Close(BadRequest, "A header value has a NUL in it.\n"),
        Error::ContentLengthMalformed => Close(BadRequest, "Content-Length is malformed.\n"),
        Error::BodyNotAllowed => Close(BadRequest, "Requests with a body are not accepted.\n"),
        Error::InfoHashMissing => Failure("info_hash is missing"),
        Error::InfoHashEscapeMalformed => {
            Failure("info_hash has a percent sign without two hex digits")
        }
        Error::InfoHashLengthWrong => {
            Failure("info_hash is neither 20 bytes nor, for a v2 torrent, 32 bytes long")
        }
        Error::InfoHashHex => {
            Failure("info_hash is in hex digits: percent-encode the 20 bytes that they stand for")
        }
        Error::InfoHashBase32 => {
            Failure("info_hash is in base32: percent-encode the 20 bytes that it stands for")
        }
        Error::InfoHashRepeated => Failure("info_hash is given more than once"),
        Error::PortMissing => Failure("port is missing"),
        Error::PortInvalid => Failure("port is not a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorResponse, Status, verdict};
    use crate::response::MESSAGE_BYTES_MAX;

    #[test]
    fn every_mistake_has_an_answer_that_fits() {
        for error in Error::ALL {
            let text = match verdict(error) {
                ErrorResponse::Failure(text) => text,
                ErrorResponse::Close(status, text) => {
                    assert_ne!(status, Status::Ok);
                    assert!(text.ends_with('\n'));
                    text
                }
            };
            assert!(!text.is_empty() && text.len() <= MESSAGE_BYTES_MAX, "{error:?}");
        }
    }
}
