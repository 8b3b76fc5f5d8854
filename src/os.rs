//! What the tracker asks of Linux apart from its sockets: safe wrappers, by rustix where it has the
//! call. Privileges and the sandbox, the file broker, signals, limits, and the service manager.

mod accounts;
mod channel;
mod file_broker;
mod file_source;
mod landlock;
mod privileges;
mod process;
mod sandbox;
mod signals;
mod state_directory;
mod systemd;
mod unix_socket;

pub(crate) use file_broker::BrokerProcess;
pub use file_broker::{FILE_BROKER, run_file_broker};
pub use file_source::{FileSource, ReloadHealth};
pub use privileges::Ids;
pub(crate) use process::{
    count_dir_entries, lower_priority, lower_priority_by, raise_descriptor_limit,
    raise_locked_memory_limit, stderr_writable,
};
pub use sandbox::{Sandbox, SandboxReport};
pub(crate) use signals::{Signal, Signals};
pub use state_directory::StateDirectory;
pub(crate) use systemd::{InheritedSocket, Notifier, SocketKind};
pub(crate) use unix_socket::SocketFile;
