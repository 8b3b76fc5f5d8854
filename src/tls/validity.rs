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
    pub(super) fn warning(&self, now_unix_s: i64) -> Option<String> {
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
    pub(super) fn new_warnings(&self, last_unix_s: i64, now_unix_s: i64) -> Option<String> {
        let day = |unix_s: i64| unix_s.div_euclid(DAY_S);
        let is_known = self.standing(last_unix_s) == self.standing(now_unix_s)
            && day(last_unix_s) == day(now_unix_s);
        if is_known { None } else { self.warning(now_unix_s) }
    }

    /// The next second after `now_unix_s` at which the warning changes.
    pub(super) fn next_change(&self, now_unix_s: i64) -> Option<i64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: i64 = 3600;
    /// A midnight.
    const START: i64 = 20_454 * DAY_S;

    fn lasting(life_s: i64) -> Validity {
        Validity { from_unix_s: START, until_unix_s: START + life_s }
    }

    #[test]
    fn the_notice_is_a_third_of_the_life_or_thirty_days() {
        for (life_s, notice_s) in [
            (398 * DAY_S, 30 * DAY_S),
            (90 * DAY_S, 30 * DAY_S),
            (89 * DAY_S, 89 * DAY_S / 3),
            (45 * DAY_S, 15 * DAY_S),
            (160 * HOUR_S, 160 * HOUR_S / 3),
            (60, 20),
            (0, 0),
            (-60, 0),
        ] {
            let validity = lasting(life_s);
            assert_eq!(validity.until_unix_s - validity.notice_unix_s(), notice_s, "{life_s}");
        }
        let all = Validity { from_unix_s: i64::MIN, until_unix_s: i64::MAX };
        assert_eq!(all.notice_unix_s(), i64::MAX - 30 * DAY_S);
    }

    #[test]
    fn a_change_is_told_at_once_and_then_once_a_day() {
        let validity = lasting(6 * DAY_S);
        let (mut told, mut lines) = (START - 2 * DAY_S, Vec::new());
        let mut now = told;
        while now < START + 8 * DAY_S {
            now += HOUR_S / 2;
            lines.extend(validity.new_warnings(told, now).map(|what| (now - START, what)));
            told = now;
        }
        let notice_s = 4 * DAY_S + HOUR_S / 2;
        let expected = [
            (-DAY_S, "is not valid before 2026-01-01"),
            (notice_s, "expires on 2026-01-07"),
            (5 * DAY_S, "expires on 2026-01-07"),
            (6 * DAY_S, "expires on 2026-01-07"),
            (6 * DAY_S + HOUR_S / 2, "expired on 2026-01-07"),
            (7 * DAY_S, "expired on 2026-01-07"),
            (8 * DAY_S, "expired on 2026-01-07"),
        ];
        assert_eq!(lines, expected.map(|(at, what)| (at, what.to_owned())));
    }

    #[test]
    fn the_next_change_is_when_the_warning_changes() {
        let validity = lasting(90 * HOUR_S);
        let mut now = START - 3 * HOUR_S;
        let mut changes = Vec::new();
        while let Some(change) = validity.next_change(now) {
            assert_ne!(validity.warning(change - 1), validity.warning(change), "{change}");
            changes.push(change - START);
            now = change;
        }
        assert_eq!(changes, [0, 60 * HOUR_S + 1, 90 * HOUR_S + 1]);
    }
}
