//! Whether a request is answered, before anything is done for it.

use super::token::Token;

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It asks for more than reading.
    Method,
    /// It names another host: a web page that has its own name resolve to this host would (DNS rebinding).
    Host,
    /// It does not bear the token.
    Token,
}

/// What admission looks at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The host that is named: `Host`, or the target's.
    pub host: Option<&'a str>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// Whether the answer tells anything of this director; the page itself does not.
    pub tells: bool,
}

/// Whether a request that came to a loopback address, if `local`, is answered.
pub fn admit(asked: Asked<'_>, local: bool, token: Option<&Token>) -> Result<(), Refusal> {
    if !matches!(asked.method, "GET" | "HEAD") {
        return Err(Refusal::Method);
    }
    if local && !asked.host.is_some_and(is_local) {
        return Err(Refusal::Host);
    }
    match token {
        Some(token) if asked.tells && !token.is_borne_by(asked.authorization) => Err(Refusal::Token),
        _ => Ok(()),
    }
}

/// Whether a host, with a port or without, can only be this one.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { method: "GET", host: Some("localhost:9120"), authorization: None, tells: true };

    #[test]
    fn only_reading_is_answered() {
        assert_eq!(admit(ASKED, true, None), Ok(()));
        assert_eq!(admit(Asked { method: "HEAD", ..ASKED }, true, None), Ok(()));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get"] {
            assert_eq!(admit(Asked { method, ..ASKED }, true, None), Err(Refusal::Method), "{method}");
        }
    }

    #[test]
    fn a_loopback_address_answers_to_no_other_name() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9120", "127.9.9.9", "[::1]:9120", "[::1]"] {
            assert_eq!(admit(Asked { host: Some(host), ..ASKED }, true, None), Ok(()), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:9120", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]:80", "[::1"]
        {
            assert_eq!(admit(Asked { host: Some(host), ..ASKED }, true, None), Err(Refusal::Host), "{host}");
            assert_eq!(admit(Asked { host: Some(host), ..ASKED }, false, None), Ok(()), "{host}");
        }
        assert_eq!(admit(Asked { host: None, ..ASKED }, true, None), Err(Refusal::Host));
    }

    #[test]
    fn only_the_page_is_shown_without_the_token() {
        let file = std::env::temp_dir().join(format!("lvs-token-{}", std::process::id()));
        std::fs::write(&file, "0123456789abcdef").unwrap();
        let others = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, others).unwrap();
        assert!(Token::read(&file).unwrap_err().to_string().contains("others may read the token"));
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, own).unwrap();
        let token = Token::read(&file);
        std::fs::remove_file(&file).unwrap();
        let token = token.unwrap();
        assert_eq!(admit(ASKED, true, Some(&token)), Err(Refusal::Token));
        assert_eq!(admit(Asked { tells: false, ..ASKED }, true, Some(&token)), Ok(()));
        let bearing = Asked { authorization: Some(b"Bearer 0123456789abcdef"), ..ASKED };
        assert_eq!(admit(bearing, false, Some(&token)), Ok(()));
    }
}
