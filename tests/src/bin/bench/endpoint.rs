//! How long the agent's HTTP endpoint takes for an answer about many services, and how large that is. Each answer is read anew: the
//! one before is older than the agent keeps it.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::eventually;
use tests::topology::{Namespace, lvsadm_path};

use crate::commands::{Files, SERVERS, SERVICES};
use crate::report::Report;
use crate::wrapper::median;

const ENDPOINT: &str = "127.0.0.1:9120";
/// Longer than the agent gives an answer out.
const AGE: Duration = Duration::from_millis(1100);

/// Measures.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let director = Namespace::new("director")?;
    director.lvsadm("attach")?;
    director.lvsadm("resize --services 65535 --destinations 131071")?;
    let files = Files::new(&director)?;
    director.lvsadm(&format!("apply {}", files.rules.display()))?;
    let mut agent = director.command(lvsadm_path());
    director.adopt(agent.args(["agent", "--listen", "9120"]).stdout(Stdio::null()).stderr(Stdio::null()))?;
    eventually("the agent listens", || director.fetch(ENDPOINT, "/", "").is_ok());
    report.section(&format!("lvsadm agent --listen, {SERVICES} services x {SERVERS} servers"), "");
    for path in [
        "/",
        "/metrics",
        "/api/status",
        "/api/services",
        "/api/services?sort=bytes&limit=100",
        "/api/services?filter=10.3.7.9&limit=100",
    ] {
        let (mut times, mut size) = (Vec::new(), 0);
        for _ in 0..rounds.min(5) {
            sleep(AGE);
            let begin = Instant::now();
            let reply = director.fetch(ENDPOINT, path, "")?;
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
            ensure!(reply.status == 200, "{path}: {}", reply.body);
            size = reply.body.len();
        }
        report.add("endpoint", format!("GET {path}"), median(&mut times), "ms", None);
        report.add("endpoint", format!("size of {path}"), size as f64 / 1024.0, "KiB", None);
    }
    Ok(())
}
