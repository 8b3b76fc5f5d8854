//! Numbers as people read them: grouped, with units, and no longer than a phone is wide.

use time::OffsetDateTime;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;

/// A count: exact below a billion, in millions from there on.
pub(super) fn grouped(count: u64) -> String {
    match count {
        0..1_000_000_000 => thousands(count),
        _ => format!("{} M", thousands(count / 1_000_000)),
    }
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How much in a second: with a tenth where that says something.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        ..99.95 => format!("{per_second:.1}"),
        _ => grouped(per_second.round() as u64),
    }
}

/// Bytes, by powers of 1024.
pub(super) fn bytes(bytes: f64) -> String {
    let mut rest = bytes;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be written as 1000 goes to the next unit.
    while rest >= 999.5
        && let Some(larger) = units.next()
    {
        rest /= 1024.0;
        unit = larger;
    }
    match rest {
        ..9.95 if unit != "B" => format!("{rest:.1} {unit}"),
        _ => format!("{} {unit}", grouped(rest.round() as u64)),
    }
}

/// Seconds, in the two largest units that they have; from a week on, in days.
pub(super) fn duration(seconds: i64) -> String {
    let (days, hours) = (seconds / DAY_S, seconds % DAY_S / HOUR_S);
    let (minutes, rest) = (seconds % HOUR_S / MINUTE_S, seconds % MINUTE_S);
    let (large, small) = match seconds {
        ..MINUTE_S => (format!("{rest} s"), (0, "")),
        MINUTE_S..HOUR_S => (format!("{minutes} min"), (rest, "s")),
        HOUR_S..DAY_S => (format!("{hours} h"), (minutes, "min")),
        _ if days < 7 => (format!("{days} d"), (hours, "h")),
        _ => (format!("{} d", thousands(days.unsigned_abs())), (0, "")),
    };
    match small {
        (0, _) => large,
        (count, unit) => format!("{large} {count} {unit}"),
    }
}

/// The end of a range of microseconds, or nothing where there is no end: see
/// [`crate::metrics::histogram`].
pub(super) fn within_us(end_us: Option<f64>) -> String {
    match end_us {
        None => "> 1 s".to_owned(),
        Some(us) if us < 1000.0 => format!("≤ {us:.0} µs"),
        Some(us) if us < 1e6 => format!("≤ {:.0} ms", us / 1e3),
        Some(us) => format!("≤ {:.0} s", us / 1e6),
    }
}

/// A day, from seconds since 1970.
pub(super) fn date(unix_s: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(unix_s) {
        Ok(at) => at.date().to_string(),
        Err(_) => "beyond the calendar".to_owned(),
    }
}

/// A day and its time, from seconds since 1970.
pub(super) fn time(unix_s: i64) -> String {
    let second = unix_s.rem_euclid(DAY_S);
    let (hour, minute) = (second / HOUR_S, second % HOUR_S / MINUTE_S);
    format!("{} {hour:02}:{minute:02}:{:02} UTC", date(unix_s), second % MINUTE_S)
}

#[cfg(test)]
mod tests {
    use super::{bytes, date, duration, grouped, rate, time, within_us};

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 7, 999].map(grouped), ["0", "7", "999"]);
        assert_eq!([1000, 12_345, 999_999_999].map(grouped), ["1,000", "12,345", "999,999,999"]);
        assert_eq!(grouped(12_345_678_901), "12,345 M");
    }

    #[test]
    fn rates_have_a_tenth_if_they_are_small() {
        assert_eq!([0.0, 9.96, 99.94].map(rate), ["0.0", "10.0", "99.9"]);
        assert_eq!([99.95, 12_345.6].map(rate), ["100", "12,346"]);
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!([0.0, 5.0, 999.0].map(bytes), ["0 B", "5 B", "999 B"]);
        assert_eq!([1000.0, 1536.0, 20_480.0].map(bytes), ["1.0 KiB", "1.5 KiB", "20 KiB"]);
        assert_eq!(bytes(1023.9 * 1024.0), "1.0 MiB");
        assert_eq!(bytes(f64::from(1 << 30) * 5000.0), "4.9 TiB");
        assert_eq!(bytes(f64::from(1 << 30) * 1024.0 * 5000.0), "5,000 TiB");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!([0, 59, 60].map(duration), ["0 s", "59 s", "1 min"]);
        assert_eq!([61, 3600, 3660].map(duration), ["1 min 1 s", "1 h", "1 h 1 min"]);
        assert_eq!([86_399, 90_000].map(duration), ["23 h 59 min", "1 d 1 h"]);
        assert_eq!([7 * 86_400 - 1, 7 * 90_000].map(duration), ["6 d 23 h", "7 d"]);
        assert_eq!(duration(86_400 * 2000), "2,000 d");
    }

    #[test]
    fn ranges_have_an_end_or_none() {
        assert_eq!(within_us(Some(512.0)), "≤ 512 µs");
        assert_eq!(within_us(Some(1024.0)), "≤ 1 ms");
        assert_eq!(within_us(Some(1_048_576.0)), "≤ 1 s");
        assert_eq!(within_us(None), "> 1 s");
    }

    #[test]
    fn moments_are_of_the_calendar() {
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(i64::MAX), "beyond the calendar");
        assert_eq!(time(951_782_399), "2000-02-28 23:59:59 UTC");
    }
}
