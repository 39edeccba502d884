//! Flags of listings.

use crate::grammar::cmd::Cmd;
use crate::grammar::draft::Shown;
use crate::grammar::flag::{Act, Flag, Section};
use crate::grammar::rule::Rule::{self, Exclusive, Optional};

/// A flag that `-L` takes.
const LIST: &[(Cmd, Rule)] = &[(Cmd::List, Optional)];
/// A flag that `-L` takes alone of its like.
const ALONE: &[(Cmd, Rule)] = &[(Cmd::List, Exclusive)];

/// A flag that sets one of the draft's switches for listings.
macro_rules! shows {
    ($flag:expr, $switch:ident) => {
        Flag {
            act: Act::Take(|draft, _| {
                draft.list = Shown { $switch: true, ..draft.list };
                Ok(())
            }),
            ..$flag
        }
    };
}

/// `-L`'s flags.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    shows!(Flag::new("connection", "c", &["output of current IPVS connections"]).option(1, ALONE), connections),
    shows!(Flag::new("timeout", "", &["output of timeout (tcp tcpfin udp)"]).option(12, ALONE), timeouts),
    shows!(Flag::new("daemon", "", &["output of daemon information"]).option(13, ALONE), daemons),
    shows!(Flag::new("stats", "", &["output of statistics information"]).option(14, LIST), statistics),
    shows!(Flag::new("rate", "", &["output of rate information"]).option(15, LIST), rates),
    shows!(Flag::new("exact", "", &["expand numbers (display exact values)"]).option(20, LIST), exact),
    // ipvsadm's help does not show the short name.
    shows!(Flag::new("exact", "X", &[]).option(20, LIST).within(Section::Hidden), exact),
    shows!(Flag::new("thresholds", "", &["output of thresholds information"]).option(16, LIST), thresholds),
    shows!(Flag::new("persistent-conn", "", &["output of persistent connection info"]).option(17, LIST), persistent),
    shows!(Flag::new("tun-info", "", &["output of tunnel information"]).option(28, LIST), tunnels),
    shows!(Flag::new("nosort", "", &["disable sorting output of service/server entries"]).option(18, LIST), unsorted),
    Flag::new("sort", "", &["does nothing, for backwards compatibility"]),
];
