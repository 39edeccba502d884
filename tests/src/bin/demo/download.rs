//! A download by wget, at a steady rate, with its checksum at the end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::text;
use tests::topology::Namespace;

/// Bytes of the download, and how many of them wget takes in a second.
const LENGTH: usize = 20_000_000;
const RATE: &str = "1M";
/// From one look at the download to the next one.
const LOOKS: Duration = Duration::from_millis(500);

/// A download under way.
pub struct Download {
    wget: Child,
    file: PathBuf,
}

impl Download {
    /// Begins it.
    pub fn begin(client: &Namespace, from: SocketAddr) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("{}-download", client.name()));
        let url = format!("http://{from}/bytes/{LENGTH}");
        println!("client$ wget --limit-rate={RATE} --output-document=download {url}");
        let mut wget = client.command("wget");
        wget.args(["--quiet", &format!("--limit-rate={RATE}"), &url, "--output-document"]).arg(&file);
        Ok(Download { wget: wget.stdin(Stdio::null()).spawn()?, file })
    }

    /// Shows how it goes on, for so long or to its end, each time with what there is to say besides.
    pub fn watch(&mut self, time: Duration, say: impl Fn() -> String) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end && self.wget.try_wait()?.is_none() {
            sleep(LOOKS);
            let length = fs::metadata(&self.file).map_or(0, |file| file.len());
            println!("  {:>5.1} of {:.1} MB     {}", megabytes(length), megabytes(LENGTH as u64), say());
        }
        Ok(())
    }

    /// Waits for its end, and shows that all came as it was sent.
    pub fn end(mut self) -> Result<()> {
        ensure!(self.wget.wait()?.success(), "the download failed");
        let (came, sent) = (checksum(&self.file)?, checksum_of(&text(LENGTH))?);
        println!("\nclient$ sha256sum download\n  {came}\nrs1$ sha256sum (what was to be sent)\n  {sent}");
        ensure!(came == sent, "the download is not what the real server sent");
        println!("The download is what the real server sent, byte by byte.");
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.wget.kill();
        let _ = self.wget.wait();
        let _ = fs::remove_file(&self.file);
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What `sha256sum` says of a file.
fn checksum(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("cannot run sha256sum")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().next().map(str::to_owned).context("sha256sum says nothing")
}

/// The same of bytes.
fn checksum_of(bytes: &[u8]) -> Result<String> {
    let file = std::env::temp_dir().join(format!("lvst-{}-sent", std::process::id()));
    fs::write(&file, bytes)?;
    let checksum = checksum(&file);
    fs::remove_file(&file)?;
    checksum
}
