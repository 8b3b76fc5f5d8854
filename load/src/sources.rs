//! The addresses that connections come from.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The IP addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange(IpNet);

impl AddressRange {
    /// Whether `ip` is in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    /// How many addresses it has; `u128::MAX` for all of IPv6.
    pub fn addresses(self) -> u128 {
        let bits = self.0.max_prefix_len() - self.0.prefix_len();
        1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
    }

    /// Its address number `at`, counted from 0, which is less than [`AddressRange::addresses`].
    pub fn address(self, at: u128) -> IpAddr {
        match self.0.network() {
            IpAddr::V4(first) => IpAddr::V4((first.to_bits() + at as u32).into()),
            IpAddr::V6(first) => IpAddr::V6((first.to_bits() + at).into()),
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    /// Reads an address, or an address and a number of bits such as `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<AddressRange, String> {
        let range = match text.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                "not an IP address or a range of them, like \"192.0.2.1\" or \"10.0.0.0/8\" \
                 (names are not looked up)"
            })?,
        };
        match range.trunc() {
            first if first == range => Ok(AddressRange(range)),
            first => {
                let bits = range.prefix_len();
                Err(format!("there are bits set after the first {bits}: write \"{first}\""))
            }
        }
    }
}
