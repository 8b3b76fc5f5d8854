//! Every fault and every oddity, each from a server that has just it.

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

use crate::fake::{Fake, GOOD, kept};
use crate::run::Run;
use crate::support::{TestEngine, on_both_engines};

on_both_engines!(
    every_wrong_answer_under_its_reason,
    every_odd_answer_and_no_failure,
    a_good_answer_in_pieces,
    a_good_answer_behind_an_interim_one,
    no_answer_at_all,
    nobody_there,
    connections_that_are_reset,
    connections_that_are_reset_between_answers,
    connections_that_end_at_once,
    no_tls_where_there_should_be,
    the_own_address,
    one_bad_answer_among_many,
);

const BOUNDS: [&str; 6] = ["--requests", "3", "--connections", "1", "--timeout", "1"];

fn run(engine: TestEngine, fake: &Fake, more: &[&str]) -> Run {
    Run::of(engine, &fake.url(), &[&BOUNDS[..], more].concat())
}

/// An answer with these headers and body.
fn with(headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}").into_bytes()
}

fn every_wrong_answer_under_its_reason(engine: TestEngine) {
    for (answer, fault) in [
        (b"".to_vec(), "ended-early"),
        (b"HTTP/1.1 200 OK\r\n".to_vec(), "ended-early"),
        (with("Content-Length: 9\r\n", "d"), "ended-early"),
        (b"220 mail.example ESMTP\r\n".to_vec(), "not-http"),
        (b"HTTP/2 200\r\n\r\n".to_vec(), "not-http"),
        (with("Content-Length: x\r\n", ""), "bad-header"),
        (with("nonsense\r\n", ""), "bad-header"),
        (with("Content-Length: 1\r\nContent-Length: 2\r\n", "x"), "bad-header"),
        (with("Transfer-Encoding: chunked\r\n", "x\r\n"), "bad-chunk"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), "status"),
        (b"HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_vec(), "status"),
        (with("Content-Encoding: gzip\r\nContent-Length: 1\r\n", "x"), "compressed"),
        (with("Content-Length: 99999999\r\n", "x"), "too-long"),
        ([kept(GOOD), b"more".to_vec()].concat(), "surplus"),
        (kept(b"<html></html>"), "not-bencode"),
        (kept(b""), "not-bencode"),
        (kept(&GOOD[..GOOD.len() - 1]), "not-bencode"),
        (kept(&[GOOD, b"\r\n."].concat()), "trailing-bytes"),
        (kept(b"d14:failure reason8:go away!e"), "refused"),
        (kept(b"d8:intervali1800ee"), "missing-key"),
        (kept(b"d5:peers0:e"), "missing-key"),
        (kept(b"d8:interval4:18005:peers0:e"), "wrong-type"),
        (kept(b"d8:intervali0e5:peers0:e"), "bad-interval"),
        (kept(b"d8:intervali1800e5:peers7:1234567e"), "bad-peers"),
        (kept(b"d8:intervali1800e5:peers6:\0\0\0\0abe"), "bad-peers"),
        (kept(b"d8:intervali1800e5:peers12:abcdefabcdefe"), "repeated-peer"),
        (kept(&[b"d8:intervali1e5:peers306:", &[b'x'; 306][..], b"e"].concat()), "too-many-peers"),
        (kept(b"d8:intervali1800e5:peers6:abcd\0\0e"), "port-zero"),
    ] {
        let fake = Fake::saying(answer.clone());
        let run = run(engine, &fake, &[]);
        let shown = format!("{}\n{}", answer.escape_ascii(), run.text);
        assert_eq!((run.status, run.faults(fault)), (1, 3), "{fault}: {shown}");
        assert_eq!(run.number("failures"), 3, "{shown}");
        assert!(run.text.contains(fault) && run.text.contains("3 failures"), "{shown}");
        let good = if fault == "surplus" { 3 } else { 0 };
        assert_eq!(run.number("good"), good, "{shown}");
    }
    for (body, fault) in [
        (
            &b"d5:filesd20:aaaaaaaaaaaaaaaaaaaa\
               d8:completei1e10:downloadedi1e10:incompletei1eeee"[..],
            "strange-torrent",
        ),
        (b"d5:filesi1ee", "wrong-type"),
        (b"de", "missing-key"),
    ] {
        let fake = Fake::saying(kept(body));
        let run = run(engine, &fake, &["--scrapes", "100"]);
        assert_eq!((run.status, run.faults(fault)), (1, 3), "{fault}: {}", run.text);
    }
}

