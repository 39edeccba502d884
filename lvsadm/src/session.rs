//! One invocation: an argument vector, what it reads and writes, and the director it may need.

use std::io::{self, Read, Write};

use crate::change;
use crate::grammar::{self, Command, Dialect, Failure, List, Mode};
use crate::names::Names;
use crate::render::{self, Connections, Labels, Listing, json};
use lvs_director::director::{self, Access, Director, Operation, Room, Wanted};
use lvs_director::rules::{self, ServiceEntry, ServiceKey, words};

/// Exit status of a usage error, and of a director that cannot be had.
const USAGE: u8 = 2;
/// Exit status of a change that was refused, and of an option popt refuses.
const REFUSED: u8 = 255;
/// Exit status of a listing that failed.
const LISTING: u8 = 1;

/// What ipvsadm adds when there is no IPVS.
const NO_IPVS: &str = "Are you sure that IP Virtual Server is built in the kernel or as module?";
/// What `ipvsadm-save` says to options it does not have.
const SAVE_USAGE: &str = "ipvsadm-save: Script to save the IPVS table to stdout.\n   \
                          With the -n option, prints out the table in numeric format.";

/// Gets the director, once, when it is needed: to read, or for changes, and with how much room.
pub type Open<'d> = Box<dyn FnOnce(Access, Room) -> director::Result<&'d mut dyn Director> + 'd>;

/// What an invocation reads, and where it gets things from.
pub struct Surroundings<'a, 'd> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// Names of hosts and ports.
    pub names: &'a mut dyn Names,
    /// The director.
    pub open: Open<'d>,
}

/// What an invocation came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status.
    pub status: u8,
    /// Everything for standard output.
    pub stdout: String,
    /// Everything for standard error.
    pub stderr: String,
}

impl Outcome {
    /// Writes what there is to write, each stream at once.
    pub fn write(&self, stdout: &mut dyn Write, stderr: &mut dyn Write) -> io::Result<()> {
        write(stderr, &self.stderr)?;
        write(stdout, &self.stdout)
    }
}

