//! A text that is sent while it is written: no more of it is in memory than a few pieces.

use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

/// Bytes of a piece, and how many may wait for the client to read them.
const PIECE: usize = 64 << 10;
/// See [`PIECE`].
const WAITING: usize = 2;

/// The pieces, as the body of an answer.
pub struct Pieces(Receiver<Bytes>);

impl Pieces {
    /// Has another thread `write` the text. The thread waits for the client to read, and ends with the connection.
    pub fn of(write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result + Send + 'static) -> Self {
        let (sender, receiver) = channel(WAITING);
        spawn_blocking(move || {
            let mut writer = Writer { piece: String::with_capacity(PIECE), sender };
            // It fails when the client is gone.
            let _ = write(&mut writer).and_then(|()| writer.send());
        });
        Pieces(receiver)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What is written, a piece at a time.
struct Writer {
    piece: String,
    sender: Sender<Bytes>,
}

impl Writer {
    fn send(&mut self) -> fmt::Result {
        let piece = mem::replace(&mut self.piece, String::with_capacity(PIECE));
        self.sender.blocking_send(piece.into()).map_err(|_| fmt::Error)
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.piece.len() + text.len() > PIECE {
            self.send()?;
        }
        self.piece.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn what_is_written_arrives_in_pieces_and_who_writes_ends_with_the_reader() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let write =
            |lines: usize| move |out: &mut dyn fmt::Write| (0..lines).try_for_each(|line| writeln!(out, "line {line}"));
        let text = runtime.block_on(async {
            // One that nobody reads.
            drop(Pieces::of(write(usize::MAX)));
            let mut pieces = Pieces::of(write(100_000));
            let mut text = String::new();
            while let Some(frame) = pieces.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE);
                text.push_str(std::str::from_utf8(&piece).unwrap());
            }
            text
        });
        assert_eq!(text.lines().count(), 100_000);
        assert!(text.ends_with("line 99999\n"));
    }
}
