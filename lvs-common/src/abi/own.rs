//! The options of a service that IPVS's services lack, one row each: name and meaning.
//!
//! A row makes the field of [`OwnOptions`] that packets, rules and commands read, and the field of [`OwnEdits`] that a command
//! sets.

/// Makes [`OwnOptions`] and [`OwnEdits`].
macro_rules! own_options {
    ($($name:ident $meaning:literal)+) => {
        /// How many options there are.
        const COUNT: usize = [$(stringify!($name)),+].len();

        /// The options of a service that IPVS's services lack. All 0 is a service as IPVS has it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        pub struct OwnOptions {
            $(#[doc = $meaning] pub $name: u32,)+
            /// Always 0: keeps the size a multiple of eight bytes.
            pub pad: [u32; COUNT % 2],
        }

        impl OwnOptions {
            /// The names of the options, in the order of the fields.
            pub const NAMES: [&str; COUNT] = [$(stringify!($name)),+];
        }

        /// What a command does to a service's own options: `None` is an option that the command does not name, which stays as it
        /// is. So a plain `ipvsadm -E`, or keepalived's, resets none.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct OwnEdits {
            $(#[doc = $meaning] pub $name: Option<u32>,)+
        }

        impl OwnEdits {
            /// The options after the command, if they were `before`.
            pub fn over(self, before: OwnOptions) -> OwnOptions {
                OwnOptions { $($name: self.$name.unwrap_or(before.$name),)+ pad: before.pad }
            }
        }
    };
}

own_options! {
    tcp_timeout
        "Seconds that an established TCP connection lives without packets; 0: the global timeout."
    tcp_fin_timeout
        "Seconds that a TCP connection lives after a FIN; 0: the global timeout."
    udp_timeout
        "Seconds that a UDP connection lives without packets; 0: the global timeout."
    synproxy
        "1: Requests of sources that are not verified are challenged when there are many ([`challenge`](crate::challenge))."
}

impl OwnOptions {
    /// The timeouts of TCP established, of TCP FIN-WAIT and of UDP.
    #[inline(always)]
    pub const fn timeouts(&self) -> [u32; 3] {
        [self.tcp_timeout, self.tcp_fin_timeout, self.udp_timeout]
    }

    /// Whether any timeout is the service's own.
    pub fn has_timeouts(&self) -> bool {
        self.timeouts() != [0; 3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_keeps_what_it_does_not_name() {
        let before = OwnOptions { tcp_timeout: 900, synproxy: 1, ..OwnOptions::default() };
        assert_eq!(OwnEdits::default().over(before), before);
        let edits = OwnEdits { udp_timeout: Some(30), synproxy: Some(0), ..OwnEdits::default() };
        assert_eq!(edits.over(before), OwnOptions { tcp_timeout: 900, udp_timeout: 30, ..OwnOptions::default() });
    }
}
