//! Addresses of servers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// An address at which a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`
    Tcp(String),
    /// `unix:PATH`
    Unix(PathBuf),
}

impl Address {
    /// Returns true if the operating system picks the port.
    pub fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.ends_with(":0"))
    }
}

/// The error for a string that is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither `unix:PATH` nor `HOST:PORT`, such as `127.0.0.1:9001`", self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match (text.strip_prefix("unix:"), text.rsplit_once(':')) {
            (Some(path), _) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            (None, Some((host, port))) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process of this host, over a Unix socket.
    Unix,
    /// A process with this address.
    Tcp(SocketAddr),
}

impl Peer {
    /// Returns true if the peer is certainly a process of this host.
    pub fn is_of_this_host(self) -> bool {
        match self {
            Self::Unix => true,
            // Only 127.0.0.1, not all of 127.0.0.0/8: proxies that forward requests of other hosts
            // use other addresses of that range (Istio uses 127.0.0.6).
            Self::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
                IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_socket_path_or_a_host_with_a_port() {
        assert_eq!("unix:/run/x.sock".parse(), Ok(Address::Unix(PathBuf::from("/run/x.sock"))));
        assert_eq!("127.0.0.1:0".parse(), Ok(Address::Tcp("127.0.0.1:0".to_owned())));
        assert_eq!("[::1]:9001".parse(), Ok(Address::Tcp("[::1]:9001".to_owned())));
        for bad in ["", "unix:", "9001", ":9001", "localhost", "localhost:http", "/run/x.sock"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_of_this_host() {
        let tcp = |address: &str| Peer::Tcp(address.parse().unwrap()).is_of_this_host();
        assert!(Peer::Unix.is_of_this_host());
        assert!(tcp("127.0.0.1:1") && tcp("[::1]:1"));
        assert!(tcp("[::ffff:127.0.0.1]:1"));
        assert!(!tcp("127.0.0.6:1") && !tcp("[::ffff:127.0.0.6]:1"));
        assert!(!tcp("10.0.0.1:1") && !tcp("0.0.0.0:1") && !tcp("[::ffff:10.0.0.1]:1"));
    }
}
