//! Filters as libpcap compiles them (classic BPF), made into a function of the observing programs.
//!
//! So a packet that the user did not ask for is passed over in the kernel, at the cost of a few instructions. The function sees
//! the first bytes of a packet, no more than [`HEAD`]. As in classic BPF, a packet that is too short for a load does not match.

use aya_obj::generated::bpf_insn;
use lvs_common::abi::observe::HEAD;

/// An instruction of classic BPF: `struct bpf_insn` of libpcap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are left out if its condition holds.
    pub jump_true: u8,
    /// The same if it does not.
    pub jump_false: u8,
    /// Its operand.
    pub k: u32,
}

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classic(pub Vec<Instruction>);

/// What cannot be made of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction {0} of the filter is not of classic BPF, or leads out of the filter")]
pub struct Foreign(usize);

// Registers. The function's arguments are in 1 to 3: where the bytes are, how many, and the packet's length.
const RESULT: u8 = 0;
const BYTES: u8 = 1;
const LENGTH: u8 = 2;
const TOTAL: u8 = 3;
/// Classic BPF's accumulator and index register, and one for addresses.
const A: u8 = 4;
const X: u8 = 5;
const AT: u8 = 6;
const FRAME: u8 = 10;

/// Words of memory that a filter has.
const MEMORY: u32 = 16;

// Codes of eBPF, as in the kernel's `linux/bpf.h`.
const MOV_K: u8 = 0xb4;
const MOV_X: u8 = 0xbc;
const ADD_K: u8 = 0x04;
const ADD64_X: u8 = 0x0f;
const AND_K: u8 = 0x54;
const LSH_K: u8 = 0x64;
const NEG: u8 = 0x84;
const TO_BIG_ENDIAN: u8 = 0xdc;
const LOAD_W: u8 = 0x61;
const LOAD_H: u8 = 0x69;
const LOAD_B: u8 = 0x71;
const STORE_W: u8 = 0x63;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
const JUMP_GT_K: u8 = 0x26;
const JUMP_LE_X: u8 = 0xbe;
const JUMP_NE_K: u8 = 0x56;

fn insn(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
    let mut insn = bpf_insn { code, _bitfield_align_1: [], _bitfield_1: Default::default(), off, imm };
    insn.set_dst_reg(to);
    insn.set_src_reg(from);
    insn
}

/// The function while it is made.
#[derive(Default)]
struct Function {
    made: Vec<bpf_insn>,
    /// Where the instructions of the filter begin in it.
    starts: Vec<usize>,
    /// Jumps whose targets are instructions of the filter.
    jumps: Vec<(usize, usize)>,
}

impl Function {
    fn put(&mut self, code: u8, to: u8, from: u8, off: i16, imm: i32) {
        self.made.push(insn(code, to, from, off, imm));
    }

    /// Ends with "no match".
    fn reject(&mut self) {
        self.put(MOV_K, RESULT, 0, 0, 0);
        self.put(EXIT, 0, 0, 0, 0);
    }

    /// A jump to an instruction of the filter.
    fn jump(&mut self, code: u8, to: u8, from: u8, imm: i32, target: usize) {
        self.jumps.push((self.made.len(), target));
        self.put(code, to, from, 0, imm);
    }

    /// Loads `size` bytes at `AT + off` or `BYTES + off` in network byte order.
    fn fetch(&mut self, to: u8, base: u8, off: i16, size: u32) {
        self.put(
            if size == 4 {
                LOAD_W
            } else if size == 2 {
                LOAD_H
            } else {
                LOAD_B
            },
            to,
            base,
            off,
            0,
        );
        if size > 1 {
            self.put(TO_BIG_ENDIAN, to, 0, 0, size as i32 * 8);
        }
    }

    /// Loads `size` bytes of the packet at `k`.
    fn load(&mut self, to: u8, k: u32, size: u32) {
        let end = k.saturating_add(size);
        // Of what is beyond the bytes that there can be, the jump is never taken, which is for the check of what is reachable.
        self.put(JUMP_GT_K, LENGTH, 0, 2, end.min(HEAD as u32 + 1) as i32 - 1);
        self.reject();
        if end <= HEAD as u32 { self.fetch(to, BYTES, k as i16, size) } else { self.put(MOV_K, to, 0, 0, 0) }
    }

    /// Loads `size` bytes of the packet at `X + k`.
    fn load_indexed(&mut self, k: u32, size: u32) {
        self.put(MOV_X, AT, X, 0, 0);
        self.put(ADD_K, AT, 0, 0, k as i32);
        // The first check is what the verifier goes by.
        self.put(JUMP_GT_K, AT, 0, 3, (HEAD as u32 - size) as i32);
        self.put(MOV_X, RESULT, AT, 0, 0);
        self.put(ADD_K, RESULT, 0, 0, size as i32);
        self.put(JUMP_LE_X, RESULT, LENGTH, 2, 0);
        self.reject();
        self.put(ADD64_X, AT, BYTES, 0, 0);
        self.fetch(A, AT, 0, size);
    }

