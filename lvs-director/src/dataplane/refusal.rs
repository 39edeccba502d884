//! Why the kernel refuses a program, in one line.

use std::io::ErrorKind;

use aya::programs::ProgramError;

use super::error::Error;
use super::kernel::kernel_release;

/// What became of loading program `name`. The verifier's log, thousands of lines that end in the reason, is printed if
/// `log` says so.
pub fn refused(name: &str, error: ProgramError, log: bool) -> Error {
    let release = kernel_release();
    let doing = || format!("Linux {release} refuses program {name}").into();
    let (io_error, verifier_log) = match error {
        ProgramError::LoadError { io_error, verifier_log } => (io_error, verifier_log),
        other => return Error::Step { doing: doing(), cause: Box::new(other.into()) },
    };
    if io_error.kind() == ErrorKind::OutOfMemory {
        return Error::Step { doing: doing(), cause: Box::new(io_error.into()) };
    }
    let text = verifier_log.to_string();
    if log {
        eprintln!("{text}");
    }
    let reason = match reason(&text) {
        Some(reason) => format!("{reason} ({io_error}; LVS_VERIFIER_LOG=1 shows the verifier's log)"),
        None => io_error.to_string(),
    };
    Error::Refused { release, program: name.to_owned(), reason }
}

/// The last line of a verifier's log that is neither statistics nor a step of the program.
fn reason(log: &str) -> Option<&str> {
    let statistics = ["processed ", "verification time ", "stack depth ", "max_states"];
    let step = |line: &str| line.starts_with(|c: char| c.is_ascii_digit() || c == ';');
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !step(line) && !statistics.iter().any(|prefix| line.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_before_the_statistics() {
        let log = "0: R1=ctx() R10=fp0\n; if a { b } else { c }\n306: (0f) r4 += r3\n\
                   math between map_value pointer and register with unbounded min value is not allowed\n\
                   verification time 7782530 usec\nstack depth 312+96\nprocessed 6600 insns (limit 1000000)\n";
        let sentence = "math between map_value pointer and register with unbounded min value is not allowed";
        assert_eq!(reason(log), Some(sentence));
        assert_eq!(reason(""), None);
    }
}
