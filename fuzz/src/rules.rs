//! Texts that people and programs write: rules files, `ipvsadm-save`'s output, JSON.

use lvs_director::director::{Director as _, MemoryDirector, Wanted};
use lvsadm::apply::file::Script;
use lvsadm::names::NoNames;
use lvsadm::render::json;
use lvsadm::session::{Open, Surroundings, run as run_session};

/// Reads a rules file (`lvsadm apply`): each mistake is a line of the file.
///
/// # Panics
/// If something does not hold.
pub fn file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (script, mistakes) = Script::read(&text, &mut NoNames);
    let lines = text.lines().count();
    assert!(mistakes.iter().all(|mistake| (1..=lines).contains(&mistake.line) && !mistake.sentence.is_empty()));
    // What a file wants can be told, whatever its mistakes.
    let _ = script.rules(&MemoryDirector::default());
}

/// Restores a table (`ipvsadm-restore`), lists it, and restores that: the table is the same.
///
/// # Panics
/// If something does not hold.
pub fn restore(input: &[u8]) {
    let first = table(input);
    let saved = save(&first);
    let second = table(saved.as_bytes());
    assert_eq!(saved, save(&second), "a table that was saved and restored is another one");
}

fn table(text: &[u8]) -> MemoryDirector {
    let mut director = MemoryDirector::default();
    session(&["ipvsadm-restore"], text, &mut director);
    director
}

fn save(director: &MemoryDirector) -> String {
    session(&["ipvsadm-save", "-n"], &[], &mut director.clone())
}

fn session(argv: &[&str], mut stdin: &[u8], director: &mut MemoryDirector) -> String {
    let open: Open<'_> = Box::new(move |_, _| Ok(director));
    run_session(argv, Surroundings { stdin: &mut stdin, names: &mut NoNames, open }).stdout
}

/// JSON of a table that a text makes: it is JSON, whatever the text says.
///
/// # Panics
/// If it is not.
pub fn json(input: &[u8]) {
    let director = table(input);
    let entries = director.services(Wanted::default()).expect("a table in memory is read");
    let text = json::services(&entries, Wanted::default());
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
