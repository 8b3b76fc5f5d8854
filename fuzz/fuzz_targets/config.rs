//! The configuration: any text is taken or refused with the file's name in every line, and
//! what is taken is within its bounds.
#![no_main]

use annulus::config::Config;
use annulus::limits::RESPONSE_BYTES_MAX;
use annulus::server::response_bytes_max;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, "fuzzed.toml") {
        Ok(config) => {
            assert!(response_bytes_max(&config.protocol) <= RESPONSE_BYTES_MAX);
            assert!(!(config.listen.is_empty() && config.tls.listen.is_empty()));
            assert!(config.protocol.min_interval_s <= config.protocol.interval_s);
            assert!(config.protocol.peer_timeout_s > config.protocol.interval_s);
        }
        Err(errors) => {
            let errors = errors.to_string();
            assert!(errors.lines().next().is_some(), "refused without a message");
            for line in errors.lines() {
                assert!(line.starts_with("fuzzed.toml"), "no file: {line}");
            }
        }
    }
});
