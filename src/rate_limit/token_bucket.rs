//! What is remembered of one address.

/// The request rate of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Requests that every second allows; 0 where requests are not limited.
    pub(super) per_s: u32,
    /// Requests at one moment, at least `per_s`.
    pub(super) burst: u32,
}

impl Rate {
    pub(super) fn is_limited(self) -> bool {
        self.per_s > 0
    }
}

/// The state of one address. The default is that of an unseen address. It serves as well as that of
/// an address without connections that has been idle for long enough, so either can be discarded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenBucket {
    /// Identifies the address: some bits of its hash.
    pub(super) tag: u32,
    /// Open connections.
    pub(super) connections: u16,
    /// Requests rejected in second `used_s`.
    pub(super) rejected: u16,
    /// Charged requests that no second has given back yet: at most the burst.
    pub(super) used_tokens: u32,
    /// The second of the last use, up to which tokens have been given back.
    pub(super) used_s: u32,
}

impl TokenBucket {
    pub(super) fn new(tag: u32, now_s: u32) -> TokenBucket {
        TokenBucket { tag, used_s: now_s, ..TokenBucket::default() }
    }

    /// Gives back the tokens of the seconds since the last use. The clocks of two workers may
    /// differ by a turn: a second that is over already gives nothing back.
    pub(super) fn refill(&mut self, rate: Rate, now_s: u32) {
        let passed_s = now_s.saturating_sub(self.used_s);
        if passed_s > 0 {
            self.used_tokens = self.used_tokens.saturating_sub(passed_s.saturating_mul(rate.per_s));
            self.rejected = 0;
            self.used_s = now_s;
        }
    }

    pub(super) fn is_empty(&self, rate: Rate) -> bool {
        rate.is_limited() && self.used_tokens >= rate.burst
    }

    /// Takes a token for a request. Returns whether there was one; if not, the rejection is
    /// counted.
    pub(super) fn charge(&mut self, rate: Rate) -> bool {
        if self.is_empty(rate) {
            self.rejected = self.rejected.saturating_add(1);
            return false;
        }
        self.used_tokens += u32::from(rate.is_limited());
        true
    }
}
