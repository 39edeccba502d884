//! Many TCP connections at once, over which a client sends text to servers that send it back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::descriptors::raise_file_limit;
use super::namespace::Namespace;
use crate::text;

/// How often a transfer sends something, where there are no more than [`QUICK`].
const PERIOD: Duration = Duration::from_millis(200);
/// More transfers send as much as these do, all together.
const QUICK: usize = 1000;
/// Bytes that it sends each time.
const PIECE: usize = 600;
/// The text that transfers send round and round, each from a place of its own.
const TEXT: usize = 65_537;
/// From one transfer's beginning to the next one's.
const STEP: usize = 7919;
/// How long transfers may take to go on.
const GOING_ON: Duration = Duration::from_secs(60);
/// How long transfers may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Transfers with something to read that are asked for at a time.
const EVENTS: usize = 1024;

/// What became of transfers.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many got back all that they sent, byte by byte, and nothing else.
    pub complete: usize,
    /// Why the other ones did not.
    pub lost: Vec<String>,
}

/// Times without an answer, since they were last asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    /// The longest time in which none of the transfers got anything.
    pub of_all: Duration,
    /// The longest time in which one of them did not.
    pub of_one: Duration,
}

/// Transfers under way.
pub struct Transfers {
    shared: Arc<Shared>,
    thread: JoinHandle<Outcome>,
}

