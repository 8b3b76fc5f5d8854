//! Users and groups, by the files of the system. The C library's own way to them loads further
//! libraries (NSS), which a static program cannot have.

use std::fs::File;
use std::path::Path;

use anyhow::{anyhow, bail};

use super::Ids;
use crate::config::{KeyLocations, PrivilegesConfig};
use crate::limits::ACCOUNTS_BYTES_MAX;
use crate::text_file::read_bounded;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The numbers of the configured user and group; `None` if there is no user.
///
/// # Errors
/// There is no such user or group, or the user is root. One line that begins with the place in
/// the configuration and ends with a cure.
pub(super) fn ids(config: &PrivilegesConfig) -> anyhow::Result<Option<Ids>> {
    let PrivilegesConfig {
        user,
        group,
        places: KeyLocations { user: user_place, group: group_place, .. },
        ..
    } = config;
    if user.is_empty() {
        return Ok(None);
    }
    let about_user = |what: String| anyhow!("{user_place}: privileges.user = {user:?}: {what}");
    let (user, own_group) = match number(user) {
        Some(number) => {
            // A user without an entry has a group of the same number.
            let own = read(PASSWD).ok().and_then(|text| user_by(&text, 2, &number.to_string()));
            (number, own.map_or(number, |(_, group)| group))
        }
        None => read(PASSWD)
            .and_then(|text| user_by(&text, 0, user).ok_or_else(|| unknown("user", PASSWD)))
            .map_err(about_user)?,
    };
    if user == 0 {
        let what = "root keeps all privileges: name another user, or leave it empty";
        bail!(about_user(what.to_owned()));
    }
    let about_group = |what: String| anyhow!("{group_place}: privileges.group = {group:?}: {what}");
    let group = match number(group) {
        Some(number) => number,
        None if group.is_empty() => own_group,
        None => read(GROUP)
            .and_then(|text| group_by(&text, group).ok_or_else(|| unknown("group", GROUP)))
            .map_err(about_group)?,
    };
    Ok(Some(Ids { user, group }))
}

fn unknown(what: &str, file: &str) -> String {
    format!(
        "no such {what} in {file}: create it, or give its number (those of a directory service \
         are known by number only)"
    )
}

fn read(file: &str) -> Result<String, String> {
    let bytes = File::open(Path::new(file)).and_then(|it| read_bounded(it, ACCOUNTS_BYTES_MAX));
    let bytes = bytes.map_err(|error| format!("{file} cannot be read: {error}: give a number"))?;
    // Comments may be of any encoding; names are ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number of a user or group that is given by number. The highest number is none: it stands
/// for "unchanged" in system calls.
fn number(name: &str) -> Option<u32> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten().filter(|number| *number != u32::MAX)
}

/// The user and group of the first line of a passwd(5) whose field `at` is `value`.
fn user_by(passwd: &str, at: usize, value: &str) -> Option<(u32, u32)> {
    passwd.lines().map(|line| line.split(':').collect::<Vec<&str>>()).find_map(|fields| {
        // Name, password, user, group, comment, home, shell.
        let [_, _, user, group, ..] = fields[..] else { return None };
        (fields[at] == value).then_some((number(user)?, number(group)?))
    })
}

/// The number of a group(5) by its name.
fn group_by(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        // Name, password, group, members.
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(number)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::{Ids, PrivilegesConfig, group_by, ids, number, user_by};

    #[test]
    fn accounts_are_found_by_name_or_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n# daemon:x:9:9\n\nbroken:x:7\nshort:x:8:9\n\
                     odd:x:-1:1::\nall:x:4294967295:1::\nnobody:*:65534:65533:no: body:/:\n\
                     nobody:x:1:1::/:\nlast:x:10:11:::";
        for (name, found) in
            [("root", (0, 0)), ("nobody", (65534, 65533)), ("short", (8, 9)), ("last", (10, 11))]
        {
            assert_eq!(user_by(users, 0, name), Some(found), "{name}");
        }
        for name in ["broken", "odd", "all", "daemon", "nobod", "x", ""] {
            assert_eq!(user_by(users, 0, name), None, "{name}");
        }
        assert_eq!(user_by(users, 2, "65534"), Some((65534, 65533)));
        assert_eq!(user_by(users, 2, "65533"), None);
        let groups = "root:x:0:\n#adm:x:4:\nssl:x:5:a,b\nbroken:x\nodd:x:y:\nlast:*:6:";
        for (name, found) in [("root", 0), ("ssl", 5), ("last", 6)] {
            assert_eq!(group_by(groups, name), Some(found), "{name}");
        }
        for name in ["adm", "broken", "odd", "a"] {
            assert_eq!(group_by(groups, name), None, "{name}");
        }
    }

    #[test]
    fn numbers_need_no_files() {
        assert_eq!(number("65534"), Some(65534));
        for text in ["", "-1", "+1", "0x1", " 1", "1 ", "4294967295", "4294967296", "one"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        let config = |user: &str, group: &str| {
            let (user, group) = (user.to_owned(), group.to_owned());
            ids(&PrivilegesConfig { user, group, ..PrivilegesConfig::default() })
        };
        assert_eq!(config("", "").unwrap(), None);
        // Presumably not in /etc/passwd.
        let user = 3_999_999_999;
        assert_eq!(config("3999999999", "").unwrap(), Some(Ids { user, group: user }));
        assert_eq!(config("3999999999", "7").unwrap(), Some(Ids { user, group: 7 }));
        for root in ["0", "000"] {
            let error = config(root, "").unwrap_err().to_string();
            assert!(error.contains("root keeps all"), "{error}");
        }
    }
}
