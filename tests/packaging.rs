//! The files of `dist/`, each read by the tool that it is for.

mod container;
mod debian;
mod manuals;
mod units;

use std::path::PathBuf;
use std::process::Command;

/// A file of `dist/`.
fn dist(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dist").join(name)
}

/// The output of a program, standard output first. It must succeed.
#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out + &err
}
