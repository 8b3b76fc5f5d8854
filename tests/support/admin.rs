//! A client of the tracker's admin listener.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::client::{HttpResponse, fetch, get_request};
use super::tracker::{Tracker, wait_for};

/// The configuration that starts the admin listener.
pub(crate) const OPERATIONS: &str = "[operations]\nlisten = [\"127.0.0.1:0\"]\n";

/// Samples by name and labels, as in the text of `/metrics`.
pub(crate) type MetricSamples = BTreeMap<String, f64>;

/// The address of the admin listener.
pub(crate) struct AdminClient(pub(crate) SocketAddr);

impl AdminClient {
    /// A client of a tracker with [`OPERATIONS`].
    pub(crate) fn of(tracker: &Tracker) -> AdminClient {
        let address = |lines: &[String]| {
            let mut addresses = lines.iter().filter_map(|it| it.split_once(": operations on "));
            addresses.find_map(|(_, address)| address.parse().ok())
        };
        assert!(tracker.wait_log(|lines| address(lines).is_some()), "{}", tracker.log());
        let lines: Vec<String> = tracker.log().lines().map(str::to_owned).collect();
        AdminClient(address(&lines).unwrap())
    }

    /// The response to a GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        fetch(self.0, get_request(path))
    }

    /// The value of `/stats.json`.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        let response = self.get("/stats.json");
        assert_eq!(
            (response.status, response.header("content-type")),
            (200, Some("application/json"))
        );
        serde_json::from_slice(&response.body).unwrap()
    }

    /// The text of `/metrics`.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200);
        let content_type = response.header("content-type");
        assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
        String::from_utf8(response.body).unwrap()
    }

    /// The current value of all samples.
    #[track_caller]
    pub(crate) fn samples(&self) -> MetricSamples {
        let mut samples = MetricSamples::new();
        for line in self.text().lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let before = samples.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{name} comes twice");
        }
        samples
    }

    /// The current value of a sample.
    #[track_caller]
    pub(crate) fn sample(&self, name: &str) -> f64 {
        let samples = self.samples();
        *samples.get(name).unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
    }

    /// Waits until a sample has a value: some are counted after the client has its response.
    #[track_caller]
    pub(crate) fn wait_sample(&self, name: &str, value: f64) {
        wait_for(format!("{name} = {value}"), || (self.sample(name) == value).then_some(()));
    }

    /// The samples of a metric that are not zero, as in `a=b,c=d 1`.
    #[track_caller]
    pub(crate) fn labelled_samples(&self, metric: &str) -> Vec<String> {
        let samples = self.samples();
        let labelled = samples.iter().filter_map(|(name, value)| {
            let labels = name.strip_prefix(metric)?.strip_prefix('{')?.strip_suffix('}')?;
            (*value != 0.0).then(|| format!("{} {value}", labels.replace('"', "")))
        });
        labelled.collect()
    }
}
