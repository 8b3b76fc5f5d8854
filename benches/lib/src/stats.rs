//! Statistics over rounds, and Markdown tables of them.

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Spread { median, least, greatest })
    }
}

/// The median, with the least and the greatest in parentheses; `-` for nothing.
pub fn shown(spread: Option<Spread>, decimals: usize) -> String {
    let Some(Spread { median, least, greatest }) = spread else { return "-".to_owned() };
    format!("{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
}

/// The same of a list of values.
pub fn spread(values: impl IntoIterator<Item = f64>, decimals: usize) -> String {
    shown(Spread::of(values), decimals)
}

pub fn percent(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |share| format!("{:.0} %", share.median * 100.0))
}

/// A Markdown table. Rows may be shorter than the titles.
pub fn table<T: AsRef<str>>(titles: &[T], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let titles: Vec<&str> = titles.iter().map(AsRef::as_ref).collect();
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for mut row in rows {
        row.resize(titles.len(), String::new());
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}
