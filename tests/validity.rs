//! When the validity of a certificate is warned of.

use annulus::tls::Validity;

const DAY_S: i64 = 86_400;
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
