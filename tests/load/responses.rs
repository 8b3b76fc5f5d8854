//! Every kind of failure and of warning, each from a server that causes just it.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::panic;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::LoadRun;
use super::fake_tracker::{FakeTracker, GOOD_BODY, response};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    wrong_responses_fail_by_kind,
    unusual_responses_are_warnings,
    a_good_response_in_pieces_or_after_an_interim_one,
    no_response,
    no_server,
    connections_that_are_reset,
    connections_that_are_reset_between_responses,
    connections_that_end_at_once,
    no_tls_where_there_should_be,
    the_own_address,
    one_bad_response_among_many,
);

const THREE: &str = "--requests 3 --connections 1 --timeout 1";

fn run(engine: Engine, fake: &FakeTracker, more: &str) -> LoadRun {
    LoadRun::of(engine, &fake.url(), &format!("{THREE} {more}"))
}

/// A response with these headers and body.
fn with(headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}").into_bytes()
}

fn wrong_responses_fail_by_kind(engine: Engine) {
    for (bytes, fault) in [
        (b"".to_vec(), "ended-early"),
        (with("Content-Length: 9\r\n", "d"), "ended-early"),
        (b"220 mail.example ESMTP\r\n".to_vec(), "not-http"),
        (with("Content-Length: x\r\n", ""), "bad-header"),
        (with("Transfer-Encoding: chunked\r\n", "x\r\n"), "bad-chunk"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_vec(), "status"),
        (with("Content-Encoding: gzip\r\nContent-Length: 1\r\n", "x"), "compressed"),
        (with("Content-Length: 99999999\r\n", "x"), "too-long"),
        ([response(GOOD_BODY), b"more".to_vec()].concat(), "surplus"),
        (response(b"<html></html>"), "not-bencode"),
        (response(&[GOOD_BODY, b"\r\n."].concat()), "trailing-bytes"),
        (response(b"d14:failure reason8:go away!e"), "refused"),
        (response(b"d8:intervali1800ee"), "missing-key"),
        (response(b"d8:interval4:18005:peers0:e"), "wrong-type"),
        (response(b"d8:intervali0e5:peers0:e"), "bad-interval"),
        (response(b"d8:intervali1800e5:peers7:1234567e"), "bad-peers"),
        (response(b"d8:intervali1800e5:peers12:abcdefabcdefe"), "repeated-peer"),
        (
            response(&[b"d8:intervali1e5:peers306:", &[b'x'; 306][..], b"e"].concat()),
            "too-many-peers",
        ),
        (response(b"d8:intervali1800e5:peers6:abcd\0\0e"), "port-zero"),
    ] {
        let run = run(engine, &FakeTracker::sending(bytes), "");
        run.assert_failed(fault, 3);
        assert_eq!(run.number("failures"), 3, "{}", run.text);
        assert!(run.text.contains(fault) && run.text.contains("3 failures"), "{}", run.text);
        let good = if fault == "surplus" { 3 } else { 0 };
        assert_eq!(run.number("good"), good, "{}", run.text);
    }
    let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaa\
                 d8:completei1e10:downloadedi1e10:incompletei1eeee";
    for (body, fault) in [(&body[..], "strange-torrent"), (b"d5:filesi1ee", "wrong-type")] {
        run(engine, &FakeTracker::sending(response(body)), "--scrapes 100").assert_failed(fault, 3);
    }
}

