//! Ending connections: of a destination, and of clients that may not come in.

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lvs_common::abi::DestId;
use lvs_common::programs::entry;

use super::error::{Context, Result};
use super::plane::Plane;

/// Buckets that one run of the program looks at: packets wait on this CPU meanwhile.
const PART: u32 = 4096;

/// Where in `struct __sk_buff` the words are that the program reads, and how many words the structure has.
const CONTROL_BLOCK: usize = 12;
/// See [`CONTROL_BLOCK`].
const WORDS: usize = 48;

/// The context of a program that `lvsadm` runs, with the first words of its control block.
pub fn context(words: [u32; 3]) -> Vec<u8> {
    let mut context = [0u32; WORDS];
    context[CONTROL_BLOCK..CONTROL_BLOCK + words.len()].copy_from_slice(&words);
    context.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl Plane {
    /// Ends a destination's connections, and its templates as soon as no connection needs them: how many. Their next packets
    /// belong to no connection.
    pub fn end_connections(&self, dest: DestId) -> Result<u32> {
        self.sweep(entry::DRAIN, dest)
    }

    /// Ends the connections of clients that may not come in (any more): how many.
    pub fn expel(&self) -> Result<u32> {
        self.sweep(entry::EXPEL, DestId::NONE)
    }

    /// Runs a program that ends connections over the whole table.
    fn sweep(&self, program: &str, dest: DestId) -> Result<u32> {
        let program = SchedClassifier::from_pin(self.directory.path().join(program))
            .context("the data plane was loaded by another version of lvsadm")?;
        let buckets = self.buckets4.count().max(self.buckets6.count());
        let frame = [0u8; 64];
        let mut ended = 0;
        for from in (0..buckets).step_by(PART as usize) {
            let words = context([dest.get(), from, PART]);
            let options =
                TestRunOptions { data_in: Some(&frame), ctx_in: Some(&words), repeat: 1, ..Default::default() };
            ended += program.test_run(options).context("cannot end connections")?.return_value;
        }
        Ok(ended)
    }
}
