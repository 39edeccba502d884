//! Recorded listings and those of now.

/// What a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Connections, in any order, with timers.
    Connections,
    /// Counters. Those recorded soon after the traffic may be too low: the kernel adds them up every two seconds.
    Statistics {
        /// Whether they were recorded after a pause.
        exact: bool,
    },
    /// Rates, which depend on the moment they are asked for.
    Rates,
    /// Anything else, or nothing.
    Plain,
}

impl Listing {
    /// What a command with these arguments shows; `exact` of statistics as recorded.
    pub fn of(arguments: &str, exact: bool) -> Self {
        let words = || arguments.split(' ');
        let short: String = words().filter(|word| word.starts_with('-') && !word.starts_with("--")).collect();
        if short.contains('c') && short.contains(['L', 'l']) {
            Listing::Connections
        } else if words().any(|word| word == "--stats") {
            Listing::Statistics { exact }
        } else if words().any(|word| word == "--rate") {
            Listing::Rates
        } else {
            Listing::Plain
        }
    }

    /// Whether two listings say the same. `elapsed`: seconds since the traffic began; `timeouts`: those of connections.
    pub fn same(self, recorded: &str, got: &str, elapsed: u64, timeouts: &[u64]) -> bool {
        match self {
            Listing::Plain | Listing::Statistics { exact: true } => recorded == got,
            Listing::Rates => Table::of(recorded).layout == Table::of(got).layout,
            Listing::Statistics { exact: false } => {
                let (recorded, got) = (Table::of(recorded), Table::of(got));
                let enough = recorded.numbers.iter().zip(&got.numbers).all(|(recorded, got)| recorded <= got);
                recorded.layout == got.layout && enough
            }
            Listing::Connections => same_connections(recorded, got, elapsed, timeouts),
        }
    }
}

/// A listing's text with its right-aligned numbers taken out.
struct Table {
    /// Every word with where it ends in its line; of a number only that.
    layout: Vec<(usize, String)>,
    numbers: Vec<u64>,
}

impl Table {
    fn of(text: &str) -> Self {
        let mut table = Table { layout: Vec::new(), numbers: Vec::new() };
        for line in text.lines() {
            let mut end = 0;
            for word in line.split(' ') {
                end += word.len() + 1;
                match number(word) {
                    Some(number) => {
                        table.numbers.push(number);
                        table.layout.push((end, String::new()));
                    }
                    None if word.is_empty() => {}
                    None => table.layout.push((end, word.to_owned())),
                }
            }
        }
        table
    }
}

/// The value of a counter: digits, and perhaps a unit.
fn number(word: &str) -> Option<u64> {
    let (digits, unit) = match word.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => word.split_at(at),
        None => (word, ""),
    };
    let power = ["", "K", "M", "G", "T"].iter().position(|known| *known == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(1000u64.pow(power as u32))
}

/// A connection: its line without the timer, and the seconds the timer shows.
type Connection = (String, u64);

/// The heading, and the connections in an order of their own.
fn connections(text: &str) -> (Vec<&str>, Vec<Connection>) {
    let (mut heading, mut connections) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match connection(line) {
            Some(connection) => connections.push(connection),
            None => heading.push(line),
        }
    }
    connections.sort();
    (heading, connections)
}

/// `TCP 01:59  FIN_WAIT    10.1.0.100:40000   …`
fn connection(line: &str) -> Option<Connection> {
    let (protocol, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let (timer, after) = rest.split_once(' ')?;
    let (minutes, seconds) = timer.split_once(':')?;
    let expires = minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?;
    let before = line.len() - rest.len();
    Some((format!("{protocol}|{before}|{}|{after}", timer.len()), expires))
}

/// The same connections in any order. The recording and this run do not go at the same speed: timers are the same if they
/// are two seconds apart at most, or both below the same timeout by no more than the run has taken so far (now) or a
/// recording may have taken (then).
fn same_connections(recorded: &str, got: &str, elapsed: u64, timeouts: &[u64]) -> bool {
    /// The longest scenario took so many seconds.
    const RECORDING: u64 = 40;
    let ((heading, recorded), (heading_now, got)) = (connections(recorded), connections(got));
    let lines = |connections: &[Connection]| connections.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>();
    let timers = recorded.iter().zip(&got).all(|((_, then), (_, now))| {
        let full = timeouts.iter().copied().filter(|timeout| timeout >= then).min().unwrap_or(0);
        let lag = then + RECORDING >= full && (full.saturating_sub(elapsed + 2)..=full).contains(now);
        then.abs_diff(*now) <= 2 || lag
    });
    heading == heading_now && lines(&recorded) == lines(&got) && timers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_tell_what_is_listed() {
        let of = |arguments| Listing::of(arguments, false);
        assert_eq!(of("-Lcn"), Listing::Connections);
        assert_eq!(of("-L -c -n --persistent-conn"), Listing::Connections);
        assert_eq!(of("-L -n --stats --exact"), Listing::Statistics { exact: false });
        assert_eq!(of("-Ln --rate"), Listing::Rates);
        assert_eq!(of("-L -n --persistent-conn"), Listing::Plain);
        assert_eq!(of("-C"), Listing::Plain);
    }

    #[test]
    fn counters_may_have_been_read_too_early() {
        let early = "TCP  192.0.2.10:80                  3        9        0      720        0\n";
        let now = "TCP  192.0.2.10:80                  3       10        0      800        0\n";
        let same = |listing: Listing, recorded, got| listing.same(recorded, got, 0, &[]);
        assert!(same(Listing::Statistics { exact: false }, early, now));
        assert!(!same(Listing::Statistics { exact: false }, now, early));
        assert!(!same(Listing::Statistics { exact: true }, early, now));
        assert!(same(Listing::Rates, now, early));
        let moved = "TCP  192.0.2.10:80                  3        9         0      720        0\n";
        assert!(!same(Listing::Rates, early, moved), "a column has moved");
        assert_eq!(number("12K"), Some(12_000));
        assert_eq!(number("K"), None);
    }

    #[test]
    fn connections_are_a_set_and_timers_run() {
        let line =
            |port, timer| format!("TCP {timer}  SYN_RECV    10.1.0.100:{port}   192.0.2.10:80      10.2.0.11:80\n");
        let text = |lines: [String; 2]| format!("IPVS connection entries\n{}", lines.concat());
        let recorded = text([line(40000, "00:59"), line(40001, "00:42")]);
        let same = |got: &str, elapsed| Listing::Connections.same(&recorded, got, elapsed, &[60, 120]);
        assert!(same(&text([line(40001, "00:60"), line(40000, "00:58")]), 0), "in another order, and faster");
        assert!(!same(&text([line(40000, "00:50"), line(40001, "00:42")]), 0));
        assert!(same(&text([line(40000, "00:50"), line(40001, "00:42")]), 9));
        assert!(!same(&text([line(40000, "01:59"), line(40001, "00:42")]), 0), "another timeout");
        assert!(!same(&text([line(40000, "00:59"), line(40002, "00:42")]), 0));
    }
}