fn every_odd_answer_and_no_failure(engine: TestEngine) {
    let chunk = |body: &[u8]| {
        let size = format!("{:x}\r\n", body.len());
        [size.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
    };
    let good = String::from_utf8_lossy(GOOD).into_owned();
    let unsorted = &b"d5:peers0:8:intervali1800ee"[..];
    let warning = &b"d8:intervali1800e5:peers0:15:warning message2:hie"[..];
    let list = &b"d8:intervali1e5:peersld2:ip9:127.9.9.94:porti9eeee"[..];
    for (answer, oddity) in [
        (kept(unsorted), "unsorted-keys"),
        (kept(list), "dictionary-peers"),
        (kept(warning), "warning"),
        (kept(GOOD), "closed-kept-connection"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", GOOD].concat(), "no-length"),
        ([with("Transfer-Encoding: chunked\r\n", ""), chunk(GOOD)].concat(), "chunked"),
    ] {
        let fake = Fake::saying(answer);
        let run = run(engine, &fake, &[]);
        assert_eq!(run.status, 0, "{oddity}: {good}{}", run.text);
        // How a last connection ends is no longer seen.
        assert!(run.oddities(oddity) >= 2, "{oddity}: {}", run.text);
        assert_eq!(run.number("good"), 3);
    }
}

fn a_good_answer_in_pieces(engine: TestEngine) {
    let fake = Fake::start(|_, stream| {
        stream.set_nodelay(true).unwrap();
        kept(GOOD).iter().all(|byte| stream.write_all(&[*byte]).is_ok())
    });
    run(engine, &fake, &[]).is_good(3);
    run(engine, &fake, &["--pipeline", "3"]).is_good(3);
}

fn a_good_answer_behind_an_interim_one(engine: TestEngine) {
    for interim in ["100 Continue", "103 Early Hints\r\nLink: </x>"] {
        let interim = format!("HTTP/1.1 {interim}\r\n\r\n");
        let fake = Fake::start(move |_, stream| {
            stream.write_all(&[interim.as_bytes(), &kept(GOOD)].concat()).is_ok()
        });
        run(engine, &fake, &[]).is_good(3);
    }
}

fn no_answer_at_all(engine: TestEngine) {
    let fake = Fake::start(|_, _| true);
    let run =
        Run::of(engine, &fake.url(), &["--duration", "1", "--connections", "3", "--timeout", "1"]);
    let silent = run.faults("silence");
    assert!(run.status == 1 && silent >= 3 && silent.is_multiple_of(3), "{}", run.text);
    assert_eq!((run.number("good"), run.number("sent")), (0, silent));
    assert!(run.latency_ms("p50") >= 1000.0, "{}", run.text);
}

fn nobody_there(engine: TestEngine) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = Run::of(engine, &format!("http://{address}/"), &BOUNDS);
    assert_eq!((run.status, run.faults("connect"), run.number("sent")), (1, 3, 0), "{}", run.text);
    assert!(run.text.contains("Connection refused"), "{}", run.text);
}

fn connections_that_are_reset(engine: TestEngine) {
    let fake = Fake::start(|_, stream| {
        SockRef::from(&stream.as_fd()).set_linger(Some(Duration::ZERO)).unwrap();
        // What closes it is that nobody holds it any more.
        let _ = stream.shutdown(Shutdown::Read);
        panic_quietly()
    });
    let run = run(engine, &fake, &[]);
    let ended = run.faults("socket") + run.faults("ended-early");
    assert_eq!((run.status, ended), (1, 3), "{}", run.text);
}

fn connections_that_are_reset_between_answers(engine: TestEngine) {
    // What was read of the second request is not all: the close makes it a reset.
    let fake = Fake::start(|number, stream| {
        if number == 0 {
            return stream.write_all(&kept(GOOD)).is_ok();
        }
        SockRef::from(&stream.as_fd()).set_linger(Some(Duration::ZERO)).unwrap();
        panic_quietly()
    });
    let run = run(engine, &fake, &[]);
    assert_eq!((run.status, run.number("good")), (0, 3), "{}", run.text);
    assert_eq!(run.oddities("closed-kept-connection"), 2, "{}", run.text);
}

/// Leaves the thread of a connection, whose stream is closed by that.
fn panic_quietly() -> bool {
    std::panic::resume_unwind(Box::new(()))
}

fn connections_that_end_at_once(engine: TestEngine) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let closing = std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            drop(stream);
        }
    });
    let run = Run::of(engine, &format!("http://{address}/"), &BOUNDS);
    closing.join().unwrap();
    assert_eq!((run.status, run.number("failures")), (1, 3), "{}", run.text);
}

fn no_tls_where_there_should_be(engine: TestEngine) {
    let fake = Fake::saying(kept(GOOD));
    let url = fake.url().replace("http://", "https://");
    let run = Run::of(engine, &url, &[&BOUNDS[..], &["--insecure"]].concat());
    // The fake waits for the end of a request that never comes.
    assert_eq!((run.status, run.faults("silence")), (1, 3), "{}", run.text);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let saying = std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let run = Run::of(engine, &url, &[&BOUNDS[..], &["--insecure"]].concat());
    saying.join().unwrap();
    assert_eq!((run.status, run.faults("tls")), (1, 3), "{}", run.text);
}

fn the_own_address(engine: TestEngine) {
    // The peer whose port comes first, from the one address there is.
    let own = &b"d8:intervali1800e5:peers6:\x7f\x07\x07\x07\x04\x01e"[..];
    let fake = Fake::saying(kept(own));
    let arguments = ["--peers", "1", "--sources", "127.7.7.7"];
    let run = run(engine, &fake, &arguments);
    assert_eq!((run.status, run.faults("own-address")), (1, 3), "{}", run.text);
    let other = self::run(engine, &fake, &["--peers", "1", "--sources", "127.7.7.8"]);
    assert_eq!(other.status, 0, "{}", other.text);
    let allowed = self::run(engine, &fake, &[&arguments[..], &["--allow", "own-address"]].concat());
    assert_eq!((allowed.status, allowed.faults("own-address")), (1, 3), "{}", allowed.text);
}

fn one_bad_answer_among_many(engine: TestEngine) {
    let fake = Fake::start(|number, stream| {
        let body = if number == 77 { &b"de"[..] } else { GOOD };
        stream.write_all(&kept(body)).is_ok()
    });
    let run = Run::of(engine, &fake.url(), &["--requests", "100", "--connections", "1"]);
    assert_eq!((run.status, run.number("good"), run.faults("missing-key")), (1, 99, 1));
    assert_eq!(run.number("latencies"), 100);
}
