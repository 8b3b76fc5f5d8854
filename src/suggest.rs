//! The name that was probably meant by a mistyped one.

use strsim::osa_distance;

/// The candidate most similar to `word`, if at most a third of its letters differ. Two swapped
/// letters are one difference; upper case and `-` for `_` are none. The first of equals is taken.
pub(crate) fn suggest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = folded(word);
    let near = |candidate: &'c str| {
        let differences = osa_distance(&word, &folded(candidate));
        (differences <= (candidate.len() / 3).max(1)).then_some((differences, candidate))
    };
    let best = candidates.into_iter().filter_map(near).min_by_key(|(differences, _)| *differences);
    best.map(|(_, candidate)| candidate)
}

/// `; did you mean "guess"?`, or nothing.
pub(crate) fn did_you_mean(guess: Option<&str>) -> String {
    guess.map_or(String::new(), |guess| format!("; did you mean \"{guess}\"?"))
}

fn folded(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}
