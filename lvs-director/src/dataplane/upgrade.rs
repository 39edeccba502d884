//! Another generation takes the place of this network namespace's data plane, which may be of another build.

use super::bpffs;
use super::daemons::Running;
use super::director::PlaneDirector;
use super::error::Result;
use super::generation::{self, Change, Outcome};
use super::layout;
use super::namespace;
use super::plane::Plane;
use crate::director::{Access, Director};
use crate::rules::Role;

/// Makes a change while packets flow; `None` if nothing is loaded. A data plane whose maps another build laid out becomes this build's, if
/// its programs are to be replaced.
pub fn change(change: Change, verifier_log: bool) -> Result<Option<Outcome>> {
    let directory = bpffs::open(Access::Change)?;
    let is_foreign = |path: &std::path::Path| path.exists() && !layout::is_own(path);
    if change == Change::Programs && is_foreign(&directory.path()) {
        generation::settle(&directory)?;
        // A change that was finished just now may have made it this build's.
        if is_foreign(&directory.path()) {
            let mut running = Vec::new();
            for role in Role::ALL {
                running.extend(Running::is_under_way(role)?.then_some(role));
            }
            let mut outcome = generation::change(&directory, change, verifier_log)?;
            drop(directory);
            outcome.left.extend(go_on(&running)?);
            return Ok(Some(outcome));
        }
    }
    match Plane::open(directory)? {
        Ok(plane) => generation::change(&plane.directory, change, verifier_log).map(Some),
        Err(_) => Ok(None),
    }
}

/// Narrows the watch filter, and starts daemons of connection synchronisation again, by this build: those of the other one do not know
/// these maps. Those that do not start, a line each.
fn go_on(roles: &[Role]) -> Result<Vec<String>> {
    let Some(mut plane) = namespace::open(Access::Change)? else { return Ok(Vec::new()) };
    plane.prune_watch();
    let noted: Vec<_> = roles.iter().filter_map(|role| plane.noted_daemon(*role)).collect();
    let mut director = PlaneDirector::new(plane);
    // They may have ended by themselves.
    noted.iter().for_each(|daemon| drop(director.stop_daemon(daemon.role)));
    let mut left = Vec::new();
    for daemon in noted {
        if let Err(error) = director.start_daemon(&daemon) {
            left.push(format!("the {} sync daemon, which does not start: {error}", daemon.role.name()));
        }
    }
    Ok(left)
}
