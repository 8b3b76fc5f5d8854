//! The host names and addresses of certificates, and the look-up of a certificate by host name.

use std::collections::HashMap;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The distinct host names of `certificate`, in the form that [`HostNames`] stores: the DNS names
/// of its subjectAltName or, without one, its common name. Addresses are not among them: a client
/// that connects to an address sends no server name, see [`addresses_of`].
pub(super) fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let general = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let mut given: Vec<&str> = general
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    if given.is_empty() {
        let common = certificate.subject().iter_common_name();
        given.extend(common.filter_map(|name| name.as_str().ok()));
    }
    let mut names: Vec<String> = Vec::new();
    for name in given.into_iter().map(normalize) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The distinct IP addresses of the subjectAltName of `certificate`. IPv4-mapped IPv6 addresses
/// become IPv4.
pub(super) fn addresses_of(certificate: &X509Certificate<'_>) -> Vec<IpAddr> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let general = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for name in general {
        let GeneralName::IPAddress(octets) = name else { continue };
        let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
        let any = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
        if let Ok(address) = any.map(|address| address.to_canonical())
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Lower case, and without a dot at the end.
fn normalize(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The indices of certificates by host name. `*.` at the start of a name stands for exactly one
/// label.
#[derive(Debug, Default)]
pub(super) struct HostNames(HashMap<String, Vec<usize>>);

impl HostNames {
    /// Adds `certificate` to those of `name`, which is in the form of [`names_of`].
    pub(super) fn add(&mut self, name: &str, certificate: usize) {
        self.0.entry(name.to_string()).or_default().push(certificate);
    }

    /// The certificates of `name`, in the order in which they were added.
    pub(super) fn owners(&self, name: &str) -> &[usize] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The certificates for `host`, in any case and with or without a dot at its end: those with
    /// exactly this name, or if there is none, those with a matching wildcard.
    pub(super) fn find(&self, host: &str) -> &[usize] {
        let host = normalize(host);
        match (self.owners(&host), host.split_once('.')) {
            ([], Some((label, parent))) if !label.is_empty() => self.owners(&format!("*.{parent}")),
            (exact, _) => exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_comes_before_wildcard_and_a_wildcard_is_one_label() {
        let mut names = HostNames::default();
        for (certificate, name) in
            ["example.org", "*.example.org", "www.example.org", "*.tracker.example.org"]
                .iter()
                .enumerate()
        {
            names.add(name, certificate);
        }
        for (host, found) in [
            ("example.org", Some(0)),
            ("EXAMPLE.org.", Some(0)),
            ("www.example.org", Some(2)),
            ("WwW.Example.Org", Some(2)),
            ("ftp.example.org", Some(1)),
            ("Ftp.example.org.", Some(1)),
            ("tracker.example.org", Some(1)),
            ("a.tracker.example.org", Some(3)),
            ("b.a.tracker.example.org", None),
            ("a.b.example.org", None),
            ("a.www.example.org", None),
            (".example.org", None),
            ("notexample.org", None),
            ("example.org..", None),
            ("org", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(names.find(host), found.as_slice(), "{host}");
        }
    }

    #[test]
    fn a_name_may_have_several_owners() {
        let mut names = HostNames::default();
        names.add("example.org", 3);
        names.add("example.org", 1);
        names.add("*.example.org", 2);
        assert_eq!(names.find("Example.org"), [3, 1]);
        assert_eq!(names.find("www.example.org"), [2]);
    }
}
