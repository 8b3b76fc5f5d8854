//! What is remembered of one address.

/// Requests an address may make: at once, and then every second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Requests that every second gives back; 0 where requests are not limited.
    pub(super) per_s: u32,
    /// Requests in one moment, at least `per_s`.
    pub(super) burst: u32,
}

impl Rate {
    pub(super) fn is_limited(self) -> bool {
        self.per_s > 0
    }
}

/// One address's account. The default is that of an address never seen, and as good as that of
/// one without connections that has been quiet for long enough: nothing is lost with either.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenBucket {
    /// Who it is: some bits of the address's hash.
    pub(super) tag: u32,
    /// Open at present.
    pub(super) connections: u16,
    /// Requests refused in the second `used_s`.
    pub(super) refused: u16,
    /// Requests charged that no second has given back yet: at most the burst.
    pub(super) spent: u32,
    /// The second of its last use, up to which `spent` has been given back.
    pub(super) used_s: u32,
}

impl TokenBucket {
    /// A new account.
    pub(super) fn open(tag: u32, now_s: u32) -> TokenBucket {
        TokenBucket { tag, used_s: now_s, ..TokenBucket::default() }
    }

    /// Gives back what the seconds since the last use allow. A worker that is behind the others
    /// by a moment changes nothing.
    pub(super) fn settle(&mut self, rate: Rate, now_s: u32) {
        let passed_s = now_s.saturating_sub(self.used_s);
        if passed_s > 0 {
            self.spent = self.spent.saturating_sub(passed_s.saturating_mul(rate.per_s));
            self.refused = 0;
            self.used_s = now_s;
        }
    }

    /// Whether nothing is left to be spent in this second.
    pub(super) fn is_exhausted(&self, rate: Rate) -> bool {
        rate.is_limited() && self.spent >= rate.burst
    }

    /// Charges a request, if there is something left; else notes that it was refused.
    pub(super) fn charge(&mut self, rate: Rate) -> bool {
        if self.is_exhausted(rate) {
            self.refused = self.refused.saturating_add(1);
            return false;
        }
        self.spent += u32::from(rate.is_limited());
        true
    }
}
