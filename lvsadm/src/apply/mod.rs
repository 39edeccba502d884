//! `lvsadm apply`: from what is configured to what a file wants, all of it or nothing.
//!
//! [`file`] reads and checks; [`difference`](lvs_director::rules::difference) says what has to be done; [`carry_out`] does it so
//! that packets see all of it at once.

pub mod devices;
pub mod error;
pub mod file;

use std::collections::HashSet;
use std::collections::btree_map::{BTreeMap, Entry};

use lvs_director::dataplane;
use lvs_director::director::{Director, Error, Operation, Result};
use lvs_director::rules::{
    AccessChange, AccessKind, AccessList, AccessRule, Attached, Change, MarkChange, Rule, RuleKey, SYSCTLS, ServiceKey,
};

/// Why changes were not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule that is to blame, if one is.
    pub rule: Option<RuleKey>,
    /// What is wrong.
    pub sentence: String,
}

/// Attaches a device of a director that has some, or detaches it.
pub type Attach<'a, D> = &'a mut dyn FnMut(&mut D, &str, Option<Attached>) -> dataplane::Result<()>;

/// Carries changes out. Services, destinations and marks become visible to packets at once; devices are attached before that, and
/// detached after it, so that none is missing for the rules that are in force.
pub fn carry_out<D: Director>(
    director: &mut D,
    changes: &[Change],
    attach: Attach<'_, D>,
) -> std::result::Result<(), Refused> {
    let failed = |operation: Operation, rule: Option<RuleKey>| {
        move |error: Error| Refused { rule, sentence: error.text_and_mend(operation) }
    };
    director.begin().map_err(failed(Operation::Restore, None))?;
    let staged = stage(director, changes)
        .and_then(|()| stage_marks(director, changes))
        .and_then(|()| stage_access(director, changes));
    let result = staged.and_then(|()| attach_all(director, changes, attach));
    if let Err(refused) = result {
        director.abort().map_err(failed(Operation::Restore, None))?;
        return Err(refused);
    }
    if let Err(error) = director.commit() {
        take_back(director, changes, attach);
        return Err(failed(Operation::Restore, None)(error));
    }
    settle(director, changes).map_err(failed(Operation::Timeouts, None))?;
    for change in changes {
        if let Change::Delete(Rule::Device(name, _)) = change {
            attach(director, name, None).map_err(|error| Refused { rule: None, sentence: error.line() })?;
        }
    }
    Ok(())
}

/// Stages the changes of services and destinations.
fn stage(director: &mut dyn Director, changes: &[Change]) -> std::result::Result<(), Refused> {
    // They take their destinations with them.
    let doomed: HashSet<ServiceKey> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Delete(Rule::Service(service)) => Some(service.key),
            _ => None,
        })
        .collect();
    for change in changes {
        let (rule, (operation, result)) = match change {
            Change::Delete(rule @ Rule::Service(service)) => {
                (rule, (Operation::DeleteService, director.delete_service(&service.key)))
            }
            Change::Delete(Rule::Destination(service, _) | Rule::Locals(Some(service), _))
                if doomed.contains(service) =>
            {
                continue;
            }
            Change::Delete(rule @ Rule::Destination(service, destination)) => {
                let result = director.delete_destination(service, &destination.key);
                (rule, (Operation::DeleteDestination, result))
            }
            Change::Delete(rule @ Rule::Locals(service, _)) => {
                (rule, (Operation::DeleteLocal, director.set_locals(service.as_ref(), &[])))
            }
            Change::Add(rule @ Rule::Locals(service, addresses))
            | Change::Edit { to: rule @ Rule::Locals(service, addresses), .. } => {
                (rule, (Operation::AddLocal, director.set_locals(service.as_ref(), addresses)))
            }
            Change::Add(rule @ Rule::Service(service)) => {
                (rule, (Operation::AddService, director.add_service(service)))
            }
            Change::Add(rule @ Rule::Destination(service, destination)) => {
                (rule, (Operation::AddDestination, director.add_destination(service, destination)))
            }
            Change::Edit { to: rule @ Rule::Service(service), .. } => {
                (rule, (Operation::EditService, director.edit_service(service)))
            }
            Change::Edit { to: rule @ Rule::Destination(service, destination), .. } => {
                (rule, (Operation::EditDestination, director.edit_destination(service, destination)))
            }
            _ => continue,
        };
        result.map_err(|error| Refused { rule: Some(rule.key()), sentence: error.text_and_mend(operation) })?;
    }
    Ok(())
}

