//! The validity of a certificate, and when its expiry is warned of.

use time::OffsetDateTime;

use crate::limits::{CERTIFICATE_NOTICE_PARTS, CERTIFICATE_NOTICE_S_MAX};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The first and the last second in which a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub from_unix_s: i64,
    /// Not valid after.
    pub until_unix_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValidityState {
    NotYet,
    Valid,
    EndsSoon,
    Expired,
}

impl Validity {
    /// The last second without a warning of its expiry: a third of its lifetime before that, or
    /// [`CERTIFICATE_NOTICE_S_MAX`], whichever is less.
    pub fn notice_unix_s(&self) -> i64 {
        let life_s = self.until_unix_s.saturating_sub(self.from_unix_s).max(0);
        self.until_unix_s - (life_s / CERTIFICATE_NOTICE_PARTS).min(CERTIFICATE_NOTICE_S_MAX)
    }

    /// The warning at `now_unix_s`, if there is one, as in "expires on 2027-02-01".
    pub fn warning(&self, now_unix_s: i64) -> Option<String> {
        match self.standing(now_unix_s) {
            ValidityState::Valid => None,
            ValidityState::NotYet => {
                Some(format!("is not valid before {}", date(self.from_unix_s)))
            }
            ValidityState::EndsSoon => Some(format!("expires on {}", date(self.until_unix_s))),
            ValidityState::Expired => Some(format!("expired on {}", date(self.until_unix_s))),
        }
    }

    /// The warning, if it has changed since `last_unix_s` or another day (UTC) has begun.
    pub fn new_warnings(&self, last_unix_s: i64, now_unix_s: i64) -> Option<String> {
        let day = |unix_s: i64| unix_s.div_euclid(DAY_S);
        let is_known = self.standing(last_unix_s) == self.standing(now_unix_s)
            && day(last_unix_s) == day(now_unix_s);
        if is_known { None } else { self.warning(now_unix_s) }
    }

    /// The next second after `now_unix_s` at which the warning changes.
    pub fn next_change(&self, now_unix_s: i64) -> Option<i64> {
        let changes = [self.from_unix_s, self.notice_unix_s() + 1, self.until_unix_s + 1];
        changes.into_iter().filter(|&change| change > now_unix_s).min()
    }

    fn standing(&self, now_unix_s: i64) -> ValidityState {
        if now_unix_s < self.from_unix_s {
            ValidityState::NotYet
        } else if now_unix_s > self.until_unix_s {
            ValidityState::Expired
        } else if now_unix_s > self.notice_unix_s() {
            ValidityState::EndsSoon
        } else {
            ValidityState::Valid
        }
    }
}

/// As in 2027-02-01.
pub(super) fn date(unix_s: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(unix_s) {
        Ok(time) => time.date().to_string(),
        Err(_) => format!("second {unix_s}"),
    }
}
