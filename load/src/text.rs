//! Words and numbers of messages.

use strsim::osa_distance;

/// A field that holds one of a few named choices.
pub(crate) trait Word {
    /// The names of all choices.
    fn words(&self) -> &'static [&'static str];
    /// The present choice, as an index into [`Word::words`].
    fn index(&self) -> usize;
    fn set(&mut self, index: usize);
}

/// `; did you mean "guess"?`, or nothing.
pub(crate) fn did_you_mean(guess: Option<&str>) -> String {
    guess.map_or(String::new(), |guess| format!("; did you mean \"{guess}\"?"))
}

/// `"a", "b" or "c"`.
pub(crate) fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// In groups of three from a million on, with the underscores that TOML allows.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 7 {
        return digits;
    }
    let first = (digits.len() - 1) % 3 + 1;
    let (head, tail) = digits.split_at(first);
    tail.as_bytes().chunks(3).fold(head.to_string(), |mut text, group| {
        text.push('_');
        text.extend(group.iter().copied().map(char::from));
        text
    })
}

/// `text` as comment lines of at most 80 columns.
pub(crate) fn wrapped(text: &str) -> String {
    const COLUMNS: usize = 80;
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > COLUMNS {
            lines += if column == 0 { "#" } else { "\n#" };
            column = 1;
        }
        lines.push(' ');
        lines += word;
        column += 1 + word.len();
    }
    lines.push('\n');
    lines
}

/// The candidate most like `word`, if any is like enough: a third of its letters may
/// differ, two letters swapped count as one. Case, and `-` for `_`, do not count at all.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = folded(word);
    let near = |candidate: &'c str| {
        let differences = osa_distance(&word, &folded(candidate));
        (differences <= (candidate.len() / 3).max(1)).then_some((differences, candidate))
    };
    // `min_by_key` keeps the first of equals: the order of the candidates decides.
    let best = candidates.into_iter().filter_map(near).min_by_key(|(differences, _)| *differences);
    best.map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}
