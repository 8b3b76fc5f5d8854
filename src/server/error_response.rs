//! Requests that are rejected, and the response to each.

use std::borrow::Cow;
use std::net::IpAddr;

use annulus_parser::{Error, Target, target_so_far};

use super::Server;
use crate::connection::RequestError;
use crate::limits::{
    HEAD_BYTES_MAX, NOT_SERVED_RETRY_MINUTES, REFUSED_RETRY_MINUTES, REQUEST_LINE_BYTES_MAX,
};
use crate::metrics::labels::{FailureReason, RefusalReason, RequestType};
use crate::proxy::UnknownClient;
use crate::response::{self, ResponseOptions, RetryIn, Status};

/// When a client whose address is missing or unreachable may try again: the operator may have
/// corrected that by then.
const ADDRESS_RETRY: RetryIn = RetryIn::Minutes(5);

/// The response to an error.
enum ErrorResponse {
    /// HTTP 200 with this `failure reason`; the connection stays as the request asks.
    Failure(Cow<'static, str>, RetryIn),
    /// This status and text, then the connection is closed.
    Close(Status, &'static str),
}

impl From<Error> for FailureReason {
    fn from(error: Error) -> FailureReason {
        FailureReason::Malformed(error)
    }
}

impl From<RefusalReason> for FailureReason {
    fn from(refusal: RefusalReason) -> FailureReason {
        FailureReason::Refusal(refusal)
    }
}

impl Server {
    /// Counts a failure and answers it.
    pub(super) fn reject(
        &mut self,
        failure: impl Into<FailureReason>,
        options: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let failure = failure.into();
        self.count_failure(failure);
        match self.error_response(failure) {
            ErrorResponse::Failure(reason, retry) => {
                response::failure(out, options, &reason, self.intervals(), retry)
            }
            ErrorResponse::Close(status, text) => {
                let closing = ResponseOptions { keep_alive: false, ..options };
                response::message(out, closing, status, text)
            }
        }
    }

    fn error_response(&self, failure: FailureReason) -> ErrorResponse {
        match failure {
            FailureReason::Malformed(error) => parse_error_response(error),
            FailureReason::Refusal(refusal) => self.refusal_response(refusal),
        }
    }

    /// The text of the response to a failure, of at most
    /// [`MESSAGE_BYTES_MAX`](response::MESSAGE_BYTES_MAX).
    pub(super) fn failure_text(&self, failure: FailureReason) -> Cow<'static, str> {
        match self.error_response(failure) {
            ErrorResponse::Failure(reason, _) => reason,
            ErrorResponse::Close(_, text) => text.trim_ascii_end().into(),
        }
    }

    /// The proxy in front of this tracker does not name its client.
    pub(super) fn reject_unknown_client(
        &mut self,
        proxy: Option<IpAddr>,
        unknown: UnknownClient,
        options: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.note_unknown(proxy, self.now_s);
        }
        let refusal = match unknown {
            UnknownClient::Missing => RefusalReason::ClientMissing,
            UnknownClient::Unreadable => RefusalReason::ClientUnreadable,
        };
        self.reject(refusal, options, out)
    }

    pub(super) fn reject_rate_limited(
        &mut self,
        request_type: RequestType,
        options: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let failure = RefusalReason::TooManyRequests;
        if request_type != RequestType::Page {
            return self.reject(failure, options, out);
        }
        self.count_failure(failure.into());
        let text = "Too many requests come from your address: try again later.\n";
        response::message(out, options, Status::TooManyRequests, text)
    }

    /// Answers `received`, which is no request that can be served.
    pub(super) fn reject_protocol_error(
        &mut self,
        error: RequestError,
        received: &[u8],
        options: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let refusal = match error {
            RequestError::Malformed(Error::RequestLineTooLong) => {
                return self.reject_long_request_line(received, options, out);
            }
            RequestError::Malformed(error) => return self.reject(error, options, out),
            RequestError::Truncated => RefusalReason::Truncated,
            RequestError::Timeout => RefusalReason::Timeout,
            RequestError::UnexpectedTls => RefusalReason::UnexpectedTls,
            RequestError::NotTls => RefusalReason::NotTls,
            RequestError::MissingProxyHeader => RefusalReason::MissingProxyHeader,
        };
        self.reject(refusal, options, out)
    }

    /// If the line begins like an announce or a scrape, the response is one that a BitTorrent
    /// client shows its user.
    fn reject_long_request_line(
        &mut self,
        received: &[u8],
        options: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let failure = Error::RequestLineTooLong;
        let bound = format!("the request line is longer than {REQUEST_LINE_BYTES_MAX} bytes");
        let reason = match target_so_far(&received[..received.len().min(HEAD_BYTES_MAX)]) {
            Some(Target::Announce(_)) => bound,
            Some(Target::Scrape(_)) => format!("{bound}: {}", self.scrape_bound(usize::MAX)),
            Some(Target::Other(_)) | None => return self.reject(failure, options, out),
        };
        self.count_failure(failure.into());
        response::failure(out, options, &reason, self.intervals(), RetryIn::Never)
    }

