//! Indices into the maps, each a type of its own: one cannot stand for another.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            /// None: index 0, which is never given away.
            pub const NONE: Self = $name(0);

            /// The one with this index; 0 is [`Self::NONE`].
            #[inline(always)]
            pub const fn new(index: u32) -> Self {
                $name(index)
            }

            /// Its index in the map.
            #[inline(always)]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// Whether it is none.
            #[inline(always)]
            pub const fn is_none(self) -> bool {
                self.0 == 0
            }

            /// Whether there is one.
            #[inline(always)]
            pub const fn is_some(self) -> bool {
                self.0 != 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Index of a destination in the `DESTS` map. 0 is never a destination: it means "none".
    DestId
}

id! {
    /// Index of a virtual service in the `SERVICES` map. 0 is never a service in a key or a reference: it means "none".
    /// Slot 0 itself holds what belongs to no service (the default pool of local addresses, the base of the total).
    ServiceId
}

/// A reference to an entry of a connection table, or none: index + 1, or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct EntryRef(u32);

impl EntryRef {
    /// No entry.
    pub const NONE: Self = EntryRef(0);

    /// A reference to entry `index`.
    #[inline(always)]
    pub const fn to(index: u32) -> Self {
        EntryRef(index.wrapping_add(1))
    }

    /// The index of the entry.
    #[inline(always)]
    pub const fn get(self) -> Option<u32> {
        if self.0 == 0 { None } else { Some(self.index()) }
    }

    /// The index of the entry; of [`EntryRef::NONE`], one that no table has.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0.wrapping_sub(1)
    }

    /// Whether it refers to no entry.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether it refers to an entry.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_to_its_entry_or_to_none() {
        for index in [0, 1, 77, u32::MAX - 1] {
            assert_eq!(EntryRef::to(index).get(), Some(index));
            assert!(!EntryRef::to(index).is_none());
        }
        assert_eq!(EntryRef::default().get(), None);
        assert!(EntryRef::NONE.is_none());
        assert_eq!(size_of::<EntryRef>(), 4);
    }
}
