//! One thread of the load: a ring's events on one side, clients on the other.
//!
//! A turn of the loop gives due questions to slots, lets the ring submit, sleep and harvest,
//! reads the clock once, and has all that arrived judged. Then every slot that something
//! happened to goes on: it asks again, sends, connects or closes.
//!
//! A latency begins when its question is due: by the schedule where there is one, and else at
//! the turn in which the slot was free to ask. It ends when the turn begins that brought the
//! answer. So what this program takes for itself counts against the tracker, never for it.

mod events;
mod slot;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use annulus_ring::{Connect, Key, RecvMode};

use super::fault::{Fault, Wrong};
use super::judge::Counter;
use super::plan::Plan;
use super::request::Requests;
use super::schedule::Schedule;
use super::tally::Tally;
use crate::tls::Connector;
use slot::{Slot, Walk};

/// Nanoseconds for which nothing is tried where no connection could be made.
const REST_NS: u64 = 100_000_000;

/// What a worker is told by the options.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where the tracker is.
    pub target: SocketAddr,
    /// The number of its first slot, which is the place of one connection at a time.
    pub first_slot: u32,
    /// Slots of all workers.
    pub slots: u32,
    /// Its own slots.
    pub own_slots: u32,
    /// Requests on their way on one connection.
    pub pipeline: usize,
    /// Requests on one connection.
    pub requests_per_connection: u64,
    /// Requests it may make.
    pub requests: u64,
    /// Percent of requests that are scrapes.
    pub scrapes_percent: u32,
    /// Nanoseconds for which it asks.
    pub duration_ns: u64,
    /// Nanoseconds that an answer may take.
    pub timeout_ns: u64,
    /// Where choices come from.
    pub seed: u64,
}

/// The moment from which all workers count.
pub fn begin() -> Instant {
    Instant::now()
}

/// What a worker has to tell, about once a second and at its end.
pub struct Report {
    /// When, in nanoseconds since the start.
    pub at_ns: u64,
    /// What was counted since the last report.
    pub tally: Tally,
    /// Questions that were sent and have no answer yet.
    pub in_flight: u64,
    /// It is the last.
    pub last: bool,
}

/// One worker.
pub struct Worker<R> {
    ring: R,
    settings: Settings,
    plan: Arc<Plan>,
    requests: Arc<Requests>,
    connector: Option<Connector>,
    schedule: Option<Schedule>,
    judge: Counter,
    reports: Sender<Report>,
    stop: Arc<AtomicBool>,
    start: Instant,
    slots: Vec<Slot>,
    /// Slots that may be given an arrival, where there is a schedule.
    free: VecDeque<u32>,
    touched: Vec<u32>,
    resting: Vec<u32>,
    rested_ns: u64,
    /// A request, before it is encrypted.
    scratch: Vec<u8>,
    asked: u64,
    /// The time is up: nothing more is asked.
    over: bool,
    now_ns: u64,
}

/// Everything that a worker needs but its ring, on its way to its thread.
pub struct Task {
    /// What it is told by the options.
    pub settings: Settings,
    /// What there is to ask.
    pub plan: Arc<Plan>,
    /// How it is asked.
    pub requests: Arc<Requests>,
    /// TLS, if it is to be spoken.
    pub connector: Option<Connector>,
    /// When to ask, if that is given.
    pub schedule: Option<Schedule>,
    /// Who judges the answers.
    pub judge: Counter,
    /// Where reports go.
    pub reports: Sender<Report>,
    /// Set to end the run early; its ring is to be woken then.
    pub stop: Arc<AtomicBool>,
    /// The moment from which all workers count.
    pub start: Instant,
}

impl<R: Connect> Worker<R> {
    /// A worker that has not begun.
    pub fn new(ring: R, task: Task) -> Worker<R> {
        let Task { settings, plan, requests, connector, schedule, judge, reports, stop, start } =
            task;
        let Settings { first_slot, slots: all, own_slots, scrapes_percent, seed, .. } = settings;
        let slot = |number| {
            Slot::new(Walk::new(first_slot + number, all, plan.members(), scrapes_percent, seed))
        };
        let slots: Vec<Slot> = (0..own_slots).map(slot).collect();
        let scratch = vec![0; requests.bytes_max()];
        Worker {
            ring,
            settings,
            connector,
            schedule,
            judge,
            reports,
            stop,
            start,
            slots,
            free: VecDeque::new(),
            touched: Vec::new(),
            resting: Vec::new(),
            rested_ns: 0,
            scratch,
            asked: 0,
            over: false,
            now_ns: 0,
            plan,
            requests,
        }
    }

