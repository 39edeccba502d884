//! What the endpoint tells, each as a text.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow, bail};
use hyper::body::Bytes;
use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{self, Access, Director, Wanted};
use lvs_director::rules::AccessKind;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::query::Query;
use super::shared::Shared;
use crate::commands::{access, mark, status};
use crate::firewall::{self, Chain};
use crate::names::SystemNames;
use crate::render::json;
use crate::session::{self, Surroundings};
use crate::snapshot::{Key, Snapshot, select};

/// Most rows of the connection table in one answer. The header `X-Total-Count` has the number of all.
const ROWS: usize = 100_000;
/// How old the firewall's chains may be: programs are run to ask for them.
const FIREWALL: Duration = Duration::from_secs(60);
/// How many answers are made at a time that are not shared.
const MAKERS: usize = 2;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Services with statistics and rates.
    Services(Query),
    /// `lvsadm status`
    Status,
    /// One of [`LISTINGS`].
    Listing(usize),
}

/// A text that is sent.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text.
    pub body: Bytes,
    /// When it was true.
    pub taken: SystemTime,
    /// How many items there are, where the text may have fewer.
    pub total: Option<usize>,
}

impl Text {
    fn now(text: String) -> Self {
        Text { body: text.into(), taken: SystemTime::now(), total: None }
    }
}

/// How a text is made.
type Make = fn() -> Result<Text>;

/// Listings that are made as the command with `--json` makes them: their names below `/api/`.
pub const LISTINGS: [(&str, Make); 7] = [
    ("timeouts", || listing(&["-L", "--timeout"])),
    ("daemons", || listing(&["-L", "--daemon"])),
    ("pools", || listing(&["--get-laddr"])),
    ("marks", || mark::json().map(Text::now)),
    ("block", || access::json(AccessKind::Block).map(Text::now)),
    ("allow", || access::json(AccessKind::Allow).map(Text::now)),
    ("connections", connections),
];

/// The firewall's chains, and when they were asked for.
type Found = Option<(Instant, Vec<Chain>)>;

/// All views, and what they share.
#[derive(Default)]
pub struct Views {
    snapshot: Shared<Snapshot>,
    status: Shared<Text>,
    firewall: Arc<Mutex<Found>>,
    listings: [Shared<Text>; LISTINGS.len()],
    makers: Makers,
}

/// See [`MAKERS`].
struct Makers(Semaphore);

impl Default for Makers {
    fn default() -> Self {
        Makers(Semaphore::new(MAKERS))
    }
}

impl Views {
    /// What is told of the services and of all else that is counted. The error is a sentence.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        self.snapshot.get(Snapshot::take).await
    }

    /// A view's text. The error is a sentence.
    pub async fn text(&self, view: View) -> Result<Text, String> {
        match view {
            View::Services(query) => {
                let snapshot = self.snapshot().await?;
                let _place = self.makers.0.acquire().await;
                spawn_blocking(move || services(&snapshot, &query)).await.map_err(|error| error.to_string())
            }
            View::Status => {
                let firewall = self.firewall.clone();
                let make = move || status::json(|services| known(&firewall, || firewall::chains(services)));
                self.status.get(move || make().map(Text::now)).await.map(|text| (*text).clone())
            }
            View::Listing(number) => match (self.listings.get(number), LISTINGS.get(number)) {
                (Some(shared), Some((_, make))) => shared.get(*make).await.map(|text| (*text).clone()),
                _ => Err("there is no such listing".to_owned()),
            },
        }
    }

    /// Lets go of everything that is too old to be given out.
    pub async fn forget(&self) {
        self.snapshot.forget().await;
        for text in self.listings.iter().chain([&self.status]) {
            text.forget().await;
        }
    }
}

/// The chains that were found last, if that is not long ago; else those that `find` finds.
fn known(last: &Mutex<Found>, find: impl FnOnce() -> Vec<Chain>) -> Vec<Chain> {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((at, chains)) if at.elapsed() < FIREWALL => chains.clone(),
        _ => last.insert((Instant::now(), find())).1.clone(),
    }
}

/// The services that a query asks for.
fn services(snapshot: &Snapshot, query: &Query) -> Text {
    let key = |entry: &lvs_director::rules::ServiceEntry| {
        let rates = &entry.rates;
        Key {
            conns: rates.conns as f64,
            packets: (rates.in_packets + rates.out_packets) as f64,
            bytes: (rates.in_bytes + rates.out_bytes) as f64,
        }
    };
    let found = select(&snapshot.services, &query.filter, query.order, key);
    let shown = found.iter().take(query.limit.unwrap_or(usize::MAX)).filter_map(|at| snapshot.services.get(*at));
    let text = json::services(shown, Wanted { destinations: true, statistics: true, rates: true });
    Text { body: text.into(), taken: snapshot.taken, total: Some(found.len()) }
}

/// A listing of ipvsadm's grammar.
fn listing(words: &[&str]) -> Result<Text> {
    let argv = [&["lvsadm"], words, &["--json"]].concat();
    let mut slot = None;
    let director = &mut slot;
    let open: session::Open<'_> = Box::new(move |access, _| match dataplane::open(access)? {
        Some(plane) => Ok(director.insert(PlaneDirector::new(plane))),
        None => Err(director::Error::NoService),
    });
    let (mut stdin, mut names) = (std::io::empty(), SystemNames::default());
    let outcome = session::run(&argv, Surroundings { stdin: &mut stdin, names: &mut names, open });
    if outcome.status != 0 {
        bail!("{}", outcome.stderr.trim().trim_start_matches("lvsadm: "));
    }
    Ok(Text::now(outcome.stdout))
}

/// The connection table, as far as there is room for it in an answer.
fn connections() -> Result<Text> {
    let Some(plane) = dataplane::open(Access::Read)? else {
        return Err(anyhow!("nothing is loaded in this network namespace"));
    };
    let mut director = PlaneDirector::new(plane);
    director.unlock();
    let (mut rows, mut total) = (json::Rows::default(), 0);
    director.connections(&mut |row| {
        total += 1;
        if total <= ROWS {
            rows.push(row);
        }
    })?;
    Ok(Text { total: Some(total), ..Text::now(rows.finish()) })
}
