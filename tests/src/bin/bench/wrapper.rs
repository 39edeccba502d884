//! Time per packet of an XDP program, by the wrapper of the benchmark's eBPF object.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};
use lvs_common::abi::bench::{CHUNK, FRAME, LOOKUPS, Run};
use tests::fixtures::{Port, xdp_context};

/// [`Run`] as aya takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Shared(pub Run);

// SAFETY: plain integers without padding.
unsafe impl Pod for Shared {}

/// Loads the benchmark's object; its maps and programs are this instance's own.
pub fn load() -> Result<Ebpf> {
    let mut ebpf = tests::bench_object()?;
    for (name, program) in ebpf.programs_mut() {
        if let aya::programs::Program::Xdp(program) = program {
            program.load().with_context(|| format!("the kernel refuses program {name}"))?;
        }
    }
    Ok(ebpf)
}

/// A program of the object.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// The measuring apparatus.
pub struct Wrapper {
    ebpf: Ebpf,
    run: Array<MapData, Shared>,
    target: ProgramArray<MapData>,
}

/// What a run of packets showed.
pub struct Timing {
    /// Median over the chunks, ns per packet with the wrapper's own part.
    pub ns: f64,
    /// The last packet's verdict.
    pub verdict: u32,
}

impl Wrapper {
    /// Loads it, and fills the look-up floor's table with `flows` entries.
    pub fn new(flows: u32) -> Result<Self> {
        let mut ebpf = load()?;
        let run = Array::try_from(ebpf.take_map("RUN").context("no map RUN")?)?;
        let target = ProgramArray::try_from(ebpf.take_map("TARGET").context("no map TARGET")?)?;
        let lookup = ebpf.take_map("LOOKUP").context("no map LOOKUP")?;
        let mut lookup = HashMap::<_, [u32; 9], u64>::try_from(lookup)?;
        ensure!(flows <= LOOKUPS / 2, "more flows than the look-up floor is made for");
        for flow in 0..flows {
            lookup.insert([flow, 0, 0, 0, 0, 0, 0, 0, 0], 1, 0)?;
        }
        Ok(Wrapper { ebpf, run, target })
    }

    /// The floor program of this name.
    pub fn floor(&mut self, name: &str) -> Result<ProgramFd> {
        Ok(program(&mut self.ebpf, name)?.fd()?.try_clone()?)
    }

    /// Runs about `packets` packets through a program, as if they came in on a device.
    pub fn time(&mut self, program: &ProgramFd, run: &Run, port: Port, packets: u64) -> Result<Timing> {
        let mut run = *run;
        (run.count, run.begin) = (0, 0);
        self.run.set(0, Shared(run), 0)?;
        self.target.set(0, program, 0)?;
        let chunks = (packets / CHUNK).clamp(1, run.chunks.len() as u64);
        let wrap: &Xdp = self.ebpf.program("wrap").context("no program wrap")?.try_into()?;
        let result = wrap.test_run(TestRunOptions {
            data_in: Some(frame(&run)),
            ctx_in: Some(&xdp_context(port, FRAME)),
            repeat: (chunks * CHUNK + 1) as u32,
            ..TestRunOptions::default()
        })?;
        let after = self.run.get(&0, 0)?.0;
        let mut times: Vec<f64> = after.chunks[..chunks as usize].iter().map(|ns| f64::from(*ns)).collect();
        Ok(Timing { ns: median(&mut times) / CHUNK as f64, verdict: result.return_value })
    }
}

/// The frame of a run.
pub fn frame(run: &Run) -> &[u8] {
    &run.frame[2..2 + FRAME]
}

/// The median.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// A program's descriptor, of programs that were opened from a pin.
pub fn descriptor(program: &Xdp) -> Result<ProgramFd> {
    Ok(program.fd()?.try_clone()?)
}