    /// Makes an instruction of the filter.
    fn translate(&mut self, number: usize, count: usize, it: Instruction) -> Option<()> {
        let Instruction { code, k, .. } = it;
        let target = |distance: u32| (number + 1).checked_add(distance as usize).filter(|to| *to < count);
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        let register = if code & 0x07 == 0x01 || code & 0x07 == 0x03 { X } else { A };
        let place = || (k < MEMORY).then_some(-4 * (k as i16 + 1));
        match (code & 0x07, code) {
            // LD and LDX: a constant, the packet's length, of memory, of the packet, four times the lower half of a byte of it.
            (0x00 | 0x01, 0x00 | 0x01) => self.put(MOV_K, register, 0, 0, k as i32),
            (0x00 | 0x01, 0x80 | 0x81) => self.put(MOV_X, register, TOTAL, 0, 0),
            (0x00 | 0x01, 0x60 | 0x61) => self.put(LOAD_W, register, FRAME, place()?, 0),
            (0x00, 0x20 | 0x28 | 0x30) => self.load(A, k, size),
            (0x00, 0x40 | 0x48 | 0x50) => self.load_indexed(k, size),
            (0x01, 0xb1) => {
                self.load(X, k, 1);
                self.put(AND_K, X, 0, 0, 0xf);
                self.put(LSH_K, X, 0, 0, 2);
            }
            // ST and STX.
            (0x02 | 0x03, 0x02 | 0x03) => self.put(STORE_W, FRAME, register, place()?, 0),
            // ALU: eBPF has the same codes.
            (0x04, 0x84) => self.put(NEG, A, 0, 0, 0),
            (0x04, _) if code & 0xf0 <= 0xa0 && code & 0xf0 != 0x80 => {
                let is_division = matches!(code & 0xf0, 0x30 | 0x90);
                match (code & 0x08 != 0, is_division) {
                    (true, true) => {
                        self.put(JUMP_NE_K, X, 0, 2, 0);
                        self.reject();
                        self.put(code as u8, A, X, 0, 0);
                    }
                    (true, false) => self.put(code as u8, A, X, 0, 0),
                    (false, true) if k == 0 => return None,
                    (false, _) => self.put(code as u8, A, 0, 0, k as i32),
                }
            }
            // JMP: eBPF has the same codes for words.
            (0x05, 0x05) => self.jump(JUMP, 0, 0, 0, target(k)?),
            (0x05, _) if matches!(code & 0xf0, 0x10..=0x40) => {
                let (from, k) = if code & 0x08 != 0 { (X, 0) } else { (0, k as i32) };
                self.jump(code as u8 & 0xf8 | 0x06, A, from, k, target(it.jump_true.into())?);
                self.jump(JUMP, 0, 0, 0, target(it.jump_false.into())?);
            }
            // RET.
            (0x06, 0x06) => {
                self.put(MOV_K, RESULT, 0, 0, (k != 0).into());
                self.put(EXIT, 0, 0, 0, 0);
            }
            (0x06, 0x16) => {
                self.put(MOV_X, RESULT, A, 0, 0);
                self.put(EXIT, 0, 0, 0, 0);
            }
            // TAX and TXA.
            (0x07, 0x07) => self.put(MOV_X, X, A, 0, 0),
            (0x07, 0x87) => self.put(MOV_X, A, X, 0, 0),
            _ => return None,
        }
        Some(())
    }
}

impl Classic {
    /// The function: its arguments are the address of the bytes, how many there are, and the packet's length; it returns 0 if the
    /// packet does not match.
    pub(super) fn function(&self) -> Result<Vec<bpf_insn>, Foreign> {
        let mut function = Function::default();
        function.put(MOV_K, A, 0, 0, 0);
        function.put(MOV_K, X, 0, 0, 0);
        let count = self.0.len();
        for (number, it) in self.0.iter().enumerate() {
            function.starts.push(function.made.len());
            function.translate(number, count, *it).ok_or(Foreign(number))?;
        }
        // The last one of a filter returns.
        let is_ended = self.0.last().is_some_and(|last| last.code & 0x07 == 0x06);
        if !is_ended {
            return Err(Foreign(count));
        }
        for (at, target) in function.jumps {
            let distance = function.starts[target] as i64 - at as i64 - 1;
            function.made[at].off = i16::try_from(distance).map_err(|_| Foreign(target))?;
        }
        Ok(function.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: &[(u16, u8, u8, u32)]) -> Classic {
        let all = words.iter().map(|(code, jump_true, jump_false, k)| Instruction {
            code: *code,
            jump_true: *jump_true,
            jump_false: *jump_false,
            k: *k,
        });
        Classic(all.collect())
    }

    #[test]
    fn jumps_lead_to_where_the_filter_has_them_lead() {
        // `ip`: load the type, compare it, match or not.
        let ip = filter(&[(0x28, 0, 0, 12), (0x15, 0, 1, 0x800), (0x06, 0, 0, 65535), (0x06, 0, 0, 0)]);
        let made = ip.function().unwrap();
        let codes: Vec<u8> = made.iter().map(|insn| insn.code).collect();
        let load = [JUMP_GT_K, MOV_K, EXIT, LOAD_H, TO_BIG_ENDIAN];
        assert_eq!(codes, [&[MOV_K, MOV_K][..], &load, &[0x16, JUMP], &[MOV_K, EXIT, MOV_K, EXIT]].concat());
        assert_eq!((made[7].off, made[8].off), (1, 2));
        assert_eq!((made[9].imm, made[11].imm), (1, 0));
        assert_eq!((made[2].imm, made[2].off), (13, 2), "a packet of 14 bytes has a type");
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (words, at) in [
            (&[][..], 0),
            (&[(0x28, 0, 0, 12)], 1),
            (&[(0x05, 0, 0, 1), (0x06, 0, 0, 0)], 0),
            (&[(0x60, 0, 0, 16), (0x06, 0, 0, 0)], 0),
            (&[(0x34, 0, 0, 0), (0x06, 0, 0, 0)], 0),
            (&[(0xff, 0, 0, 0), (0x06, 0, 0, 0)], 0),
        ] {
            assert_eq!(filter(words).function().map(|_| ()), Err(Foreign(at)), "{words:?}");
        }
    }
}
