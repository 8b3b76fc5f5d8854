//! The workers: what each is made of, on its way to its thread, and how they leave.

use std::io;
use std::mem;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use annulus_ring::{
    Capabilities, EngineChoice, EngineConfig, Epoll, Listener, Ring, TaskWork, Uring, Waker,
};
use anyhow::{Context, bail};

use crate::admin::EngineInfo;
use crate::clock::Clock;
use crate::limits::{ACCEPTS_PER_TURN_MAX, ARENA_BYTES, RECV_BUFFER_BYTES, RECV_BUFFERS};
use crate::log;
use crate::worker::{Worker, WorkerParts};

/// The workers' threads, and what wakes them.
pub(super) type Workers = Vec<(JoinHandle<io::Result<()>>, Waker)>;

/// What a worker tells of its start: its engine, with a line about it, or why there is none.
pub(super) type Started = Result<(EngineInfo, String), String>;

/// Everything one worker is made of, on the way to its thread: a ring must be built by the
/// thread that uses it.
pub(super) struct Plan {
    pub(super) parts: WorkerParts,
    pub(super) listeners: Vec<Listener>,
    pub(super) waker: Waker,
    pub(super) reply_bytes: usize,
    pub(super) clock: Clock,
}

impl Plan {
    /// Works on the engine that was chosen. What a trial was granted may be refused to the
    /// rings of many workers together: unless io_uring was demanded, epoll serves then.
    pub(super) fn work(
        mut self,
        engine: EngineChoice,
        why_epoll: Option<String>,
        started: &Sender<Started>,
    ) -> io::Result<()> {
        let described = match why_epoll {
            Some(described) => described,
            None => match Uring::new(self.ring_settings(Vec::new())) {
                Ok(mut ring) => {
                    let capabilities = ring.capabilities();
                    ring.add(mem::take(&mut self.listeners))?;
                    let engine = EngineInfo { name: "io_uring", tier: tier(&capabilities) };
                    return self.work_on(ring, (engine, capabilities.describe()), started);
                }
                Err(refusal) if engine == EngineChoice::IoUring => {
                    // The receiver ends the process, and takes only the first of several.
                    let _ = started.send(Err(refusal.explain()));
                    return Ok(());
                }
                Err(refusal) => format!("engine epoll, because {}", refusal.explain()),
            },
        };
        let listeners = mem::take(&mut self.listeners);
        match Epoll::new(self.ring_settings(listeners)) {
            Ok(ring) => {
                let engine = EngineInfo { name: "epoll", tier: "none" };
                self.work_on(ring, (engine, described), started)
            }
            Err(error) => {
                let _ = started.send(Err(format!("epoll: {error}")));
                Ok(())
            }
        }
    }

    fn ring_settings(&self, listeners: Vec<Listener>) -> EngineConfig {
        EngineConfig {
            listeners,
            waker: self.waker.clone(),
            limit: Arc::clone(self.parts.evictions.limit()),
            accepts_per_turn: ACCEPTS_PER_TURN_MAX,
            send_buffer_bytes: self.reply_bytes,
            arena_bytes: ARENA_BYTES,
            recv_buffers: RECV_BUFFERS,
            recv_buffer_bytes: RECV_BUFFER_BYTES,
        }
    }

    fn work_on<R: Ring>(
        self,
        ring: R,
        described: (EngineInfo, String),
        started: &Sender<Started>,
    ) -> io::Result<()> {
        let Plan { parts, clock, .. } = self;
        let mut worker = Worker::new(ring, parts);
        let _ = started.send(Ok(described));
        let result = worker.run(|| clock.now());
        if let Err(error) = &result {
            // Its listeners would go on collecting connections that nobody serves.
            log::error(format_args!("a worker's ring has broken: {error}"));
            log::flush();
            process::exit(1);
        }
        result
    }
}

/// How much of io_uring a kernel has.
fn tier(capabilities: &Capabilities) -> &'static str {
    match capabilities.task_work {
        TaskWork::Deferred => "defer_taskrun",
        TaskWork::Cooperative if capabilities.multishot_recv => "coop_taskrun",
        TaskWork::Cooperative => "coop_taskrun_without_multishot_receive",
    }
}

/// Wakes the workers, which were told to stop, and waits until they have.
pub(super) fn leave(crew: Workers) -> anyhow::Result<()> {
    for (_, waker) in &crew {
        waker.wake();
    }
    for (thread, _) in crew {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error).context("a worker failed while stopping"),
            Err(_) => bail!("a worker panicked"),
        }
    }
    log::info(format_args!("stopped"));
    Ok(())
}
