//! What an input says about its own way to the server.

/// Bytes of a record's header: type, version, length.
const HEADER_BYTES: usize = 5;

/// How a client ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FuzzedEnd {
    /// With close_notify.
    Notify,
    /// With nothing: TCP ends.
    None,
}

/// The first bytes of an input.
pub(crate) struct FuzzScript {
    /// What follows goes to the server as it is; otherwise it is what a client says.
    pub(crate) raw: bool,
    /// TLS 1.2 instead of 1.3.
    pub(crate) old: bool,
    /// It goes on with an earlier session.
    pub(crate) resumes: bool,
    pub(crate) farewell: FuzzedEnd,
    /// Bytes of reply space beyond the longest reply.
    pub(crate) room: usize,
    /// How what is sent is cut.
    cut: u8,
    step: u8,
    /// Bytes of a record, 0 for all in as few as there can be.
    record: usize,
    mutations: Vec<Mutation>,
}

impl FuzzScript {
    /// The script, and what follows it.
    pub(crate) fn read(input: &[u8]) -> Option<(FuzzScript, &[u8])> {
        let (&[flags, cut, step, room, record, mutations], mut rest) =
            input.split_first_chunk::<6>()?;
        let mut script = FuzzScript {
            raw: flags & 1 != 0,
            old: flags & 2 != 0,
            resumes: flags & 8 != 0,
            farewell: if flags & 4 != 0 { FuzzedEnd::None } else { FuzzedEnd::Notify },
            room: usize::from(room) * 8,
            cut,
            step,
            record: usize::from(record),
            mutations: Vec::new(),
        };
        for _ in 0..mutations % 4 {
            let (&[kind, high, low, len, value], after) = rest.split_first_chunk::<5>()?;
            let at = usize::from(u16::from_be_bytes([high, low]) % 2048);
            script.mutations.push(Mutation { kind, at, len: usize::from(len), value });
            rest = after;
        }
        Some((script, rest))
    }

    /// Whether the client's bytes arrive as they were sent.
    pub(crate) fn is_true(&self) -> bool {
        self.mutations.is_empty()
    }

    pub(crate) fn way(&self) -> Way<'_> {
        Way { mutations: &self.mutations, carried: 0, ended: false }
    }

    /// What the client says at a time.
    pub(crate) fn records<'a>(&self, requests: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let size = if self.record == 0 { requests.len() } else { self.record };
        requests.chunks(size.max(1))
    }

    /// What the server receives at a time.
    pub(crate) fn pieces<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        let mut size = if self.cut == 0 { usize::MAX } else { usize::from(self.cut) };
        while rest.len() > size {
            let (piece, after) = rest.split_at(size);
            pieces.push(piece);
            rest = after;
            size = size * usize::from(self.step % 7 + 1) % 397 + 1;
        }
        if !rest.is_empty() {
            pieces.push(rest);
        }
        pieces
    }
}

/// One change, `at` a byte of what the client has sent in all.
struct Mutation {
    kind: u8,
    at: usize,
    len: usize,
    value: u8,
}

/// The way of a client's bytes to the server.
pub(crate) struct Way<'a> {
    mutations: &'a [Mutation],
    /// Bytes that the client has sent.
    carried: usize,
    /// Nothing arrives any more.
    ended: bool,
}

impl Way<'_> {
    /// Takes what the client sends next. Returns what arrives.
    pub(crate) fn carry(&mut self, sent: Vec<u8>) -> Vec<u8> {
        if self.ended {
            return Vec::new();
        }
        let here = self.carried..self.carried + sent.len();
        self.carried = here.end;
        let mut bytes = sent;
        for mutation in self.mutations.iter().filter(|mutation| here.contains(&mutation.at)) {
            // An earlier change may have made it shorter.
            let at = (mutation.at - here.start).min(bytes.len());
            let end = (at + mutation.len).min(bytes.len());
            match mutation.kind % 6 {
                0 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << (mutation.value % 8);
                    }
                }
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, vec![mutation.value; mutation.len])),
                3 => {
                    bytes.truncate(at);
                    self.ended = true;
                }
                4 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(end..end, again);
                }
                _ => swap_records(&mut bytes, at),
            }
        }
        bytes
    }
}

/// Swaps the record that has the byte `at` with the one after it.
fn swap_records(bytes: &mut [u8], at: usize) {
    let end_of = |start: usize| {
        let header = bytes.get(start..start + HEADER_BYTES)?;
        let end = start + HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
        (end <= bytes.len()).then_some(end)
    };
    let mut start = 0;
    while let Some(end) = end_of(start) {
        if at < end {
            if let Some(end_of_next) = end_of(end) {
                bytes[start..end_of_next].rotate_left(end - start);
            }
            return;
        }
        start = end;
    }
}
