//! The kinds of IP addresses.

use std::net::IpAddr;

use annulus::addresses::{is_private, is_public, is_unreachable};

#[track_caller]
fn assert_all(is_so: fn(IpAddr) -> bool, yes: &str, no: &str) {
    for (ips, expected) in [(yes, true), (no, false)] {
        for ip in ips.split_whitespace() {
            assert_eq!(is_so(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}

#[test]
fn unreachable_addresses() {
    assert_all(
        is_unreachable,
        "0.0.0.0 0.255.255.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255
         :: ::2 ::203.0.113.7 ::ffff:0.0.0.0 ::ffff:224.0.0.1 ::ffff:255.255.255.255
         64:ff9b::255.255.255.255 fe80:: fe80::1 febf:ffff::1 ff00:: ff02::1 ffff::1",
        "1.0.0.0 223.255.255.255 10.0.0.1 127.0.0.1 100.64.0.1 169.254.1.1 192.0.2.1
         198.51.100.1 203.0.113.7 198.18.0.1 ::1 ::ffff:10.0.0.1 ::1:0:0:0 64:ff9b::203.0.113.7
         200::1 2001:db8::1 2002:e000:1::1 fc00::1 fdff::1 fe00::1 fec0::1 feff::1",
    );
}

#[test]
fn private_addresses() {
    assert_all(
        is_private,
        "127.0.0.1 127.255.255.255 10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255
         192.168.0.1 192.168.255.255 169.254.0.1 ::1 fc00:: fdff:ffff::1 ::ffff:192.168.0.1",
        "9.255.255.255 11.0.0.0 126.255.255.255 128.0.0.0 172.15.255.255 172.32.0.0
         192.167.255.255 192.169.0.0 169.253.255.255 169.255.0.0 100.64.0.1 203.0.113.7
         ::2 200::1 3ff::1 fbff::1 fe00::1 fe80::1 2001:db8::1 ::ffff:203.0.113.7",
    );
}

#[test]
fn public_addresses() {
    assert_all(
        is_public,
        "1.1.1.1 100.63.255.255 100.128.0.0 203.0.113.7 192.0.2.1 2001:db8::1 200::1
         64:ff9b::1.1.1.1 2606:4700::1111",
        "0.0.0.0 127.0.0.1 10.1.2.3 100.64.0.0 100.127.255.255 224.0.0.1 240.0.0.1
         255.255.255.255 :: ::1 fd00::1 fe80::1 ff02::1 ::ffff:10.0.0.1",
    );
}
