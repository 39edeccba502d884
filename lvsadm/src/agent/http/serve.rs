//! Connections: each for one request, all of them together bounded, in number and in time.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::answer::Answers;

/// Most connections at a time; later ones wait in the kernel.
pub const CONNECTIONS: usize = 64;
/// How long a client may take for its request's head.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take altogether, however slowly its answer is read.
pub const WHOLE: Duration = Duration::from_secs(30);
/// Most bytes and fields of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// See [`HEAD_BYTES`].
const HEAD_FIELDS: usize = 64;
/// How long accepting pauses that failed, for want of descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// The places of connections.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS))
}

/// Serves a listener's connections.
pub async fn serve(listener: TcpListener, places: Arc<Semaphore>, answers: Arc<Answers>, local: bool) {
    // Nobody closes the places.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, place, answers.clone(), local))),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Serves a connection. That it fails is its client's affair.
async fn connection(stream: TcpStream, _place: OwnedSemaphorePermit, answers: Arc<Answers>, local: bool) {
    // What the answer holds is let go when the connection ends, sent or not.
    let held = Mutex::new(None);
    let answer = service_fn(|request| {
        let (answers, held) = (&answers, &held);
        async move {
            let (response, holding) = answers.answer(request, local).await;
            *held.lock().unwrap_or_else(PoisonError::into_inner) = holding;
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    let _ = timeout(WHOLE, serving).await;
}
