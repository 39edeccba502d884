//! Numbers in network byte order, as they stand in a packet: types of their own, so that one is never taken for a number in
//! host order.
//!
//! Both hold the word as it lies in memory and cost nothing: [`new`](Be16::new) and [`get`](Be16::get) are a swap of bytes (on
//! a constant, none), and a copy or a comparison is the word's.

use core::fmt;
use core::ops::{BitAnd, BitOr};

macro_rules! big_endian {
    ($(#[$doc:meta])* $name:ident($word:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub struct $name($word);

        impl $name {
            /// 0.
            pub const ZERO: Self = $name(0);

            /// The number `host`, which is in host order.
            #[inline(always)]
            pub const fn new(host: $word) -> Self {
                $name(host.to_be())
            }

            /// The number in host order.
            #[inline(always)]
            pub const fn get(self) -> $word {
                <$word>::from_be(self.0)
            }

            /// Whether the number is 0.
            #[inline(always)]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// The word as it lies in memory: for hashes, checksums, and the kernel's structures.
            #[inline(always)]
            pub const fn word(self) -> $word {
                self.0
            }

            /// The number whose word in memory is `word`.
            #[inline(always)]
            pub const fn from_word(word: $word) -> Self {
                $name(word)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }

        impl BitAnd for $name {
            type Output = Self;

            #[inline(always)]
            fn bitand(self, other: Self) -> Self {
                $name(self.0 & other.0)
            }
        }

        impl BitOr for $name {
            type Output = Self;

            #[inline(always)]
            fn bitor(self, other: Self) -> Self {
                $name(self.0 | other.0)
            }
        }
    };
}

big_endian! {
    /// A number of 16 bits in network byte order: a port, a length, an EtherType.
    Be16(u16)
}

big_endian! {
    /// A number of 32 bits in network byte order: a TCP sequence number.
    Be32(u32)
}

/// A word of a packet that a checksum covers.
pub trait Word: Copy {
    /// The word as it lies in memory.
    fn memory(self) -> u32;
}

/// A word as it lies in memory: an IPv4 address, a quarter of an IPv6 address, two bytes of a header.
impl Word for u32 {
    #[inline(always)]
    fn memory(self) -> u32 {
        self
    }
}

impl Word for Be16 {
    #[inline(always)]
    fn memory(self) -> u32 {
        self.word() as u32
    }
}

impl Word for Be32 {
    #[inline(always)]
    fn memory(self) -> u32 {
        self.word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_network_order_and_numbers_are_not() {
        assert_eq!(Be16::new(0x1234).word().to_ne_bytes(), [0x12, 0x34]);
        assert_eq!(Be32::new(0x1234_5678).word().to_ne_bytes(), [0x12, 0x34, 0x56, 0x78]);
        assert_eq!((Be16::new(80).get(), Be16::from_word(80u16.to_be())), (80, Be16::new(80)));
        assert_eq!(format!("{} {:?}", Be16::new(443), Be32::new(7)), "443 7");
        assert!(Be16::ZERO.is_zero() && !Be32::new(1).is_zero());
    }
}
