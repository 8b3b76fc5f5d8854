//! Everything that can be wrong with a request.

/// What is wrong with a request; one variant for each mistake that deserves its own answer.
///
/// The variants up to [`Error::BodyNotAllowed`] come from [`parse_head`](crate::parse_head):
/// where the next request starts is then unknown, so the connection cannot go on. The others
/// concern one query, and leave the connection as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The first byte that is not skipped does not begin a method, or the method is not a
    /// token, or it does not end within 32 bytes (RFC 9110 section 9.1). TLS sent to a plain
    /// port ends here.
    MethodMalformed,
    /// A method other than GET, HEAD and OPTIONS.
    MethodNotAllowed,
    /// The request target is empty or has a control character in it.
    TargetMalformed,
    /// The target is followed by something other than one space, `HTTP/` and two digits with
    /// a dot between them.
    VersionMalformed,
    /// HTTP of another major version than 1.
    VersionNotSupported,
    /// The request line, its line end included, is longer than
    /// [`Bounds::request_line_bytes_max`](crate::Bounds::request_line_bytes_max).
    RequestLineTooLong,
    /// The head, skipped bytes and blank line included, is longer than
    /// [`Bounds::head_bytes_max`](crate::Bounds::head_bytes_max).
    HeadTooLarge,
    /// More header lines than [`Bounds::headers_max`](crate::Bounds::headers_max).
    TooManyHeaders,
    /// A CR that no LF follows (RFC 9112 section 2.2).
    LineEndMalformed,
    /// A header line that begins with a space or a tab (obs-fold, RFC 9112 section 5.2).
    HeaderFolded,
    /// A header name that is empty, not a token, or not followed at once by a colon
    /// (RFC 9112 section 5.1).
    HeaderNameMalformed,
    /// A NUL in a header value (RFC 9110 section 5.5). CR and LF end one.
    HeaderValueMalformed,
    /// A Content-Length that is not a number, or two that differ (RFC 9112 section 6.3).
    ContentLengthMalformed,
    /// A request with a body: a Content-Length other than 0, or any Transfer-Encoding.
    BodyNotAllowed,
    /// An announce without `info_hash`.
    InfoHashMissing,
    /// A `%` that two hex digits do not follow, in an info hash.
    InfoHashEscapeMalformed,
    /// An info hash of neither 20 bytes (BEP 3) nor 32 (BEP 52), decoded.
    InfoHashLengthWrong,
    /// An info hash in hex digits: 40, or 64 of version 2.
    InfoHashHex,
    /// An info hash in base32, 32 characters: see [`parse_announce`](crate::parse_announce).
    InfoHashBase32,
    /// An announce with two `info_hash`.
    InfoHashRepeated,
    /// An announce, not of event `stopped`, without `port`.
    PortMissing,
    /// An announce, not of event `stopped`, whose port is not a number from 1 to 65535.
    PortInvalid,
}

impl Error {
    /// Every error, each once, so that a user can test that each has its answer.
    pub const ALL: [Error; 22] = [
        Error::MethodMalformed,
        Error::MethodNotAllowed,
        Error::TargetMalformed,
        Error::VersionMalformed,
        Error::VersionNotSupported,
        Error::RequestLineTooLong,
        Error::HeadTooLarge,
        Error::TooManyHeaders,
        Error::LineEndMalformed,
        Error::HeaderFolded,
        Error::HeaderNameMalformed,
        Error::HeaderValueMalformed,
        Error::ContentLengthMalformed,
        Error::BodyNotAllowed,
        Error::InfoHashMissing,
        Error::InfoHashEscapeMalformed,
        Error::InfoHashLengthWrong,
        Error::InfoHashHex,
        Error::InfoHashBase32,
        Error::InfoHashRepeated,
        Error::PortMissing,
        Error::PortInvalid,
    ];
}

// `ALL` lists the variants in order and ends with the last one: none can be missing.
const _: () = {
    let mut index = 0;
    while index < Error::ALL.len() {
        assert!(Error::ALL[index] as usize == index);
        index += 1;
    }
    assert!(Error::PortInvalid as usize + 1 == Error::ALL.len());
};