    /// Asks until the time is up or enough was asked, and all is answered or has failed.
    /// Connections that are open then end with the process.
    ///
    /// # Errors
    /// When the ring has broken.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        (0..self.settings.own_slots).for_each(|at| self.touch(at));
        loop {
            self.now_ns = self.elapsed_ns();
            self.judge.now_ns = self.now_ns;
            for event in events.drain(..) {
                self.on_event(event);
            }
            self.wake_rested();
            self.give_arrivals();
            while let Some(at) = self.touched.pop() {
                self.slots[at as usize].touched = false;
                self.go_on(at);
            }
            self.keep_time();
            if self.is_done() {
                break;
            }
            match self.pause() {
                Some(pause) => self.ring.turn_within(&mut events, pause)?,
                None => self.ring.turn(&mut events, true)?,
            }
        }
        self.judge.tally.cpu_ns = thread_cpu_ns();
        self.report(true);
        Ok(())
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long the next turn may last, where something is due that is no event.
    fn pause(&self) -> Option<Duration> {
        let arrival = self.schedule.as_ref().filter(|_| self.may_ask() && !self.free.is_empty());
        let arrival_ns = arrival.map(|schedule| schedule.next_ns());
        let rested_ns = (!self.resting.is_empty()).then_some(self.rested_ns);
        let due_ns = arrival_ns.into_iter().chain(rested_ns).min()?;
        Some(Duration::from_nanos(due_ns.saturating_sub(self.elapsed_ns())))
    }

    /// Lets those go on that have rested.
    fn wake_rested(&mut self) {
        if self.now_ns >= self.rested_ns {
            for at in mem::take(&mut self.resting) {
                self.slots[at as usize].resting = false;
                self.touch(at);
            }
        }
    }

    /// Sees whether the time is up, and all that arrived by then was given to somebody. Then
    /// there were too few connections for what is left.
    fn keep_time(&mut self) {
        let end_ns = self.now_ns.min(self.settings.duration_ns - 1);
        let stopped = self.stop.load(Ordering::Acquire);
        if self.over || (self.now_ns < self.settings.duration_ns && !stopped) {
            return;
        }
        if let Some(schedule) = &mut self.schedule {
            let more = self.asked < self.settings.requests && schedule.next_ns() <= end_ns;
            if more && !stopped && !self.free.is_empty() {
                return;
            }
            while self.asked < self.settings.requests
                && let Some(due_ns) = schedule.take(end_ns)
            {
                self.asked += 1;
                self.judge.settled += 1;
                self.judge.tally.latencies.record(end_ns - due_ns);
                self.judge.tally.faults.note(Fault::NeverSent.into());
            }
        }
        self.over = true;
    }

    fn give_arrivals(&mut self) {
        let until_ns = self.now_ns.min(self.settings.duration_ns - 1);
        while self.may_ask()
            && let Some(schedule) = &mut self.schedule
            && let Some(&at) = self.free.front()
            && let Some(due_ns) = schedule.take(until_ns)
        {
            self.free.pop_front();
            self.slots[at as usize].free = false;
            self.ask(at, due_ns);
            self.touch(at);
            if self.slots[at as usize].client.waiting() < self.settings.pipeline {
                self.set_free(at);
            }
        }
    }

    fn ask(&mut self, at: u32, due_ns: u64) {
        self.asked += 1;
        let slot = &mut self.slots[at as usize];
        slot.client.ask(slot.walk.question(), due_ns);
    }

    fn set_free(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if !slot.free && !slot.resting {
            slot.free = true;
            self.free.push_back(at);
        }
    }

    fn touch(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if !mem::replace(&mut slot.touched, true) {
            self.touched.push(at);
        }
    }

