//! Which table is shown.

use super::exits::Exits;
use super::floods::Floods;
use super::service::Service;
use super::services::Services;
use super::table::Table;
use crate::grammar::subcommands::Page;
use crate::top::state::State;

/// The table of the page that is shown.
pub fn table(state: &State) -> Box<dyn Table + '_> {
    match state.page {
        Page::Services => Box::new(Services(state)),
        Page::Service => Box::new(Service(state)),
        Page::Exits => Box::new(Exits::new(state)),
        Page::Floods => Box::new(Floods::new(state)),
    }
}