/// Stages the changes of marks, which are one list.
fn stage_marks(director: &mut dyn Director, changes: &[Change]) -> std::result::Result<(), Refused> {
    let (mut steps, mut last) = (Vec::new(), None);
    for change in changes {
        match change {
            Change::Delete(Rule::Mark(mark)) => steps.push(MarkChange::Delete(mark.traffic)),
            Change::Add(rule @ Rule::Mark(mark)) | Change::Edit { to: rule @ Rule::Mark(mark), .. } => {
                steps.push(MarkChange::Add(*mark));
                last = Some(rule.key());
            }
            _ => {}
        }
    }
    if steps.is_empty() {
        return Ok(());
    }
    let staged = director.marks().and_then(|mut marks| {
        steps.iter().for_each(|step| step.apply(&mut marks));
        director.set_marks(&marks)
    });
    staged.map_err(|error| Refused { rule: last, sentence: error.text_and_mend(Operation::Restore) })
}

/// Stages the changes of lists of clients, each of which is written as a whole.
fn stage_access(director: &mut dyn Director, changes: &[Change]) -> std::result::Result<(), Refused> {
    let mut lists: BTreeMap<(AccessKind, Option<ServiceKey>), (AccessList, RuleKey)> = BTreeMap::new();
    for change in changes {
        let (Change::Delete(rule) | Change::Add(rule) | Change::Edit { to: rule, .. }) = change;
        let Rule::Access(kind, service, client) = rule else { continue };
        let failed =
            |error: Error| Refused { rule: Some(rule.key()), sentence: error.text_and_mend(Operation::GetService) };
        let list = match lists.entry((*kind, *service)) {
            Entry::Occupied(list) => list.into_mut(),
            Entry::Vacant(list) => match director.access(*kind, service.as_ref()) {
                Ok(entries) => {
                    let entries = entries.iter().map(|entry| (entry.rule.prefix, entry.rule.seconds));
                    list.insert((entries.collect(), rule.key()))
                }
                // It is gone with its service.
                Err(Error::NoService) if matches!(change, Change::Delete(_)) => continue,
                Err(error) => return Err(failed(error)),
            },
        };
        match change {
            Change::Delete(_) => list.0.remove(&client.prefix),
            _ => list.0.insert(client.prefix, client.seconds),
        };
    }
    for ((kind, service), (list, key)) in lists {
        let rules = list.into_iter().map(|(prefix, seconds)| AccessRule { prefix, seconds }).collect();
        director
            .edit_access(kind, service.as_ref(), &AccessChange::Replace(rules))
            .map_err(|error| Refused { rule: Some(key), sentence: error.text_and_mend(Operation::GetService) })?;
    }
    Ok(())
}

/// Attaches devices. If one cannot be, those before it are as they were.
fn attach_all<D>(director: &mut D, changes: &[Change], attach: Attach<'_, D>) -> std::result::Result<(), Refused> {
    for (at, change) in changes.iter().enumerate() {
        let (Change::Add(rule) | Change::Edit { to: rule, .. }) = change else { continue };
        let Rule::Device(name, attached) = rule else { continue };
        if let Err(error) = attach(director, name, Some(*attached)) {
            take_back(director, &changes[..at], attach);
            return Err(Refused { rule: Some(rule.key()), sentence: error.line() });
        }
    }
    Ok(())
}

/// Makes attached devices what they were.
fn take_back<D>(director: &mut D, changes: &[Change], attach: Attach<'_, D>) {
    for change in changes.iter().rev() {
        // It was so before; if it cannot be so again, the error that led here says more.
        let _ = match change {
            Change::Add(Rule::Device(name, _)) => attach(director, name, None),
            Change::Edit { from: Rule::Device(name, before), .. } => attach(director, name, Some(*before)),
            _ => Ok(()),
        };
    }
}

/// Sets timeouts and settings.
fn settle(director: &mut dyn Director, changes: &[Change]) -> Result<()> {
    let mut sysctls = director.sysctls()?;
    for change in changes {
        match change {
            Change::Add(Rule::Timeouts(timeouts)) | Change::Edit { to: Rule::Timeouts(timeouts), .. } => {
                director.set_timeouts(*timeouts)?;
            }
            Change::Add(Rule::Sysctl(name, value)) | Change::Edit { to: Rule::Sysctl(name, value), .. } => {
                let sysctl = SYSCTLS.iter().find(|sysctl| sysctl.name == *name);
                sysctl.into_iter().for_each(|sysctl| sysctl.set(&mut sysctls, *value));
            }
            _ => {}
        }
    }
    director.set_sysctls(&sysctls)
}