    fn may_ask(&self) -> bool {
        !self.over && self.asked < self.settings.requests
    }

    /// Whether all that was asked is settled and no more is to be asked.
    fn is_done(&self) -> bool {
        !self.may_ask() && self.asked == self.judge.settled
    }

    /// Does what a slot can do next.
    fn go_on(&mut self, at: u32) {
        let Settings { pipeline, requests_per_connection, .. } = self.settings;
        let index = at as usize;
        if self.schedule.is_some() {
            if self.slots[index].client.waiting() < pipeline {
                self.set_free(at);
            }
        } else {
            while self.may_ask() && self.slots[index].client.waiting() < pipeline {
                self.ask(at, self.now_ns);
            }
        }
        let slot = &mut self.slots[index];
        if slot.closing.is_some() || slot.dialing || slot.resting {
            return;
        }
        if slot.socket.is_none() {
            if slot.client.waiting() > 0 {
                self.dial(at);
            }
            return;
        }
        if slot.client.in_flight() == 0 && slot.client.requests() >= requests_per_connection {
            slot.client.ended();
            return self.close(at, false);
        }
        if !slot.sending && slot.client.has_to_send(requests_per_connection) {
            self.send(at);
        }
        self.receive(at);
    }

    fn dial(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.generation = (slot.generation + 1) % Key::GENERATIONS;
        slot.dialing = true;
        slot.dialed_ns = self.now_ns;
        let first = slot.client.first();
        slot.from = first.and_then(|asked| self.plan.source(asked.question.member()));
        self.ring.connect(slot.key(at), slot.from, self.settings.target);
    }

    fn send(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let Worker { ring, plan, requests, scratch, judge, settings, now_ns, .. } = self;
        let write = |room: &mut [u8], question, last| requests.write(room, plan, question, last);
        let space = ring.send_buffer();
        let most = settings.requests_per_connection;
        match slot.client.fill(space, scratch, most, *now_ns, write) {
            Ok((len, sent)) => {
                judge.tally.sent += sent;
                if let Some(socket) = slot.socket.as_ref().filter(|_| len > 0) {
                    ring.send(slot.key(at), socket, len);
                }
            }
            Err(wrong) => self.fail(at, &wrong),
        }
    }

    fn receive(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if let Some(socket) = slot.socket.as_ref().filter(|_| !slot.armed) {
            let once = self.settings.requests_per_connection == 1;
            slot.armed = true;
            self.ring.recv(
                slot.key(at),
                socket,
                if once { RecvMode::Once } else { RecvMode::Multishot },
            );
        }
    }

    /// Has all that was sent on a connection failed, and ends it.
    fn fail(&mut self, at: u32, wrong: &Wrong) {
        self.slots[at as usize].client.broken(wrong, &mut self.judge);
        self.close(at, true);
    }

    /// Closes a connection as soon as nothing of it is in the kernel.
    fn close(&mut self, at: u32, reset: bool) {
        let slot = &mut self.slots[at as usize];
        if slot.closing.is_none() {
            slot.closing = Some(reset);
            if let Some(socket) = slot.socket.as_ref().filter(|_| slot.sending) {
                self.ring.shutdown(socket, Shutdown::Both);
            } else if slot.armed {
                self.ring.cancel_recv(slot.key(at));
            }
        }
        self.close_if_idle(at);
    }

    fn close_if_idle(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if slot.armed || slot.sending {
            return;
        }
        let Some(reset) = slot.closing.take() else { return };
        if let Some(socket) = slot.socket.take() {
            if reset { self.ring.reset(socket) } else { self.ring.close(socket) }
        }
        self.touch(at);
    }

    fn report(&mut self, last: bool) {
        let tally = mem::take(&mut self.judge.tally);
        let in_flight = self.slots.iter().map(|slot| slot.client.in_flight() as u64).sum();
        // Nobody listens any more: there is nobody to tell.
        let _ = self.reports.send(Report { at_ns: self.now_ns, tally, in_flight, last });
    }
}

/// How long this thread was on a processor (Documentation/scheduler/sched-stats.rst); 0 where
/// the kernel does not say.
fn thread_cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}
