//! The page, which has everything in it: its scripts and styles run by a number that each answer has anew, and it loads nothing but
//! this endpoint's JSON.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_SECURITY_POLICY;
use hyper::{Response, StatusCode};

use super::respond::{built, head};

/// The file. It tells nothing of the director; its script asks for that.
const PAGE: &str = include_str!("page.html");
/// What stands in the file for the number.
const NONCE: &str = "@NONCE@";

/// The answer.
pub fn response() -> Response<Full<Bytes>> {
    // Without random numbers the browser runs nothing of the page, and shows what stands in it for that case.
    let nonce = getrandom::u64().map(|number| format!("{number:016x}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let head = head(StatusCode::OK, "text/html; charset=utf-8").header(CONTENT_SECURITY_POLICY, policy);
    built(head, Full::new(Bytes::from(PAGE.replace(NONCE, &nonce))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_runs_nothing_else() {
        // Namespaces of XML are names, not addresses.
        let others = PAGE.replace("http://www.w3.org/2000/svg", "");
        for forbidden in ["http:", "https:", "//cdn", "@import", "url(", "innerHTML", " style=", " onclick", "eval("] {
            assert!(!others.contains(forbidden), "{forbidden}");
        }
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script nonce=\"@NONCE@\"").count());
        assert_eq!(PAGE.matches("<style").count(), PAGE.matches("<style nonce=\"@NONCE@\"").count());
    }
}
