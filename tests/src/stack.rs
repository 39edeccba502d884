//! How much stack the linked programs of an object use. aya shows the verifier's own figure only where it refuses a program.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;

use anyhow::Result;
use aya_obj::generated::bpf_insn;
use aya_obj::{Function, Object};

use crate::object_path;

/// Bytes of stack that functions which call each other have together (`MAX_BPF_STACK`).
pub const STACK: usize = 512;
/// What Linux 6.1 rounds a function's share up to; later kernels round less.
pub const SHARE: usize = 32;

/// The register of the stack's end.
const FRAME: u8 = 10;

/// Instructions' codes and, of those two, what is in their source register (`linux/bpf.h`, RFC 9669).
const CALL: u8 = 0x85;
const TO_FUNCTION: u8 = 1;
const LOAD_WORD: u8 = 0x18;
const OF_FUNCTION: u8 = 4;
const MOVE: u8 = 0xbf;
const ADD_NUMBER: u8 = 0x07;
/// Classes: loads, stores of numbers and of registers; and the mask for them.
const LOAD: u8 = 0x01;
const STORES: [u8; 2] = [0x02, 0x03];
const CLASS: u8 = 0x07;

/// A function of a linked program: bytes of stack it uses itself, and where the functions begin that it calls or has called.
#[derive(Default)]
struct Share {
    depth: usize,
    calls: BTreeSet<usize>,
}

/// Where a call, or an address of a function, leads.
fn target(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let leads = matches!((instruction.code, instruction.src_reg()), (CALL, TO_FUNCTION) | (LOAD_WORD, OF_FUNCTION));
    leads.then(|| at.checked_add_signed(instruction.imm as isize + 1)).flatten()
}

/// How far from the stack's end an instruction reaches; `before` is the one before it.
fn reach(before: Option<&bpf_insn>, instruction: &bpf_insn) -> usize {
    let class = instruction.code & CLASS;
    if class == LOAD && instruction.src_reg() == FRAME || STORES.contains(&class) && instruction.dst_reg() == FRAME {
        return (-instruction.off).max(0) as usize;
    }
    let is_moved = before.is_some_and(|before| {
        before.code == MOVE && before.src_reg() == FRAME && before.dst_reg() == instruction.dst_reg()
    });
    if instruction.code == ADD_NUMBER && is_moved { (-instruction.imm).max(0) as usize } else { 0 }
}

/// The functions of a linked program by their first instruction.
fn shares(program: &Function) -> BTreeMap<usize, Share> {
    let instructions = &program.instructions;
    let targets = instructions.iter().enumerate().filter_map(|(at, instruction)| target(at, instruction));
    let mut shares: BTreeMap<usize, Share> = targets.chain([0]).map(|at| (at, Share::default())).collect();
    for (at, instruction) in instructions.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &instructions[before]);
        let (_, share) = shares.range_mut(..=at).next_back().unwrap();
        share.depth = share.depth.max(reach(before, instruction));
        share.calls.extend(target(at, instruction));
    }
    shares
}

/// Bytes of stack of the deepest chain of calls from a program's first instruction, as Linux 6.1 counts.
pub fn depth(program: &Function) -> usize {
    deepest(&shares(program), 0)
}

/// The same, from a function of it.
fn deepest(shares: &BTreeMap<usize, Share>, from: usize) -> usize {
    let share = &shares[&from];
    let below = share.calls.iter().map(|call| deepest(shares, *call)).max().unwrap_or(0);
    share.depth.max(1).next_multiple_of(SHARE) + below
}

/// An eBPF object with its calls linked.
pub fn linked(name: &str) -> Result<Object> {
    let mut object = Object::parse(&fs::read(object_path(name))?)?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&text)?;
    Ok(object)
}
