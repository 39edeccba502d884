//! A request's answer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, HOST, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::response::Builder;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admit::{Asked, Refusal, admit};
use super::query::Query;
use super::respond::{finish, head, plain};
use super::shared::INTERVAL;
use super::stream::Pieces;
use super::token::Token;
use super::views::{LISTINGS, Text, View, Views};
use super::{media, page};
use crate::render::Format;

/// KiB of answers that may wait to be sent, or of what they are made of, of all connections together.
const WAITING: usize = 512 << 10;

/// An answer: a text, or one that is written while it is sent.
type Sent = Response<Either<Full<Bytes>, Pieces>>;

/// An answer, and what it holds of [`WAITING`] until it is sent.
pub type Answer = (Sent, Option<OwnedSemaphorePermit>);

/// An answer that holds nothing.
fn brief(response: Response<Full<Bytes>>) -> Answer {
    (response.map(Either::Left), None)
}

/// What answers are made of.
pub struct Answers {
    token: Option<Arc<Token>>,
    views: Views,
    waiting: Arc<Semaphore>,
}

/// What a path is of.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Page,
    Metrics,
    Services,
    Status,
    Listing(usize),
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Target::Page,
            "/metrics" => Target::Metrics,
            "/api/services" => Target::Services,
            "/api/status" => Target::Status,
            _ => {
                let name = path.strip_prefix("/api/")?;
                Target::Listing(LISTINGS.iter().position(|(listing, _)| *listing == name)?)
            }
        })
    }
}

impl Answers {
    /// Answers to whoever bears a token, or to everybody without one.
    pub fn new(token: Option<Arc<Token>>) -> Self {
        Answers { token, views: Views::default(), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// Keeps letting go of what is too old to be given out.
    pub async fn forget(self: Arc<Self>) {
        loop {
            tokio::time::sleep(5 * INTERVAL).await;
            self.views.forget().await;
        }
    }

    /// The answer to a request that came to a loopback address, if `local`.
    pub async fn answer(&self, request: Request<Incoming>, local: bool) -> Answer {
        let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let target = Target::of(request.uri().path());
        let asked = Asked {
            method: request.method().as_str(),
            host: request.uri().authority().map(|authority| authority.as_str()).or(text(HOST)),
            authorization: request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes),
            tells: target != Some(Target::Page),
        };
        if let Err(refusal) = admit(asked, local, self.token.as_deref()) {
            return brief(refused(refusal));
        }
        let (kind, view) = match target {
            None => {
                return brief(plain(
                    StatusCode::NOT_FOUND,
                    "there is /, /metrics, and /api/ with the names of listings",
                ));
            }
            Some(Target::Page) => return brief(page::response()),
            Some(Target::Metrics) => return self.metrics(media::format(text(ACCEPT))).await,
            Some(Target::Services) => match Query::read(request.uri().query().unwrap_or_default()) {
                Ok(query) => (JSON, View::Services(query)),
                Err(why) => return brief(plain(StatusCode::BAD_REQUEST, &why)),
            },
            Some(Target::Status) => (JSON, View::Status),
            Some(Target::Listing(number)) => (JSON, View::Listing(number)),
        };
        match self.views.text(view).await {
            Ok(text) => self.send(kind, text),
            Err(why) => brief(plain(StatusCode::SERVICE_UNAVAILABLE, &why)),
        }
    }

    /// Metrics, which are written while they are sent. Until then they hold what they are made of.
    async fn metrics(&self, format: Format) -> Answer {
        let snapshot = match self.views.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(why) => return brief(plain(StatusCode::SERVICE_UNAVAILABLE, &why)),
        };
        let Some(held) = self.hold(snapshot.bytes()) else { return brief(busy()) };
        let response = taken(head(StatusCode::OK, format.media_type()), snapshot.taken);
        let pieces = Pieces::of(move |out| snapshot.metrics(format, out));
        (finish(response, Either::Right(pieces)), Some(held))
    }

    /// Takes a part of [`WAITING`], if so many bytes are left of it.
    fn hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let size = bytes.div_ceil(1024).min(WAITING) as u32;
        self.waiting.clone().try_acquire_many_owned(size).ok()
    }

    /// Sends a text, unless too much waits to be sent already.
    fn send(&self, kind: &'static str, text: Text) -> Answer {
        let Some(held) = self.hold(text.body.len()) else { return brief(busy()) };
        let mut response = taken(head(StatusCode::OK, kind), text.taken);
        if let Some(total) = text.total {
            response = response.header("X-Total-Count", total);
        }
        (finish(response, Either::Left(Full::new(text.body))), Some(held))
    }
}

/// Says when what is sent was true.
fn taken(head: Builder, taken: SystemTime) -> Builder {
    head.header("Lvs-Taken", taken.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string())
}

/// The answer while too much waits to be sent.
fn busy() -> Response<Full<Bytes>> {
    let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, "too much waits to be sent to others: try again");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

const JSON: &str = "application/json";

/// The answer to a request that is refused.
fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::Method => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "there is only reading here: GET or HEAD");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        Refusal::Host => plain(
            StatusCode::MISDIRECTED_REQUEST,
            "this address answers to localhost only: a proxy is to send `Host: localhost'",
        ),
        Refusal::Token => {
            let mut answer = plain(StatusCode::UNAUTHORIZED, "a token is needed: `Authorization: Bearer TOKEN'");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_of_one_thing() {
        assert_eq!(Target::of("/"), Some(Target::Page));
        assert_eq!(Target::of("/api/services"), Some(Target::Services));
        for (number, (name, _)) in LISTINGS.iter().enumerate() {
            assert_eq!(Target::of(&format!("/api/{name}")), Some(Target::Listing(number)));
        }
        for path in ["", "/api", "/api/", "/api/nothing", "/metrics/", "//", "/../metrics", "/index.html", "*"] {
            assert_eq!(Target::of(path), None, "{path}");
        }
    }
}