    /// What is said of scrapes with more torrents than are configured, or than `torrents_max`.
    pub(super) fn scrape_bound(&self, torrents_max: usize) -> String {
        let torrents_max = torrents_max.min(self.protocol.max_scrape_torrents);
        format!("a scrape may ask for {torrents_max} torrents at most")
    }

    fn refusal_response(&self, refusal: RefusalReason) -> ErrorResponse {
        use ErrorResponse::{Close, Failure};
        use RetryIn::{Minutes, Never};
        use Status::{BadRequest, NotFound, RequestTimeout};
        let (reason, retry) = match refusal {
            RefusalReason::TorrentNotServed => {
                ("this tracker does not serve this torrent", Minutes(NOT_SERVED_RETRY_MINUTES))
            }
            RefusalReason::ClientMissing => (
                "the proxy before this tracker does not say your address: its header is missing",
                ADDRESS_RETRY,
            ),
            RefusalReason::ClientUnreadable => (
                "the proxy before this tracker does not say your address: its header is unreadable",
                ADDRESS_RETRY,
            ),
            RefusalReason::ClientUnreachable => (
                "nobody can reach a peer at the address that this request came from",
                ADDRESS_RETRY,
            ),
            RefusalReason::ScrapeTooLarge => {
                return Failure(self.scrape_bound(usize::MAX).into(), Never);
            }
            RefusalReason::FullScrapeOff => {
                ("scrape: info_hash is missing, and full scrapes are off", Never)
            }
            RefusalReason::FullScrapeBusy => {
                ("too many full scrapes are being answered already: try again later", Minutes(1))
            }
            RefusalReason::TooManyRequests => (
                "too many requests come from your address: try again later",
                Minutes(REFUSED_RETRY_MINUTES),
            ),
            RefusalReason::ActionUnknown => {
                ("the action is unknown: connect, announce and scrape are all there is", Never)
            }
            RefusalReason::Truncated => {
                return Close(BadRequest, "The request ended before it was whole.\n");
            }
            RefusalReason::Timeout => {
                return Close(RequestTimeout, "The request took too long to arrive.\n");
            }
            RefusalReason::UnexpectedTls => {
                let text = "This port speaks HTTP without TLS: write http:// in the URL.\n";
                return Close(BadRequest, text);
            }
            RefusalReason::NotTls => {
                return Close(BadRequest, "This port speaks TLS: write https:// in the URL.\n");
            }
            RefusalReason::MissingProxyHeader => {
                let text = "This port speaks the PROXY protocol to trusted proxies.\n";
                return Close(BadRequest, text);
            }
            RefusalReason::NotFound => {
                let text =
                    "This is a BitTorrent tracker: /announce and /scrape are all there is.\n";
                return Close(NotFound, text);
            }
        };
        Failure(reason.into(), retry)
    }
}

fn parse_error_response(error: Error) -> ErrorResponse {
    use ErrorResponse::Close;
    use Status::{
        BadRequest, HeaderFieldsTooLarge, MethodNotAllowed, UriTooLong, VersionNotSupported,
    };
    let failure = |reason: &'static str| ErrorResponse::Failure(reason.into(), RetryIn::Never);
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
        Error::InfoHashMissing => failure("info_hash is missing"),
        Error::InfoHashEscapeMalformed => {
            failure("info_hash has a percent sign without two hex digits")
        }
        Error::InfoHashLengthWrong => {
            failure("info_hash is neither 20 bytes nor, for a v2 torrent, 32 bytes long")
        }
        Error::InfoHashHex => {
            failure("info_hash is in hex digits: percent-encode the 20 bytes that they stand for")
        }
        Error::InfoHashBase32 => {
            failure("info_hash is in base32: percent-encode the 20 bytes that it stands for")
        }
        Error::InfoHashRepeated => failure("info_hash is given more than once"),
        Error::PortMissing => failure("port is missing"),
        Error::PortInvalid => failure("port is not a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorResponse, Status, parse_error_response};
    use crate::response::MESSAGE_BYTES_MAX;

    #[test]
    fn every_error_has_a_response_that_fits() {
        for error in Error::ALL {
            let text = match parse_error_response(error) {
                ErrorResponse::Failure(reason, _) => reason,
                ErrorResponse::Close(status, text) => {
                    assert_ne!(status, Status::Ok);
                    assert!(text.ends_with('\n'));
                    text.into()
                }
            };
            assert!(!text.is_empty() && text.len() <= MESSAGE_BYTES_MAX, "{error:?}");
        }
    }
}
