//! Inputs that a search begins with.

use serde_json::Value;

/// What the kernel's IPVS did with packets: see `tests/golden/README.md`.
const RECORDINGS: [&str; 2] =
    [include_str!("../../tests/golden/traffic.jsonl"), include_str!("../../tests/golden/random.jsonl")];
/// A message of a Linux master.
const MESSAGE: &str = include_str!("../../tests/golden/sync-message.txt");
/// Rules files.
const FILES: [&str; 5] = [
    include_str!("../../examples/rules/access.rules"),
    include_str!("../../examples/rules/dual-stack.rules"),
    include_str!("../../examples/rules/fullnat.rules"),
    include_str!("../../examples/rules/marks.rules"),
    include_str!("../../examples/rules/web.rules"),
];

/// No seeds.
pub fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// The bytes of hexadecimal digits.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The lines of a recording.
fn lines() -> impl Iterator<Item = Value> {
    RECORDINGS.iter().flat_map(|recording| recording.lines()).filter_map(|line| serde_json::from_str(line).ok())
}

/// The frames of the recordings, as steps of a script: see `packets::script`.
pub fn packets() -> Vec<Vec<u8>> {
    let of_line = |line: Value| {
        let mut input = vec![0];
        for frame in line["frames"].as_array()? {
            let frame = bytes(frame.as_str()?);
            if frame.len() < 256 {
                input.extend([15, frame.len() as u8, 8]);
                input.extend(frame);
            }
        }
        (input.len() > 1).then_some(input)
    };
    lines().filter_map(of_line).step_by(16).collect()
}

/// Messages of synchronisation.
pub fn messages() -> Vec<Vec<u8>> {
    vec![bytes(MESSAGE)]
}

/// The commands of the recordings, a scenario each.
pub fn commands() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut text = String::new();
    for line in lines() {
        match line["op"].as_str() {
            Some("start") => all.push(std::mem::take(&mut text).into_bytes()),
            Some("command") => {
                let arguments = line["arguments"].as_str().unwrap_or_default();
                if arguments.starts_with("-A") || arguments.starts_with("-a") {
                    text.push_str(arguments);
                    text.push('\n');
                }
            }
            _ => {}
        }
    }
    all.retain(|text| !text.is_empty());
    all.sort();
    all.dedup();
    all.into_iter().step_by(8).collect()
}

/// Rules files.
pub fn files() -> Vec<Vec<u8>> {
    FILES.iter().map(|text| text.as_bytes().to_vec()).chain(commands()).collect()
}
