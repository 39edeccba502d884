//! `capture`: packets to a file of pcapng.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use lvs_director::dataplane::observe::{Sight, Wish};
use lvs_director::dataplane::{self, Plane};

use crate::grammar::subcommands::CaptureArgs;
use crate::observe::{self, File, Teller, Watch, memory};

/// Writes packets.
pub fn capture(arguments: &CaptureArgs) -> Result<()> {
    let expression = arguments.expression();
    let filters = observe::compile(&expression)?;
    let wish = Wish {
        frames: filters.frames,
        packets: filters.packets,
        exits: u64::MAX,
        snap: arguments.snaplen,
        came: true,
        memory: memory(arguments.end.buffer),
    };
    let mut watch = Watch::start(wish, arguments.end.time())?;
    let file = File::new(output(&arguments.file)?, &devices(watch.plane())?, arguments.snaplen, expression)?;
    let mut capture = Capture {
        file,
        teller: Teller::new(watch.plane())?,
        came: HashMap::new(),
        written: 0,
        most: arguments.end.count,
    };
    capture.file.flush()?;
    eprintln!("lvsadm: capturing, until an interrupt");
    let mut goes_on = true;
    while let Some(sights) = watch.next()? {
        goes_on = capture.take(watch.plane(), sights)?;
        if !goes_on {
            break;
        }
    }
    let rest = watch.finish();
    if goes_on {
        capture.take(watch.plane(), rest)?;
    }
    eprintln!("lvsadm: {} packets captured, {} reports lost for want of memory", capture.written, watch.lost());
    Ok(())
}

/// What is written to.
fn output(path: &Path) -> Result<Box<dyn Write>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(file))
}

/// The devices that are served.
fn devices(plane: &Plane) -> Result<Vec<String>> {
    Ok(dataplane::attachments(plane)?.into_iter().map(|attachment| attachment.device).collect())
}

/// Capturing.
struct Capture {
    file: File<Box<dyn Write>>,
    teller: Teller,
    /// Packets that have come and not left yet, by CPU and gate.
    came: HashMap<(u32, u32), Sight>,
    written: u64,
    most: Option<u64>,
}

impl Capture {
    /// Writes what was reported; `false` at the end.
    fn take(&mut self, plane: &Plane, sights: Vec<Sight>) -> Result<bool> {
        for sight in sights {
            let key = (sight.report.cpu, sight.report.gate);
            if sight.report.has_left == 0 {
                // One before it that has not left was of no concern: XDP left it to TC, say.
                self.came.insert(key, sight);
                continue;
            }
            let came = self.came.remove(&key).filter(|came| came.report.number == sight.report.number);
            let story = self.teller.tell(plane, &sight);
            match self.file.write(came.as_ref(), &sight, &story, |time| self.teller.time(time)) {
                Err(error) if is_gone(&error) => return Ok(false),
                result => result?,
            }
            self.written += 1;
            if self.most.is_some_and(|most| self.written >= most) {
                let _ = self.flush()?;
                return Ok(false);
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<bool> {
        match self.file.flush() {
            Err(error) if is_gone(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }
}

/// Whether whoever reads what is written has gone.
fn is_gone(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}
