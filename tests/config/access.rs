//! The keys of `[access]`, and the list that they name.

use std::fs;
use std::process::Output;

use annulus::config::Config;

use super::{ConfigDir, refused};

const HASH: &str = "00112233445566778899aabbccddeeff01234567";

#[test]
fn a_relative_path_starts_where_the_file_is() {
    let dir = ConfigDir::new("list-path");
    let path = dir.path("annulus.toml");
    for (named, meant) in [("a.txt", dir.path("a.txt")), ("/a.txt", "/a.txt".into())] {
        fs::write(&path, format!("\n[access]\nfile = \"{named}\"\n")).unwrap();
        let access = Config::load(Some(&path)).unwrap().access;
        assert_eq!((access.file, access.place), (meant, format!("{}:3", path.display())));
    }
    fs::write(&path, "[access]\nfile = \"\"\n").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap(), Config::default());
}

#[test]
fn a_mode_needs_a_file_and_has_a_name() {
    refused(
        "list-keys",
        &[
            (
                "[access]\nmode = \"allow\"\n",
                &["annulus.toml:2: access.file = \"\" (the default): must be the path of a file, \
                   because of access.mode = \"allow\""],
            ),
            (
                "[access]\nfile = \"\"\nmode = \"deny\"\n",
                &["annulus.toml:2: access.file = \"\": must be the path of a file, because of \
                   access.mode = \"deny\" (line 3)"],
            ),
            (
                "[access]\nmode = \"alow\"\nfile = 5\nbad_lines = \"ignore\"\n",
                &[
                    "annulus.toml:2: access.mode = \"alow\": must be \"off\", \"allow\" or \
                     \"deny\"; did you mean \"allow\"?",
                    "annulus.toml:3: access.file = 5: expected the path of a file, in quotes, \
                     or \"\"",
                    "annulus.toml:4: access.bad_lines = \"ignore\": must be \"refuse\" or \"skip\"",
                ],
            ),
        ],
    );
}

#[test]
fn the_list_is_checked_too() {
    let dir = ConfigDir::new("list");
    let check = |bad_lines: &str, list: &str| {
        fs::write(dir.path("list.txt"), list).unwrap();
        let text = format!(
            "[access]\nmode = \"deny\"\nfile = \"list.txt\"\nbad_lines = \"{bad_lines}\"\n"
        );
        let Output { status, stdout, stderr } = dir.check(text);
        let [stdout, stderr] = [stdout, stderr].map(|said| String::from_utf8(said).unwrap());
        (status.code(), stdout, stderr)
    };
    let ok = || "annulus.toml: ok\n".to_string();
    assert_eq!(check("refuse", HASH), (Some(0), ok(), String::new()));

    let about = "is no info hash: 40 hex digits are, or 64 for a v2 torrent";
    let list = format!("{HASH}\nwhat?\n{HASH}\n\"\n");
    let said = format!("list.txt:2: \"what?\" {about}\nlist.txt:4: \"\\\"\" {about}\n");
    assert_eq!(check("refuse", &list), (Some(1), String::new(), said.clone()));
    let said = said.replace('\n', ": skipped\n");
    assert_eq!(check("skip", &list), (Some(0), ok(), said));

    // The message is of bounded length for any number of bad lines.
    let list = "x\n".repeat(100);
    let (status, _, said) = check("refuse", &list);
    assert_eq!((status, said.lines().count()), (Some(1), 21));
    assert!(said.ends_with("list.txt: more bad lines than can be listed\n"), "{said}");
    let (status, _, said) = check("skip", &list);
    assert_eq!((status, said.lines().count()), (Some(0), 21));
    assert!(said.ends_with("list.txt: 80 more bad lines: skipped\n"), "{said}");
}

#[test]
fn a_list_that_cannot_be_read_is_named_with_its_place() {
    let named = |file: &str| format!("[access]\nfile = \"{file}\"\nmode = \"allow\"\n");
    refused(
        "list-missing",
        &[
            (
                &named("none.txt"),
                &["annulus.toml:2: access.file: none.txt: cannot be read: \
                   No such file or directory (os error 2)"],
            ),
            (
                &named("/dev/zero"),
                &["annulus.toml:2: access.file: /dev/zero: cannot be read: it is not a file"],
            ),
            (&named("/"), &["annulus.toml:2: access.file: /: cannot be read: it is not a file"]),
        ],
    );
    // Without a mode the list is not read.
    let dir = ConfigDir::new("list-unused");
    let text = named("none.txt").replace("allow", "off");
    assert_eq!(dir.check(text).status.code(), Some(0));
}

#[test]
fn a_list_of_wide_characters_is_named() {
    let dir = ConfigDir::new("list-wide");
    let text = format!("# Мои торренты\r\n{HASH}\r\n{HASH}\r\n");
    let bytes = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    };
    let marked = format!("\u{feff}{text}");
    for (list, from) in [
        (bytes(&marked, u16::to_le_bytes), "UTF-16"),
        (bytes(&marked, u16::to_be_bytes), "UTF-16"),
        (bytes(&text, u16::to_le_bytes), "UTF-16LE"),
        (bytes(&text, u16::to_be_bytes), "UTF-16BE"),
    ] {
        fs::write(dir.path("list.txt"), list).unwrap();
        for bad_lines in ["refuse", "skip"] {
            let output = dir.check(format!(
                "[access]\nmode = \"allow\"\nfile = \"list.txt\"\nbad_lines = \"{bad_lines}\"\n"
            ));
            let said = String::from_utf8(output.stderr).unwrap();
            let said = said.replace(&format!("{}/", dir.0.path().display()), "");
            let what = "annulus.toml:3: access.file: list.txt: text in UTF-16: save it as UTF-8, \
                        or convert it by";
            assert_eq!(said, format!("{what} \"iconv -f {from} -t UTF-8\"\n"));
            assert_eq!(output.status.code(), Some(1));
        }
    }
}
