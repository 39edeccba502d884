//! `lvsadm`: see the library.

use std::process::ExitCode;

use lvsadm::director::Error;

fn main() -> ExitCode {
    lvsadm::start(Box::new(|| Err(Error::Os(libc::ENOSYS))), |sub| {
        eprintln!("lvsadm: this build has no data plane for {sub:?}");
        ExitCode::FAILURE
    })
}