/// Writes a text. A reader that has gone away is no error.
fn write(stream: &mut dyn Write, text: &str) -> io::Result<()> {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Runs ipvsadm's grammar; `argv` begins with the program's name. By the names of ipvsadm's two scripts it does what they
/// do.
pub fn run(argv: &[&str], surroundings: Surroundings<'_, '_>) -> Outcome {
    let program = argv.first().copied().unwrap_or("lvsadm");
    let arguments = argv.get(1..).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or(program);
    let dialect = Dialect::of(name);
    let Surroundings { stdin, names, open } = surroundings;
    let mut session = Session {
        program: if name.starts_with("ipvsadm-") { "ipvsadm" } else { program },
        dialect,
        names,
        open: Some(open),
        director: None,
        grouping: false,
        room: Room::default(),
        outcome: Outcome::default(),
    };
    let result = match (name, arguments) {
        ("ipvsadm-save", []) => session.line(&["-S"], None),
        ("ipvsadm-save", ["-n"]) => session.line(&["-S", "-n"], None),
        ("ipvsadm-save", _) => session.misused(SAVE_USAGE),
        ("ipvsadm-restore", _) => session.replace(stdin),
        (_, []) => session.line(&["-L"], None),
        _ => session.line(arguments, Some(stdin)),
    };
    let (Ok(status) | Err(status)) = result;
    session.unlock();
    session.outcome.status = status;
    session.outcome
}

/// An exit status: `Ok` lets a restore go on with the next line, `Err` ends everything.
type Status = Result<u8, u8>;

/// An invocation while it runs.
struct Session<'a, 'd> {
    program: &'a str,
    dialect: Dialect,
    names: &'a mut dyn Names,
    open: Option<Open<'d>>,
    director: Option<&'d mut dyn Director>,
    grouping: bool,
    room: Room,
    outcome: Outcome,
}

impl<'d> Session<'_, 'd> {
    /// Gets the director if that was not done yet.
    fn open(&mut self, access: Access) -> Result<(), u8> {
        let Some(open) = self.open.take() else { return Ok(()) };
        match open(access, self.room) {
            Ok(director) => {
                self.director = Some(director);
                Ok(())
            }
            Err(error) => {
                self.complain(&match self.dialect {
                    Dialect::Literal => format!("Can't initialize ipvs: {error}\n{NO_IPVS}"),
                    Dialect::Own => format!("lvsadm: {error}"),
                });
                Err(USAGE)
            }
        }
    }

    /// The director, opened for changes if need be.
    fn director(&mut self) -> Result<&mut (dyn Director + 'd), u8> {
        self.open(Access::Change)?;
        // There is none only if opening it failed before, which has ended everything.
        self.director.as_deref_mut().ok_or(USAGE)
    }

    /// The director, opened to read if need be.
    fn reader(&mut self) -> Result<&(dyn Director + 'd), u8> {
        self.open(Access::Read)?;
        self.director.as_deref().ok_or(USAGE)
    }

    /// Says a sentence on standard error.
    fn complain(&mut self, sentence: &str) {
        self.outcome.stderr.push_str(sentence);
        self.outcome.stderr.push('\n');
    }

    /// Tells how to get help, and ends everything.
    fn try_help(&mut self) -> Status {
        let program = self.program;
        self.complain(&format!("Try `{program} -h' or '{program} --help' for more information."));
        Err(REFUSED)
    }

    /// Lets other commands go on, unless a group of changes is under way: names are resolved and text is written afterwards.
    fn unlock(&mut self) {
        if let Some(director) = &mut self.director
            && !self.grouping
        {
            director.unlock();
        }
    }

    /// Reads a command. Names are resolved here, before anything is locked.
    fn parse(&mut self, arguments: &[&str]) -> Result<Command, Failure> {
        grammar::parse(arguments, self.dialect, self.names)
    }

    /// Reads and executes one command. Without an input it cannot be a restore.
    fn line(&mut self, arguments: &[&str], stdin: Option<&mut dyn Read>) -> Status {
        let command = self.parse(arguments);
        match (&command, stdin) {
            (Ok(Command::Restore), Some(stdin)) => {
                let input = self.input(stdin)?;
                let commands = self.commands(&input, |_| true);
                self.restore(commands)
            }
            _ => self.carry_out(command),
        }
    }

    /// Executes a command, or says what is wrong with it.
    fn carry_out(&mut self, command: Result<Command, Failure>) -> Status {
        self.must_have_ipvs(command.as_ref().map_or(Access::Read, Command::access))?;
        match command {
            Ok(Command::Restore) => self.try_help(),
            Ok(command) => self.execute(command),
            Err(Failure::NoCommand) => self.try_help(),
            Err(Failure::Option(sentence)) => {
                self.complain(&sentence);
                Ok(REFUSED)
            }
            Err(Failure::Usage(sentence)) => {
                self.complain(&sentence);
                Err(USAGE)
            }
        }
    }

    /// ipvsadm wants the kernel before it looks at anything; lvsadm explains itself without.
    fn must_have_ipvs(&mut self, access: Access) -> Result<(), u8> {
        if self.dialect == Dialect::Literal { self.open(access) } else { Ok(()) }
    }

    /// A script's usage.
    fn misused(&mut self, usage: &str) -> Status {
        self.must_have_ipvs(Access::Read)?;
        self.complain(usage);
        Err(LISTING)
    }

    /// All of standard input. Whoever writes it may wait for another command, so it is read before anything is locked.
    fn input(&mut self, stdin: &mut dyn Read) -> Result<String, u8> {
        let mut input = Vec::new();
        if let Err(error) = stdin.read_to_end(&mut input) {
            self.complain(&format!("cannot read standard input: {error}"));
            return Err(USAGE);
        }
        Ok(String::from_utf8_lossy(&input).into_owned())
    }

    /// `ipvsadm-restore`: clears the table, and restores what standard input says.
    fn replace(&mut self, stdin: &mut dyn Read) -> Status {
        let input = self.input(stdin)?;
        let commands = self.commands(&input, |line| !line.starts_with('#'));
        self.line(&["-C"], None)?;
        self.restore(commands)
    }

    /// Reads the lines of an input that are `wanted`, and sees how much room they need.
    fn commands(&mut self, input: &str, wanted: fn(&str) -> bool) -> Vec<Result<Command, Failure>> {
        let lines = input.lines().filter(|line| wanted(line)).map(|line| words(line).collect::<Vec<_>>());
        let commands: Vec<_> = lines.filter(|words| !words.is_empty()).map(|words| self.parse(&words)).collect();
        let count = |wanted: fn(&Command) -> bool| commands.iter().flatten().filter(|c| wanted(c)).count() as u32;
        self.room = Room {
            services: count(|command| matches!(command, Command::AddService(_))),
            destinations: count(|command| matches!(command, Command::AddDestination(..))),
        };
        commands
    }

    /// Executes commands as one group. The status is the last one's.
    fn restore(&mut self, commands: Vec<Result<Command, Failure>>) -> Status {
        let begun = self.director()?.begin();
        if begun.is_err() {
            return self.changed(Operation::Restore, begun);
        }
        self.grouping = true;
        let result = commands.into_iter().try_fold(0, |_, command| self.carry_out(command));
        self.grouping = false;
        let committed = self.director()?.commit();
        if committed.is_err() { self.changed(Operation::Restore, committed) } else { result }
    }

    fn execute(&mut self, command: Command) -> Status {
        match command {
            Command::Help => {
                self.outcome.stdout.push_str(&grammar::help(self.program, self.dialect));
                Err(0)
            }
            Command::Version => {
                self.outcome.stdout.push_str(&grammar::version(self.dialect));
                Err(0)
            }
            Command::List { list, json: false } => self.list(list),
            Command::List { list, json: true } => self.list_json(list),
            Command::ListLocals { service, json } => self.locals(service, json),
            Command::Save { numeric } => self.save(numeric),
            change => match change::make(self.director()?, change) {
                Some((operation, result)) => self.changed(operation, result),
                // A restore from within a restore, which `line` has refused.
                None => self.try_help(),
            },
        }
    }

    /// Status of a change.
    fn changed(&mut self, operation: Operation, result: director::Result<()>) -> Status {
        match result {
            Ok(()) => Ok(0),
            Err(error) => {
                self.complain(&match self.dialect {
                    Dialect::Own => error.text_and_mend(operation),
                    Dialect::Literal => error.text(operation).into_owned(),
                });
                Ok(REFUSED)
            }
        }
    }

    /// What a listing asked for, or its end.
    fn listed<T>(&mut self, operation: Operation, result: director::Result<T>) -> Result<T, u8> {
        result.map_err(|error| {
            self.complain(&error.text(operation));
            LISTING
        })
    }

    fn list(&mut self, list: List) -> Status {
        let mut text = String::new();
        match list {
            List::Timeouts => {
                let timeouts = self.reader()?.timeouts();
                text = render::timeouts(&self.listed(Operation::Timeouts, timeouts)?);
            }
            List::Daemons => {
                let daemons = self.reader()?.daemons();
                text = render::daemons(&self.listed(Operation::Daemons, daemons)?);
            }
            List::Connections { numeric, engines } => {
                self.open(Access::Read)?;
                self.unlock();
                let Session { director: Some(director), names, dialect, .. } = self else { return Err(USAGE) };
                let labels = Labels::new(*dialect, *names, numeric);
                let mut listing = Connections { labels, engines };
                text = listing.titles();
                let result = director.connections(&mut |row| listing.row(&mut text, row));
                self.listed(Operation::Connections, result)?;
            }
            List::Services { service, mode, numeric, exact, sorted, .. } => {
                let wanted =
                    Wanted { destinations: true, statistics: mode == Mode::Statistics, rates: mode == Mode::Rates };
                let entries = match &service {
                    Some(key) => self.service(key, wanted, sorted)?,
                    None => {
                        let size = self.reader()?.table_size();
                        text = rules::header(self.listed(Operation::GetService, size)?);
                        self.unlock();
                        self.services(wanted, sorted)?
                    }
                };
                self.unlock();
                let labels = Labels::new(self.dialect, self.names, numeric);
                let mut listing = Listing { labels, mode, exact };
                text.push_str(listing.titles());
                entries.iter().for_each(|entry| listing.entry(&mut text, entry));
            }
        }
        self.outcome.stdout.push_str(&text);
        Ok(0)
    }

    /// The same for programs: all there is to tell of what is listed, in numbers.
    fn list_json(&mut self, list: List) -> Status {
        let json = match list {
            List::Timeouts => {
                let timeouts = self.reader()?.timeouts();
                json::timeouts(&self.listed(Operation::Timeouts, timeouts)?)
            }
            List::Daemons => {
                let daemons = self.reader()?.daemons();
                json::daemons(&self.listed(Operation::Daemons, daemons)?)
            }
            List::Connections { .. } => {
                let mut rows = json::Rows::default();
                self.open(Access::Read)?;
                self.unlock();
                let result = self.reader()?.connections(&mut |row| rows.push(row));
                self.listed(Operation::Connections, result)?;
                rows.finish()
            }
            List::Services { service, statistics, rates, sorted, .. } => {
                let wanted = Wanted { destinations: true, statistics, rates };
                let entries = match &service {
                    Some(key) => self.service(key, wanted, sorted)?,
                    None => {
                        self.open(Access::Read)?;
                        self.unlock();
                        self.services(wanted, sorted)?
                    }
                };
                json::services(&entries, wanted)
            }
        };
        self.outcome.stdout.push_str(&json);
        Ok(0)
    }

    /// Pools of local addresses: one service's, or all there are.
    fn locals(&mut self, service: Option<ServiceKey>, json: bool) -> Status {
        let mut pools = Vec::new();
        let keys = match service {
            Some(_) => vec![service],
            None => {
                let entries = self.services(Wanted::default(), true)?;
                std::iter::once(None).chain(entries.into_iter().map(|entry| Some(entry.service.key))).collect()
            }
        };
        for key in keys {
            let addresses = self.reader()?.locals(key.as_ref());
            let addresses = self.listed(Operation::ListLocals, addresses)?;
            if service.is_some() || !addresses.is_empty() {
                pools.push((key, addresses));
            }
        }
        self.unlock();
        let text = if json { json::locals(&pools) } else { render::locals(&mut Labels::numeric(self.dialect), &pools) };
        self.outcome.stdout.push_str(&text);
        Ok(0)
    }

    fn save(&mut self, numeric: bool) -> Status {
        self.open(Access::Read)?;
        self.unlock();
        let entries = self.services(Wanted { destinations: true, ..Wanted::default() }, true)?;
        let mut labels = Labels::new(self.dialect, self.names, numeric);
        entries.iter().for_each(|entry| render::save(&mut self.outcome.stdout, &mut labels, entry));
        Ok(0)
    }

    /// All services, in the kernel's order or ipvsadm's.
    fn services(&mut self, wanted: Wanted, sorted: bool) -> Result<Vec<ServiceEntry>, u8> {
        let entries = self.reader()?.services(wanted);
        let mut entries = self.listed(Operation::GetService, entries)?;
        rules::hash_order(&mut entries);
        Ok(if sorted { render::sorted(entries) } else { entries })
    }

    /// One service.
    fn service(&mut self, key: &ServiceKey, wanted: Wanted, sorted: bool) -> Result<Vec<ServiceEntry>, u8> {
        let entry = self.reader()?.service(key, wanted);
        let entries = vec![self.listed(Operation::GetService, entry)?];
        Ok(if sorted { render::sorted(entries) } else { entries })
    }
}
