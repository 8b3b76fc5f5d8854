//! A bridge between servers, with one node at each: it passes messages on from each server to the
//! others, as they are or not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::nodes::NODES;
use crate::support::redis::{RedisClient, RedisServer};

/// What becomes of a message from one node to another: the messages that the other one gets.
pub(crate) type Treatment = Box<dyn FnMut(usize, usize, &[u8]) -> Vec<Vec<u8>> + Send>;

/// How often each message was published by the bridge itself, and not yet received.
type OwnMessages = HashMap<Vec<u8>, usize>;

/// Between two looks at whether it is over.
const POLL: Duration = Duration::from_millis(100);

/// A message for a node.
struct Passed {
    from: usize,
    channel: String,
    bytes: Vec<u8>,
}

pub(crate) struct Bridge {
    treatment: Arc<Mutex<Treatment>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Passes messages on as they are.
pub(crate) fn honest() -> Treatment {
    Box::new(|_, _, bytes| vec![bytes.to_vec()])
}

impl Bridge {
    /// Begins to pass messages on between these servers.
    pub(crate) fn start(servers: &[RedisServer], treatment: Treatment) -> Bridge {
        assert_eq!(servers.len(), NODES);
        let treatment = Arc::new(Mutex::new(treatment));
        let is_over = Arc::new(AtomicBool::new(false));
        let own: Arc<[Mutex<OwnMessages>; NODES]> = Arc::default();
        let (to, from) = channel::<Passed>();
        let mut threads = Vec::new();
        for (node, server) in servers.iter().enumerate() {
            let mut subscriber = server.client();
            subscriber.subscribe("annulus*");
            let (own, to, is_over) = (Arc::clone(&own), to.clone(), Arc::clone(&is_over));
            threads
                .push(thread::spawn(move || listen(node, subscriber, &own[node], &to, &is_over)));
        }
        let publishers = servers.iter().map(RedisServer::client).collect();
        let changed = Arc::clone(&treatment);
        threads.push(thread::spawn(move || pass_on(&from, publishers, &own, &changed)));
        Bridge { treatment, is_over, threads }
    }

    /// Treats messages in this way from now on.
    pub(crate) fn treat(&self, treatment: Treatment) {
        *self.treatment.lock().unwrap() = treatment;
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It fails if a server was killed, which the test has reported already.
            let _ = thread.join();
        }
    }
}

/// Receives what a node publishes, and leaves out what the bridge has published there itself.
fn listen(
    node: usize,
    mut subscriber: RedisClient,
    own: &Mutex<OwnMessages>,
    to: &Sender<Passed>,
    is_over: &AtomicBool,
) {
    while !is_over.load(Ordering::Relaxed) {
        let Some((channel, bytes)) = subscriber.message_within(POLL) else { continue };
        let mut own = own.lock().unwrap();
        match own.get_mut(&bytes) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => drop(own.remove(&bytes)),
            None => {
                let _ = to.send(Passed { from: node, channel, bytes });
            }
        }
    }
}

/// Publishes what comes from one node's server at the others', until nobody sends any more.
fn pass_on(
    from: &Receiver<Passed>,
    mut publishers: Vec<RedisClient>,
    own: &[Mutex<OwnMessages>; NODES],
    treatment: &Mutex<Treatment>,
) {
    for passed in from {
        for (node, publisher) in publishers.iter_mut().enumerate() {
            if node == passed.from {
                continue;
            }
            let treated = treatment.lock().unwrap()(passed.from, node, &passed.bytes);
            for bytes in treated {
                *own[node].lock().unwrap().entry(bytes.clone()).or_default() += 1;
                publisher.publish(&passed.channel, &bytes);
            }
        }
    }
}
