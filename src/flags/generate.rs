//! What can be generated from the tables of flags and of keys.

use std::ffi::OsStr;

/// A text for what surrounds the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    /// The page annulus(1).
    Man,
    /// The page annulus.toml(5).
    ManConfig,
    /// Completions of bash.
    Bash,
    /// Completions of fish.
    Fish,
    /// Completions of zsh.
    Zsh,
}

const ALL: [Generated; 5] =
    [Generated::Man, Generated::ManConfig, Generated::Bash, Generated::Fish, Generated::Zsh];

/// The names of all, in their order.
pub(super) const KINDS: [&str; 5] = ["man", "man-config", "bash", "fish", "zsh"];

impl Generated {
    /// The one of this name.
    pub(super) fn named(name: &OsStr) -> Option<Generated> {
        KINDS.iter().position(|known| name == *known).map(|index| ALL[index])
    }
}
