//! Which options a command requires, allows and excludes: the matrix, as the flags declare it.

use std::sync::LazyLock;

use super::cmd::Cmd;
use super::command::Failure;
use super::flags::{Flag, Opt, flags};
use super::rule::{self, Rule};

/// The options in the order of checks. A command line with several mistakes shows the first of this order.
static OPTIONS: LazyLock<Vec<Opt>> = LazyLock::new(|| {
    let mut options: Vec<Opt> = flags().filter_map(|flag| flag.option).collect();
    options.sort_by_key(|option| option.order);
    options.dedup_by_key(|option| option.name);
    options
});

impl Opt {
    /// The rule of a command about the option.
    fn rule(&self, command: Cmd) -> Option<Rule> {
        self.commands.iter().find(|rule| rule.0 == command).map(|rule| rule.1)
    }
}

/// The options of a command line.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<&'static str>);

impl Given {
    /// Adds a flag's option, which may be given once.
    pub fn add(&mut self, flag: &Flag) -> Result<(), Failure> {
        let Some(option) = flag.option else { return Ok(()) };
        if self.0.contains(&option.name) {
            return Failure::usage(format!("multiple '{}' options specified", option.name));
        }
        self.0.push(option.name);
        Ok(())
    }

    /// Checks them against the command.
    pub fn check(&self, command: Cmd) -> Result<(), Failure> {
        let options = OPTIONS.iter().map(|option| (option.name, option.rule(command), self.0.contains(&option.name)));
        rule::check(options, command.name(), "command")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of [`IPVSADM`].
    const COLUMNS: [Cmd; 17] = [
        Cmd::AddService,
        Cmd::EditService,
        Cmd::DeleteService,
        Cmd::Flush,
        Cmd::List,
        Cmd::AddServer,
        Cmd::DeleteServer,
        Cmd::EditServer,
        Cmd::Set,
        Cmd::StartDaemon,
        Cmd::StopDaemon,
        Cmd::Restore,
        Cmd::Save,
        Cmd::Zero,
        Cmd::AddLocal,
        Cmd::DeleteLocal,
        Cmd::ListLocals,
    ];

    /// ipvsadm's own options in the order of its checks, and what each command does with them: it requires (`+`),
    /// takes (`o`), takes one of several (`1`) or refuses (`.`) the option.
    #[rustfmt::skip]
    const IPVSADM: [(&str, &[u8; 17]); 34] = [
        //                      AEDCLadeSssRSZPQG
        ("numeric",           b"....o.......o...o"),
        ("connection",        b"....1............"),
        ("service-address",   b"+++.1+++.....oooo"),
        ("scheduler",         b"oo..............."),
        ("persistent",        b"oo..............."),
        ("netmask",           b"oo..............."),
        ("real-server",       b".....+++........."),
        ("forwarding-method", b".....o.o........."),
        ("weight",            b".....o.o........."),
        ("u-threshold",       b".....o.o........."),
        ("l-threshold",       b".....o.o........."),
        ("mcast-interface",   b".........o......."),
        ("timeout",           b"....1............"),
        ("daemon",            b"....1............"),
        ("stats",             b"....o............"),
        ("rate",              b"....o............"),
        ("thresholds",        b"....o............"),
        ("persistent-conn",   b"....o............"),
        ("nosort",            b"....o............"),
        ("syncid",            b"....o....oo......"),
        ("exact",             b"....o............"),
        ("ops",               b"oo..............."),
        ("pe",                b"oo..............."),
        ("sched-flags",       b"oo..............."),
        ("mcast-group",       b".........o......."),
        ("mcast-port",        b".........o......."),
        ("mcast-ttl",         b".........o......."),
        ("sync-maxlen",       b".........o......."),
        ("tun-info",          b"....o............"),
        ("tun-type",          b".....o.o........."),
        ("tun-port",          b".....o.o........."),
        ("tun-nocsum",        b".....o.o........."),
        ("tun-csum",          b".....o.o........."),
        ("tun-remcsum",       b".....o.o........."),
    ];

    #[test]
    fn ipvsadms_options_are_checked_as_ipvsadm_does() {
        for (option, (name, rules)) in OPTIONS.iter().zip(IPVSADM) {
            let declared = COLUMNS.map(|command| match option.rule(command) {
                Some(Rule::Required) => b'+',
                Some(Rule::Optional) => b'o',
                Some(Rule::Exclusive) => b'1',
                None => b'.',
            });
            assert_eq!((option.name, &declared), (name, rules));
        }
    }
}
