//! The token that requests bear (RFC 6750).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use subtle::ConstantTimeEq;

/// How long a token may be. A shorter one could be guessed.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=1024;

/// See the module.
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads a file whose one line is a token, and which nobody else may read.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let context = || format!("cannot read the token in {name}");
        let file = File::open(path).with_context(context)?;
        if file.metadata().with_context(context)?.mode() & 0o077 != 0 {
            bail!("others may read the token in {name}: chmod 600 {name}");
        }
        let mut text = String::new();
        file.take(*LENGTH.end() as u64 + 2).read_to_string(&mut text).with_context(context)?;
        match Token::of(&text) {
            Some(token) => Ok(token),
            None => bail!(
                "{name} has no token, one line of {} to {} letters, digits and signs: openssl rand -hex 32 > {name}",
                LENGTH.start(),
                LENGTH.end()
            ),
        }
    }

    /// The token of a file's text.
    fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token = LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Token(text.as_bytes().to_vec()))
    }

    /// Whether the value of an `Authorization` header bears it. Nothing about the token shows in how long that takes.
    pub fn is_borne_by(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|value| value.split_at_checked("Bearer ".len())) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(self.0.ct_eq(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_cannot_be_guessed() {
        assert!(Token::of(&format!("{}\n", "a1".repeat(32))).is_some());
        for text in
            ["", "short", "sixteen letters, but blanks", &"x".repeat(1025), "0123456789abcdef\n0123456789abcdef"]
        {
            assert!(Token::of(text).is_none(), "{text}");
        }
    }

    #[test]
    fn only_the_token_itself_is_the_token() {
        let token = Token::of("0123456789abcdef").unwrap();
        assert!(token.is_borne_by(Some(b"Bearer 0123456789abcdef")));
        assert!(token.is_borne_by(Some(b"bearer 0123456789abcdef")));
        for value in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
        {
            assert!(!token.is_borne_by(Some(value.as_bytes())), "{value}");
        }
        assert!(!token.is_borne_by(None));
    }
}
