//! What goes wrong, and when.

use quickcheck::{Arbitrary, Gen};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// A node loses its connection.
    Cut,
    /// The server is gone.
    ServerGone,
    /// A node is killed, and comes back with the state that it had.
    KillKeeping,
    /// A node is killed, and comes back empty.
    KillLosing,
    /// One frame in five is lost on its way to a node.
    Loss,
    /// Frames come twice.
    Repetition,
    /// Frames come in any order.
    Disorder,
    /// Frames are damaged.
    Damage,
    /// All frames take seconds to a node.
    Slowness,
    /// A worker finds no room for its records.
    Overflow,
}

impl FaultKind {
    pub(super) const ALL: [FaultKind; 10] = [
        FaultKind::Cut,
        FaultKind::ServerGone,
        FaultKind::KillKeeping,
        FaultKind::KillLosing,
        FaultKind::Loss,
        FaultKind::Repetition,
        FaultKind::Disorder,
        FaultKind::Damage,
        FaultKind::Slowness,
        FaultKind::Overflow,
    ];
}

/// A fault of some length at some node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) node: u8,
    pub(super) seconds: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) node_count: u8,
    pub(super) faults: Vec<Fault>,
}

impl Schedule {
    /// The same kind at all nodes in turn.
    pub(super) fn repeating(seed: u64, kind: FaultKind) -> Schedule {
        let faults = (0..6)
            .map(|number| Fault { kind, node: number, seconds: 5 + 7 * (number % 3) })
            .collect();
        Schedule { seed, node_count: 3, faults }
    }

    pub(super) fn nodes(&self) -> usize {
        usize::from(3 + self.node_count % 3)
    }

    /// The faults, evenly spread between two times.
    pub(super) fn timed(&self, begin_ms: u64, end_ms: u64) -> Vec<(u64, Fault)> {
        let count = self.faults.len() as u64;
        let timed = |(number, &fault): (usize, &Fault)| {
            (begin_ms + (end_ms - begin_ms) * (number as u64 + 1) / (count + 1), fault)
        };
        self.faults.iter().enumerate().map(timed).collect()
    }

    /// Whether every completed download must be counted once at each node: a count that was lost is
    /// replaced by the largest that is known, which is not the sum of two.
    pub(super) fn counts_downloads(&self) -> bool {
        use FaultKind::{Repetition, Slowness};
        self.faults.iter().all(|fault| matches!(fault.kind, Repetition | Slowness))
    }
}

impl Arbitrary for Fault {
    fn arbitrary(g: &mut Gen) -> Fault {
        let kind = *g.choose(&FaultKind::ALL).expect("there are some");
        Fault { kind, node: u8::arbitrary(g) % 5, seconds: u8::arbitrary(g) % 40 + 1 }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Fault>> {
        let fault = *self;
        Box::new(
            self.seconds.shrink().filter(|&s| s > 0).map(move |seconds| Fault { seconds, ..fault }),
        )
    }
}

impl Arbitrary for Schedule {
    fn arbitrary(g: &mut Gen) -> Schedule {
        let count = usize::arbitrary(g) % 12;
        let faults = (0..count).map(|_| Fault::arbitrary(g)).collect();
        Schedule { seed: u64::arbitrary(g), node_count: u8::arbitrary(g) % 3, faults }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Schedule>> {
        let schedule = self.clone();
        let faults =
            self.faults.shrink().map(move |faults| Schedule { faults, ..schedule.clone() });
        Box::new(faults)
    }
}
