//! Global functions: the verifier checks each of them once for a program, whatever calls it, instead of once after each path
//! that leads to it. See "global functions" in docs/develop/verifier.md.

use crate::kernel::shared::Shared;

/// What a global function takes: a number, or something in memory. The latter is passed as a pointer, of which the verifier knows
/// only that it may be null.
pub trait Argument: Sized {
    /// What is passed.
    type Raw;

    /// The argument as it is passed.
    fn into_raw(self) -> Self::Raw;

    /// The argument that was passed; `None` if it is null and must not be.
    ///
    /// # Safety
    /// `raw` is null, or what [`Argument::into_raw`] made of an argument that is still alive.
    unsafe fn from_raw(raw: Self::Raw) -> Option<Self>;
}

/// Values that are passed as they are.
macro_rules! plain {
    ($([$($generic:ident)?] $type:ty),+) => {
        $(impl$(<$generic>)? Argument for $type {
            type Raw = Self;

            #[inline(always)]
            fn into_raw(self) -> Self {
                self
            }

            #[inline(always)]
            unsafe fn from_raw(raw: Self) -> Option<Self> {
                Some(raw)
            }
        })+
    };
}

plain!([] u32, [] u64, [T] *mut T);

impl<'a, T> Argument for &'a T {
    type Raw = *const T;

    #[inline(always)]
    fn into_raw(self) -> *const T {
        self
    }

    #[inline(always)]
    unsafe fn from_raw(raw: *const T) -> Option<&'a T> {
        // SAFETY: the caller's.
        unsafe { raw.as_ref() }
    }
}

impl<T> Argument for Shared<T> {
    type Raw = *mut T;

    #[inline(always)]
    fn into_raw(self) -> *mut T {
        self.as_ptr()
    }

    #[inline(always)]
    unsafe fn from_raw(raw: *mut T) -> Option<Shared<T>> {
        if raw.is_null() {
            return None;
        }
        // SAFETY: the caller's: the pointer was a `Shared` of this type.
        Some(unsafe { Shared::new(raw) })
    }
}

impl<T> Argument for Option<Shared<T>> {
    type Raw = *mut T;

    #[inline(always)]
    fn into_raw(self) -> *mut T {
        self.map_or(core::ptr::null_mut(), Shared::as_ptr)
    }

    #[inline(always)]
    unsafe fn from_raw(raw: *mut T) -> Option<Option<Shared<T>>> {
        // SAFETY: the caller's.
        Some(unsafe { Shared::from_raw(raw) })
    }
}

/// Makes one global function for each family of `body`, a generic function over the family `A`, and a generic function that
/// calls the one of its family. Without a family, one global function of `body` and a function that calls it.
///
/// There are at most five arguments, each an [`Argument`]; the result is a number. `body` is not called if an argument is null
/// that must not be, and the result is 0. A call costs some 10 ns where returns are guarded against speculation.
///
/// ```ignore
/// global_fn! {
///     /// What it does.
///     pub fn advance<A>(c: Entry<A>, now: u64) -> u32 = advance4, advance6 => step
/// }
/// ```
macro_rules! global_fn {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident<$family:ident>($($argument:ident: $type:ty),+ $(,)?) -> $result:ty = $four:ident, $six:ident => $body:ident
    ) => {
        $(#[$doc])*
        #[inline(always)]
        $vis fn $name<$family: lvs_common::abi::IpAddress>($($argument: $type),+) -> $result {
            use crate::kernel::global::Argument as _;
            // A cast to the same type: which family `A` is, the compiler knows in each copy of this function.
            if $family::IS_V4 {
                $four::$four($($argument.into_raw() as _),+)
            } else {
                $six::$six($($argument.into_raw() as _),+)
            }
        }

        crate::kernel::global::global_fn!(@one $four, [$family = u32], ($($argument: $type),+), $result, $body::<u32>);
        crate::kernel::global::global_fn!(@one $six, [$family = [u32; 4]], ($($argument: $type),+), $result, $body::<[u32; 4]>);
    };
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($argument:ident: $type:ty),+ $(,)?) -> $result:ty = $one:ident => $body:ident
    ) => {
        $(#[$doc])*
        #[inline(always)]
        $vis fn $name($($argument: $type),+) -> $result {
            use crate::kernel::global::Argument as _;
            $one::$one($($argument.into_raw()),+)
        }

        crate::kernel::global::global_fn!(@one $one, [], ($($argument: $type),+), $result, $body);
    };
    (
        @one $name:ident, [$($family:ident = $address:ty)?], ($($argument:ident: $type:ty),+), $result:ty,
        $body:ident $(::<$of:ty>)?
    ) => {
        mod $name {
            #[allow(unused_imports, reason = "the types of the arguments are the file's")]
            use super::*;
            use crate::kernel::global::Argument;

            $(
                #[allow(dead_code, reason = "a function need not name the family")]
                type $family = $address;
            )?

            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: <$type as Argument>::Raw),+) -> $result {
                $(
                    // SAFETY: the function above alone calls this one, with what `into_raw` made of its arguments.
                    let $argument = unsafe { <$type as Argument>::from_raw($argument) };
                    let Some($argument) = $argument else { return 0 };
                )+
                $body$(::<$of>)?($($argument),+)
            }
        }
    };
}

pub(crate) use global_fn;