fn unusual_responses_are_warnings(engine: Engine) {
    let size = format!("{:x}\r\n", GOOD_BODY.len());
    let chunk = [size.as_bytes(), GOOD_BODY, b"\r\n0\r\n\r\n"].concat();
    for (bytes, oddity) in [
        (response(b"d5:peers0:8:intervali1800ee"), "unsorted-keys"),
        (response(b"d8:intervali1e5:peersld2:ip9:127.9.9.94:porti9eeee"), "dictionary-peers"),
        (response(b"d8:intervali1800e5:peers0:15:warning message2:hie"), "warning"),
        (response(&[GOOD_BODY, b"\n"].concat()), "trailing-line-end"),
        (response(GOOD_BODY), "closed-kept-connection"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", GOOD_BODY].concat(), "no-length"),
        ([with("Transfer-Encoding: chunked\r\n", ""), chunk].concat(), "chunked"),
    ] {
        let run = run(engine, &FakeTracker::sending(bytes), "");
        assert_eq!((run.status, run.number("good")), (0, 3), "{oddity}: {}", run.text);
        // How the last connection ends is not seen.
        assert!(run.oddities(oddity) >= 2, "{oddity}: {}", run.text);
    }
    // Requests that a close leaves without a response are sent again.
    let pipelined = run(engine, &FakeTracker::sending(response(GOOD_BODY)), "--pipeline 3");
    assert_eq!((pipelined.status, pipelined.number("good")), (0, 3), "{}", pipelined.text);
}

fn a_good_response_in_pieces_or_after_an_interim_one(engine: Engine) {
    let fake = FakeTracker::start(|_, stream| {
        stream.set_nodelay(true).unwrap();
        response(GOOD_BODY).iter().all(|byte| stream.write_all(&[*byte]).is_ok())
    });
    run(engine, &fake, "").assert_good(3);
    run(engine, &fake, "--pipeline 3").assert_good(3);
    for interim in ["100 Continue", "103 Early Hints\r\nLink: </x>"] {
        let interim = format!("HTTP/1.1 {interim}\r\n\r\n");
        let fake = FakeTracker::start(move |_, stream| {
            stream.write_all(&[interim.as_bytes(), &response(GOOD_BODY)].concat()).is_ok()
        });
        run(engine, &fake, "").assert_good(3);
    }
}

fn no_response(engine: Engine) {
    let fake = FakeTracker::start(|_, _| true);
    let run = LoadRun::of(engine, &fake.url(), "--duration 1 --connections 3 --timeout 1");
    let silent = run.faults("silence");
    assert!(run.status == 1 && silent >= 3 && silent.is_multiple_of(3), "{}", run.text);
    assert_eq!((run.number("good"), run.number("sent")), (0, silent));
    assert!(run.latency_ms("p50") >= 1000.0, "{}", run.text);
}

fn no_server(engine: Engine) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = LoadRun::of(engine, &format!("http://{address}/"), THREE);
    run.assert_failed("connect", 3);
    assert!(run.number("sent") == 0 && run.text.contains("Connection refused"), "{}", run.text);
}

/// Resets connections in place of the response with this number.
fn resetting(at: usize) -> FakeTracker {
    FakeTracker::start(move |number, stream| {
        if number < at {
            return stream.write_all(&response(GOOD_BODY)).is_ok();
        }
        SockRef::from(&stream.as_fd()).set_linger(Some(Duration::ZERO)).unwrap();
        // Ends the thread, and with it the stream, without a message.
        panic::resume_unwind(Box::new(()))
    })
}

fn connections_that_are_reset(engine: Engine) {
    let run = run(engine, &resetting(0), "");
    let ended = run.faults("socket") + run.faults("ended-early");
    assert_eq!((run.status, ended), (1, 3), "{}", run.text);
}

fn connections_that_are_reset_between_responses(engine: Engine) {
    let run = run(engine, &resetting(1), "");
    assert_eq!((run.status, run.number("good")), (0, 3), "{}", run.text);
    assert_eq!(run.oddities("closed-kept-connection"), 2, "{}", run.text);
}

fn connections_that_end_at_once(engine: Engine) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let closing = thread::spawn(move || listener.incoming().take(3).for_each(drop));
    let run = LoadRun::of(engine, &format!("http://{address}/"), THREE);
    closing.join().unwrap();
    assert_eq!((run.status, run.number("failures")), (1, 3), "{}", run.text);
}

fn no_tls_where_there_should_be(engine: Engine) {
    let insecure = format!("{THREE} --insecure");
    // The server waits for the end of a request, which never comes.
    let silent = FakeTracker::sending(response(GOOD_BODY));
    let url = silent.url().replace("http://", "https://");
    LoadRun::of(engine, &url, &insecure).assert_failed("silence", 3);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let responding = thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let run = LoadRun::of(engine, &url, &insecure);
    responding.join().unwrap();
    run.assert_failed("tls", 3);
}

fn the_own_address(engine: Engine) {
    // That of the only peer, if it connects from 127.7.7.7.
    let own = &b"d8:intervali1800e5:peers6:\x7f\x07\x07\x07\x04\x01e"[..];
    let fake = FakeTracker::sending(response(own));
    run(engine, &fake, "--peers 1 --sources 127.7.7.7").assert_failed("own-address", 3);
    let other = run(engine, &fake, "--peers 1 --sources 127.7.7.8");
    assert_eq!(other.status, 0, "{}", other.text);
    let allowed = run(engine, &fake, "--peers 1 --sources 127.7.7.7 --allow own-address");
    // There was no correct response.
    allowed.assert_failed("own-address", 3);
    assert_eq!(allowed.number("failures"), 0);
}

fn one_bad_response_among_many(engine: Engine) {
    let fake = FakeTracker::start(|number, stream| {
        let body = if number == 77 { &b"de"[..] } else { GOOD_BODY };
        stream.write_all(&response(body)).is_ok()
    });
    let run = LoadRun::of(engine, &fake.url(), "--requests 100 --connections 1");
    run.assert_failed("missing-key", 1);
    assert_eq!((run.number("good"), run.number("latencies")), (99, 100));
}
