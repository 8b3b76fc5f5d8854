//! Addresses of one family that others are told, where they are configured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addresses::is_public;

/// A field that holds a public address of one family, or none.
pub(super) trait PublicAddress {
    /// What a value must look like, to follow "expected".
    fn form(&self) -> &'static str;
    /// Its text; empty for none.
    fn text(&self) -> String;
    /// Takes what `text` says.
    ///
    /// # Errors
    /// What is wrong with it.
    fn set(&mut self, text: &str) -> Result<(), String>;
}

impl PublicAddress for Option<Ipv4Addr> {
    fn form(&self) -> &'static str {
        "\"\", or an IPv4 address like \"203.0.113.7\""
    }
    fn text(&self) -> String {
        self.map_or(String::new(), |ip| ip.to_string())
    }
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = match public(text, self.form())? {
            None => None,
            Some(IpAddr::V4(ip)) => Some(ip),
            Some(IpAddr::V6(_)) => return Err("is IPv6: write it to external_ipv6".to_string()),
        };
        Ok(())
    }
}

impl PublicAddress for Option<Ipv6Addr> {
    fn form(&self) -> &'static str {
        "\"\", or an IPv6 address like \"2001:db8::7\", without brackets"
    }
    fn text(&self) -> String {
        self.map_or(String::new(), |ip| ip.to_string())
    }
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = match public(text, self.form())? {
            None => None,
            Some(IpAddr::V6(ip)) => Some(ip),
            Some(IpAddr::V4(_)) => return Err("is IPv4: write it to external_ipv4".to_string()),
        };
        Ok(())
    }
}

fn public(text: &str, form: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = text
        .parse()
        .map_err(|_| format!("expected {form} (no port, and names are not looked up)"))?;
    let ip = ip.to_canonical();
    if is_public(ip) {
        Ok(Some(ip))
    } else {
        Err("must be a public address: others cannot reach this one".to_string())
    }
}
