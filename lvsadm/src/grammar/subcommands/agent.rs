//! The options of `lvsadm agent`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

/// The options of `lvsadm agent` that are about the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ListenArgs {
    /// Answer HTTP requests too: metrics, JSON and a status page. On localhost where only a port is named; may be repeated
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// The file with the token that a request must bear (`Authorization: Bearer TOKEN`); nobody else may read the file
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
    /// Let everybody who reaches an address read, although it is not a loopback address
    #[arg(long, requires = "listen", conflicts_with = "token_file")]
    pub no_token: bool,
}

impl ListenArgs {
    /// An address that others reach, where nothing says who may read.
    pub fn unguarded(&self) -> Option<SocketAddr> {
        let guarded = self.no_token || self.token_file.is_some();
        self.listen.iter().copied().find(|address| !guarded && !address.ip().to_canonical().is_loopback())
    }
}

/// Reads an address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    match (port.parse(), text.parse()) {
        (Ok(port), _) if port != 0 => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        (_, Ok(address)) => Ok(address),
        _ => Err("write PORT, ADDRESS:PORT or [ADDRESS]:PORT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_localhost() {
        for (text, expected) in [
            ("9120", "127.0.0.1:9120"),
            ("localhost:9120", "127.0.0.1:9120"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::]:9120", "[::]:9120"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for text in ["", "0", ":9120", "70000", "::1", "director:9120", "10.0.0.1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_others_reach_needs_a_word_on_who_may_read() {
        let unguarded = |listen: &[&str], token_file: Option<&str>, no_token| {
            let listen = listen.iter().map(|text| address(text).unwrap()).collect();
            let arguments = ListenArgs { listen, token_file: token_file.map(PathBuf::from), no_token };
            arguments.unguarded().map(|address| address.to_string())
        };
        assert_eq!(unguarded(&["9120", "[::1]:9120", "127.3.2.1:1", "[::ffff:127.0.0.1]:1"], None, false), None);
        assert_eq!(unguarded(&["9120", "0.0.0.0:9120"], None, false).as_deref(), Some("0.0.0.0:9120"));
        assert_eq!(unguarded(&["[2001:db8::1]:80"], None, false).as_deref(), Some("[2001:db8::1]:80"));
        assert_eq!(unguarded(&["0.0.0.0:9120"], Some("token"), false), None);
        assert_eq!(unguarded(&["0.0.0.0:9120"], None, true), None);
        assert_eq!(unguarded(&[], None, false), None);
    }
}
