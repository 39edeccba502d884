//! The tail calls of a linked eBPF program, read from its instructions.

use std::collections::{BTreeSet, VecDeque};

use aya_obj::generated::bpf_insn;

/// The helper `bpf_tail_call`, and the register of its argument that names the slot.
const TAIL_CALL: i32 = 12;
const SLOT: usize = 3;

/// Instructions' codes and classes (RFC 9669).
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const TO_FUNCTION: u8 = 1;
const LOAD_WORD: u8 = 0x18;
const OF_FUNCTION: u8 = 4;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
const CLASS: u8 = 0x07;
const ALWAYS: u8 = 0x00;
const OPERATION: u8 = 0xf0;
const MOVE_NUMBER: [u8; 2] = [0xb7, 0xb4];
const MOVE_REGISTER: [u8; 2] = [0xbf, 0xbc];
/// Classes whose instructions write their destination register: loads and arithmetic.
const WRITES: [u8; 4] = [0x00, 0x01, 0x04, 0x07];

/// The numbers that a register may hold; `None` if it may hold any.
type Value = Option<BTreeSet<i32>>;

/// What the registers may hold before an instruction.
type Registers = [Value; 11];

/// The slots of the program array that a program jumps to, its functions included; `None` among them is a slot that is not a
/// constant.
pub fn slots(instructions: &[bpf_insn]) -> BTreeSet<Option<i32>> {
    let mut before: Vec<Option<Registers>> = vec![None; instructions.len()];
    let mut slots = BTreeSet::new();
    let mut queue = VecDeque::new();
    for at in functions(instructions) {
        merge(&mut before, &mut queue, at, &Registers::default());
    }
    while let Some(at) = queue.pop_front() {
        let Some(mut registers) = before[at].clone() else { continue };
        let instruction = &instructions[at];
        if instruction.code == CALL && instruction.src_reg() == 0 && instruction.imm == TAIL_CALL {
            match &registers[SLOT] {
                Some(numbers) => slots.extend(numbers.iter().copied().map(Some)),
                None => drop(slots.insert(None)),
            }
        }
        apply(instruction, &mut registers);
        for next in successors(at, instruction) {
            if next < instructions.len() {
                merge(&mut before, &mut queue, next, &registers);
            }
        }
    }
    slots
}

/// Where the functions of a program begin: at its own start, where calls lead, and where callbacks do.
fn functions(instructions: &[bpf_insn]) -> BTreeSet<usize> {
    let targets = instructions.iter().enumerate().filter_map(|(at, instruction)| {
        let leads = matches!((instruction.code, instruction.src_reg()), (CALL, TO_FUNCTION) | (LOAD_WORD, OF_FUNCTION));
        leads.then(|| at.checked_add_signed(instruction.imm as isize + 1)).flatten()
    });
    targets.chain([0]).filter(|at| *at < instructions.len()).collect()
}

/// Adds what the registers may hold before `at`; what is new there is looked at again.
fn merge(before: &mut [Option<Registers>], queue: &mut VecDeque<usize>, at: usize, registers: &Registers) {
    let merged = match &before[at] {
        None => registers.clone(),
        Some(old) => std::array::from_fn(|n| Some(old[n].as_ref()? | registers[n].as_ref()?)),
    };
    if before[at].as_ref() != Some(&merged) {
        before[at] = Some(merged);
        queue.push_back(at);
    }
}

/// What an instruction does to the registers.
fn apply(instruction: &bpf_insn, registers: &mut Registers) {
    let (code, to) = (instruction.code, instruction.dst_reg() as usize);
    if code == CALL {
        for register in &mut registers[0..=5] {
            *register = None;
        }
    } else if MOVE_NUMBER.contains(&code) {
        registers[to] = Some(BTreeSet::from([instruction.imm]));
    } else if MOVE_REGISTER.contains(&code) {
        registers[to] = registers[instruction.src_reg() as usize].clone();
    } else if WRITES.contains(&(code & CLASS)) {
        registers[to] = None;
    }
}

/// The instructions that may follow.
fn successors(at: usize, instruction: &bpf_insn) -> Vec<usize> {
    let code = instruction.code;
    let next = at + if code == LOAD_WORD { 2 } else { 1 };
    if code == EXIT {
        return vec![];
    }
    if code == CALL || !matches!(code & CLASS, JUMP | JUMP32) {
        return vec![next];
    }
    let is_long = code & CLASS == JUMP32 && code & OPERATION == ALWAYS;
    let distance = if is_long { instruction.imm as isize } else { instruction.off as isize };
    let target = next.checked_add_signed(distance);
    let falls_through = (code & OPERATION != ALWAYS).then_some(next);
    falls_through.into_iter().chain(target).collect()
}
