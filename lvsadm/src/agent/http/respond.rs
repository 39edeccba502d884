//! Answers as they are sent.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use hyper::http::response::Builder;
use hyper::{Response, StatusCode};

/// A sentence.
pub fn plain(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    finish(head(status, "text/plain; charset=utf-8"), Full::new(Bytes::from(format!("{sentence}\n"))))
}

/// The beginning of every answer: it is not kept, not taken for something else, and not for other sites.
pub fn head(status: StatusCode, kind: &str) -> Builder {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .header("Cache-Control", "no-store")
        .header("Cross-Origin-Resource-Policy", "same-origin")
        .header("Referrer-Policy", "no-referrer")
        .header("X-Content-Type-Options", "nosniff")
}

/// An answer. What is no page may load nothing.
pub fn finish<B>(head: Builder, body: B) -> Response<B> {
    built(head.header(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"), body)
}

/// An answer of parts, which are constants and numbers and so always make one.
pub fn built<B>(head: Builder, body: B) -> Response<B> {
    match head.body(()) {
        Ok(response) => response.map(|()| body),
        Err(_) => Response::new(body),
    }
}
