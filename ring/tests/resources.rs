//! The receive buffers of an engine, and the limit of connections that engines share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use annulus_ring::{ConnectionLimit, Pool};

#[test]
fn a_buffer_has_one_owner_and_is_returned() {
    let pool = Pool::new(2, 4096).unwrap();
    let mut first = pool.take().unwrap();
    let mut second = pool.take().unwrap();
    assert!(pool.take().is_none());
    first.fill(1);
    second.fill(2);
    assert!(first.iter().all(|&byte| byte == 1) && first.len() == 4096);
    first.truncate(5);
    assert_eq!(&first[..], [1; 5]);
    assert!(!first.is_full() && second.is_full());
    drop(first);
    assert_eq!(pool.free(), 1);
    let again = pool.take().unwrap();
    assert_eq!(again.len(), 4096);
    drop((second, again));
    assert_eq!(pool.free(), 2);
}

#[test]
fn threads_together_never_exceed_the_limit() {
    let limit = ConnectionLimit::new(5, 4);
    let held = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if limit.acquire() {
                        let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= 5, "{now} places at once");
                        held.fetch_sub(1, Ordering::SeqCst);
                        limit.release(1);
                    }
                }
            });
        }
    });
    assert_eq!(limit.open(), 0);
}
