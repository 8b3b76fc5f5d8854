//! Dropping privileges for good.

use std::fs;

use anyhow::{Context, ensure};
use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// The user and the only group that a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub user: u32,
    pub group: u32,
}

/// Whether [`drop_privileges`] can change the user of this process.
pub(super) fn may_change_user() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Takes every privilege from this process: its user and group, if `ids` are given, every
/// capability (except the one to read any file, if `keep_reading` and it has that one), and the
/// gain of new ones by executing programs. Then verifies that none of it can be regained.
///
/// # Errors
/// Another thread is running (most of the calls affect one thread only), the kernel refuses, or a
/// privilege could be regained. The process may have some privileges left and must not go on.
pub(super) fn drop_privileges(ids: Option<Ids>, keep_reading: bool) -> anyhow::Result<()> {
    ensure_single_thread()?;
    let held = capabilities(None).context("capget")?.permitted;
    let kept = match held {
        _ if !keep_reading => CapabilitySet::empty(),
        _ if held.contains(CapabilitySet::DAC_READ_SEARCH) => CapabilitySet::DAC_READ_SEARCH,
        // Containers have only this one, which would also allow to write.
        _ => held & CapabilitySet::DAC_OVERRIDE,
    };
    for number in 0..64 {
        // Ends at the first one that the kernel does not have. Without CAP_SETPCAP none can be
        // removed; the bounding set then only limits what no_new_privs rules out anyway.
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    if let Some(Ids { user, group }) = ids {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        // The permitted set outlives the change of the user; it is reduced below.
        set_keep_capabilities(true).context("PR_SET_KEEPCAPS")?;
        set_thread_groups(&[]).context("setgroups")?;
        set_thread_res_gid(group, group, group).context("setresgid")?;
        set_thread_res_uid(user, user, user).context("setresuid")?;
        set_keep_capabilities(false).context("PR_SET_KEEPCAPS")?;
    }
    // A process without capabilities may be forbidden to call this by a seccomp filter.
    if !held.is_empty() {
        let inheritable = CapabilitySet::empty();
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
        set_capabilities(None, sets).context("capset")?;
    }
    set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")?;
    verify(ids, kept)
}

/// Fails if this process has, or can regain, more than it was left.
fn verify(ids: Option<Ids>, kept: CapabilitySet) -> anyhow::Result<()> {
    let sets = capabilities(None).context("capget")?;
    ensure!((sets.permitted, sets.effective) == (kept, kept), "capabilities are left");
    let Some(Ids { user, group }) = ids else { return Ok(()) };
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    ensure!(getgroups().context("getgroups")?.is_empty(), "groups are left");
    ensure!([getuid(), geteuid()] == [user; 2], "the user is still another one");
    ensure!([getgid(), getegid()] == [group; 2], "the group is still another one");
    // A saved user id would allow it.
    let regained = set_thread_res_uid(None, Uid::ROOT, None).is_ok();
    ensure!(!regained, "this process could become root again");
    Ok(())
}

/// Fails if another thread runs. Without /proc there is no way to tell.
fn ensure_single_thread() -> anyhow::Result<()> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    ensure!(threads == 1, "another thread is running");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::drop_privileges;

    #[test]
    fn another_thread_prevents_it() {
        let done = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| done.wait());
            let dropped = drop_privileges(None, false);
            done.wait();
            assert_eq!(dropped.unwrap_err().to_string(), "another thread is running");
        });
    }
}
