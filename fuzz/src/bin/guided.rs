//! A search that coverage guides: libFuzzer's, on the target that `LVS_FUZZ_TARGET` names. Its options are libFuzzer's.
#![no_main]

use std::sync::LazyLock;

use fuzz::targets::{Target, named};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("LVS_FUZZ_TARGET").unwrap_or_default();
    named(&name).unwrap_or_else(|| panic!("there is no target `{name}'"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