struct Shared {
    is_ending: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the thread tells while it works.
#[derive(Default)]
struct Seen {
    gap: Gap,
    /// How many bytes each has got back; the most there can be for one that has ended.
    received: Vec<u64>,
}

impl Transfers {
    /// Begins so many, from a namespace.
    pub fn begin(client: &Namespace, to: &[SocketAddr], count: usize) -> Result<Self> {
        raise_file_limit()?;
        let period = PERIOD * count.div_ceil(QUICK) as u32;
        let open = |id: usize| Transfer::open(to[id % to.len()], id, period).with_context(|| format!("transfer {id}"));
        let transfers: Vec<_> = client.enter(|| (0..count).map(open).collect())?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (at, transfer) in transfers.iter().enumerate() {
            epoll.add(&transfer.stream, EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
        }
        let seen = Mutex::new(Seen { received: vec![0; count], ..Seen::default() });
        let shared = Arc::new(Shared { is_ending: AtomicBool::new(false), seen });
        let thread = thread::spawn({
            let shared = shared.clone();
            move || run(transfers, &epoll, &shared)
        });
        Ok(Transfers { shared, thread })
    }

    /// Waits until each of them that has not failed got back something that it sends from now on.
    pub fn have_gone_on(&self) {
        assert!(self.go_on(), "not within {GOING_ON:?}: all transfers go on");
    }

    /// Waits as long for that, and whether it came: one that waits forever is told of at the end.
    pub fn go_on(&self) -> bool {
        let received = || self.shared.seen.lock().expect("not poisoned").received.clone();
        let before = received();
        // What was under way may be some pieces: all that was sent while nobody answered.
        let goes_on = |(now, before): (&u64, &u64)| *now == u64::MAX || *now > before + 2 * PIECE as u64;
        let begin = Instant::now();
        loop {
            if received().iter().zip(&before).all(goes_on) {
                return true;
            }
            if begin.elapsed() > GOING_ON {
                return false;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Times without an answer since the last call.
    pub fn gap(&self) -> Gap {
        std::mem::take(&mut self.shared.seen.lock().expect("not poisoned").gap)
    }

    /// Ends them all: each sends nothing more, and waits for what is still to come.
    pub fn end(self) -> Result<Outcome> {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the transfers' thread panicked"))
    }
}

/// One transfer.
struct Transfer {
    stream: TcpStream,
    /// Where in the text it began.
    from: usize,
    sent: usize,
    received: usize,
    /// How often it sends something, and when the next piece is due.
    period: Duration,
    due: Instant,
    /// When it last got something.
    answered: Instant,
    is_shut: bool,
    /// How it ended.
    end: Option<std::result::Result<(), String>>,
}

impl Transfer {
    fn open(to: SocketAddr, id: usize, period: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let now = Instant::now();
        let due = now + period * (id % 16) as u32 / 16;
        Ok(Transfer {
            stream,
            from: id * STEP % TEXT,
            sent: 0,
            received: 0,
            period,
            due,
            answered: now,
            is_shut: false,
            end: None,
        })
    }

    /// Sends a piece if it is time, or nothing more.
    fn send(&mut self, text: &[u8], now: Instant, is_ending: bool) {
        if is_ending && !self.is_shut {
            self.is_shut = true;
            // A connection that has failed tells it by its next read.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if is_ending || now < self.due {
            return;
        }
        self.due = now + self.period;
        let at = (self.from + self.sent) % TEXT;
        // A full buffer is tried again. A connection that has failed tells it by its next read.
        if let Ok(length) = self.stream.write(&text[at..at + PIECE]) {
            self.sent += length;
        }
    }

    /// Reads and compares what has come: how many bytes.
    fn receive(&mut self, text: &[u8], buffer: &mut [u8]) -> usize {
        match self.stream.read(buffer) {
            Ok(0) if self.is_shut && self.received == self.sent => self.end = Some(Ok(())),
            Ok(0) => self.end = Some(Err(format!("ended after {} of {} bytes", self.received, self.sent))),
            Ok(length) => {
                let at = (self.from + self.received) % TEXT;
                let is_right = text[at..].iter().zip(&buffer[..length]).all(|(sent, came)| sent == came);
                if !is_right || self.received + length > self.sent {
                    self.end = Some(Err(format!("wrong bytes after {}", self.received)));
                }
                self.received += length;
                return length;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.end = Some(Err(format!("after {} bytes: {error}", self.received))),
        }
        0
    }
}

/// Works until all have ended.
fn run(mut transfers: Vec<Transfer>, epoll: &Epoll, shared: &Shared) -> Outcome {
    /// Bytes read at a time, which the text must be repeated for.
    const BUFFER: usize = 65_536;
    let text = text(TEXT).repeat(3);
    let mut buffer = vec![0; BUFFER];
    let mut answered = Instant::now();
    let mut ending = None;
    while transfers.iter().any(|transfer| transfer.end.is_none()) {
        let now = Instant::now();
        if shared.is_ending.load(Ordering::Relaxed) && now - *ending.get_or_insert(now) > PATIENCE {
            break;
        }
        for transfer in transfers.iter_mut().filter(|transfer| transfer.end.is_none()) {
            transfer.send(&text, now, ending.is_some());
        }
        let ready = readable(epoll, &transfers);
        let now = Instant::now();
        let mut seen = shared.seen.lock().expect("not poisoned");
        for at in ready {
            let transfer = &mut transfers[at];
            if transfer.receive(&text, &mut buffer) > 0 {
                seen.gap.of_one = seen.gap.of_one.max(now - transfer.answered);
                seen.gap.of_all = seen.gap.of_all.max(now - answered);
                (transfer.answered, answered) = (now, now);
            }
            seen.received[at] = if transfer.end.is_some() {
                // It would be ready from now on, for ever.
                let _ = epoll.delete(&transfer.stream);
                u64::MAX
            } else {
                transfer.received as u64
            };
        }
    }
    let mut outcome = Outcome::default();
    for (id, transfer) in transfers.into_iter().enumerate() {
        match transfer.end.unwrap_or_else(|| Err(format!("{} of {} bytes in time", transfer.received, transfer.sent))) {
            Ok(()) => outcome.complete += 1,
            Err(reason) => outcome.lost.push(format!("transfer {id}: {reason}")),
        }
    }
    outcome
}

/// Which of those under way have something to read, after a short wait.
fn readable(epoll: &Epoll, transfers: &[Transfer]) -> Vec<usize> {
    let mut events = [EpollEvent::empty(); EVENTS];
    let count = epoll.wait(&mut events, EpollTimeout::from(5u8)).unwrap_or(0);
    let numbers = events[..count].iter().map(|event| event.data() as usize);
    numbers.filter(|&at| transfers[at].end.is_none()).collect()
}
