//! The program `Pick`: the service's scheduler picks a destination.

use lvs_common::{abi::Settings, exit::Exit, programs::Program, sched};

use crate::{
    config::{self, service::ServiceRef},
    exits,
    kernel::random,
    packet::access::Packet,
    programs::jump,
    select::{
        destinations::{List, Memory, Slots},
        request,
    },
    values::request::Request,
};

/// What came of a pick.
enum Picked {
    /// The request has its destination, or there is none.
    Done,
    /// Another CPU's pick changed the scheduler's state in between.
    LostRace,
}

/// Picks, and goes on with the program that opens the connection.
#[inline(always)]
pub fn run<P: Packet>(packet: P) -> i32 {
    let Some(settings) = config::settings() else { return P::PASS };
    let picked = request::lend(
        #[inline(always)]
        |r| (pick(packet, r, settings), r.v6 == 0),
    );
    match picked {
        Some((Picked::Done, true)) => jump::<u32, _>(packet, Program::Open),
        Some((Picked::Done, false)) => jump::<[u32; 4], _>(packet, Program::Open),
        Some((Picked::LostRace, _)) => {
            // Once more, as often as the kernel allows tail calls.
            packet.tail_call(Program::Pick.slot(true));
            exits::drop(packet, Exit::DropBusy)
        }
        None => P::PASS,
    }
}

#[inline(always)]
fn pick<P: Packet>(packet: P, r: &mut Request, settings: &Settings) -> Picked {
    let Some(service) = ServiceRef::get(r.service, r.epoch) else { return Picked::Done };
    let (config, word) = (service.config(), service.scheduler_state());
    if sched::is_random(config.scheduler) {
        r.key.random = [random::word(), random::word()];
    }
    let list = List {
        head: config.head,
        count: config.dest_count,
        service: service.id,
        epoch: r.epoch,
        roster: config.roster,
    };
    let lifetime = sched::memory(config.scheduler, &settings.sysctls);
    let memory = Memory { service: service.id, lifetime: lifetime as u64 };
    let state = word.load();
    let pick = sched::pick(&list, Slots(config.table), &memory, config, &r.key, state);
    // In XDP a pick that finds nobody leaves the scheduler's state alone: TC asks again.
    if pick.dest.is_none() && packet.in_tc().is_err() {
        return Picked::Done;
    }
    if pick.state != state && word.compare_exchange(state, pick.state).is_err() {
        return Picked::LostRace;
    }
    r.dest = pick.dest;
    Picked::Done
}
