//! Selects the engine: by trying, not by version number, because kernels have backports and
//! containers restrict them.

use std::fs;
use std::io;
use std::sync::Arc;

use crate::event::EngineConfig;
use crate::limit::ConnectionLimit;
use crate::uring::{Capabilities, SetupError, TaskWork, Uring};
use crate::waker::Waker;

/// The configured engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring if this machine has it with all that is needed, else epoll.
    #[default]
    Auto,
    /// io_uring, or an error.
    IoUring,
    Epoll,
}

/// The engine in use.
#[derive(Debug)]
pub enum SelectedEngine {
    Uring(Capabilities),
    /// Why it is not io_uring; `None` if epoll was configured.
    Epoll(Option<String>),
}

impl SelectedEngine {
    /// Selects an engine that `choice` allows.
    ///
    /// # Errors
    /// io_uring was required and is not available: the cause and the cure.
    pub fn probe(choice: EngineChoice) -> Result<SelectedEngine, String> {
        if choice == EngineChoice::Epoll {
            return Ok(SelectedEngine::Epoll(None));
        }
        let trial = Waker::new().map_err(SetupError::Start).and_then(|waker| {
            Uring::probe(EngineConfig {
                datagram_sockets: Vec::new(),
                listeners: Vec::new(),
                waker,
                limit: Arc::new(ConnectionLimit::unlimited()),
                accepts_per_turn: 1,
                send_buffer_bytes: 4096,
                arena_bytes: 8192,
                recv_buffers: 8,
                recv_buffer_bytes: 4096,
            })
        });
        match trial {
            Ok(ring) => Ok(SelectedEngine::Uring(ring.capabilities())),
            Err(refusal) if choice == EngineChoice::Auto => {
                Ok(SelectedEngine::Epoll(Some(refusal.explain())))
            }
            Err(refusal) => Err(refusal.explain()),
        }
    }

    /// One line for the start-up log: the engine, its flags, and what is missing.
    pub fn describe(&self) -> String {
        match self {
            SelectedEngine::Epoll(None) => "engine epoll, as configured".to_owned(),
            SelectedEngine::Epoll(Some(why)) => format!("engine epoll, because {why}"),
            SelectedEngine::Uring(capabilities) => capabilities.describe(),
        }
    }
}

impl Capabilities {
    /// One line: the flags in use, and what a newer kernel would add.
    pub fn describe(&self) -> String {
        let mut flags = vec!["SUBMIT_ALL"];
        let mut missing = Vec::new();
        match self.task_work {
            TaskWork::Deferred => flags.extend(["SINGLE_ISSUER", "DEFER_TASKRUN"]),
            TaskWork::Cooperative => {
                flags.push("COOP_TASKRUN");
                missing.push("DEFER_TASKRUN (Linux 6.1)");
            }
        }
        if self.no_sqarray {
            flags.push("NO_SQARRAY");
        }
        if self.multishot_recv {
            flags.push("multishot receive");
        } else {
            missing.push("multishot receive (Linux 6.0)");
        }
        if !self.skip_success_sends {
            missing.push("exact counts of short sends (Linux 6.1)");
        }
        let mut text = format!(
            "engine io_uring, {} submissions, {} completions, {}",
            self.submissions,
            self.completions,
            flags.join(", ")
        );
        if !missing.is_empty() {
            text.push_str("; this kernel lacks ");
            text.push_str(&missing.join(", "));
        }
        text
    }
}

impl SetupError {
    /// The cause in words, and the cure.
    pub fn explain(&self) -> String {
        match self {
            SetupError::Setup(error) => explain_setup(error),
            SetupError::TaskWork => format!(
                "this kernel's io_uring has neither COOP_TASKRUN nor DEFER_TASKRUN, without which \
                 it is slower than epoll (Linux {}; 5.19 or later is wanted)",
                kernel_release()
            ),
            SetupError::Buffers(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                explain_setup(error)
            }
            SetupError::Buffers(error) => format!(
                "this kernel's io_uring has no provided-buffer rings: {error} (Linux {}; 5.19 or \
                 later is wanted)",
                kernel_release()
            ),
            SetupError::Start(error) => format!("io_uring could not be started: {error}"),
        }
    }
}

fn explain_setup(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => format!(
            "io_uring_setup is unknown here (ENOSYS): the kernel ({}) is built without io_uring, \
             or a sandbox hides it",
            kernel_release()
        ),
        Some(libc::EPERM | libc::EACCES) => {
            let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            match sysctl.as_deref().map(str::trim) {
                Ok("2") => "io_uring is switched off for everyone (EPERM): \
                            sysctl -w kernel.io_uring_disabled=0 allows it"
                    .to_owned(),
                Ok("1") => "io_uring is switched off for this user (EPERM): \
                            sysctl -w kernel.io_uring_disabled=0 allows it, or a group named by \
                            kernel.io_uring_group, or CAP_SYS_ADMIN"
                    .to_owned(),
                _ if filtered() => "a seccomp filter refuses io_uring_setup (EPERM), as \
                                    containers do by default: allow io_uring_setup, \
                                    io_uring_enter and io_uring_register in its profile"
                    .to_owned(),
                Ok(_) => format!(
                    "io_uring_setup is refused ({error}): a security module or a sandbox \
                     forbids it"
                ),
                // A worker without privileges may not read the setting.
                Err(_) => format!(
                    "io_uring_setup is refused ({error}): kernel.io_uring_disabled, a security \
                     module or a sandbox forbids it to this user"
                ),
            }
        }
        Some(libc::ENOMEM) => "io_uring was refused memory (ENOMEM): the limit of locked memory \
                               (ulimit -l, LimitMEMLOCK=) is too low even for the smallest ring"
            .to_owned(),
        _ => format!("io_uring_setup failed: {error}"),
    }
}

/// Whether a seccomp filter is installed on this process.
fn filtered() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.trim_end() == "Seccomp:\t2"))
}

fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if release.is_empty() { "release unknown".to_owned() } else { release.trim().to_owned() }
}
