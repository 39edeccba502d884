//! A kernel in memory.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::network::Network;
use crate::program::{Clone, Redirect, Running};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

thread_local! {
    /// The kernel that this thread is in.
    static CURRENT: Cell<*const Kernel> = const { Cell::new(ptr::null()) };
}

/// A kernel: the contents of the maps, the clock, the CPU at hand, devices and routes. Programs find it by the thread that they run on.
#[derive(Default)]
pub struct Kernel {
    maps: UnsafeCell<Vec<Option<Box<dyn Storage>>>>,
    /// `CLOCK_MONOTONIC`, ns.
    pub now: Cell<u64>,
    /// Jiffies a second.
    pub hz: Cell<u64>,
    /// The CPU that a program runs on.
    pub cpu: Cell<u32>,
    /// State of the pseudo-random numbers.
    pub random: Cell<u64>,
    /// The log's level: 0 is off.
    pub log_level: Cell<u32>,
    /// Lines that were logged.
    pub lines: Cell<u64>,
    /// Called before each access to memory that CPUs share, where somebody explores interleavings.
    pub before_access: Cell<Option<fn()>>,
    /// Devices, routes and neighbours.
    pub network: RefCell<Network>,
    /// The program that runs.
    pub running: Running,
    /// Where the packet is to go that the running program has redirected.
    pub redirect: Cell<Option<Redirect>>,
    /// Copies that `bpf_clone_redirect` has sent, in the order of sending.
    pub clones: RefCell<Vec<Clone>>,
    /// The timer, once it is set up.
    pub timer: Cell<Timer>,
}

/// A `bpf_timer`. The data plane has one.
#[derive(Clone, Copy, Default)]
pub struct Timer {
    /// The callback: map, key and value.
    pub callback: Option<extern "C" fn(*mut (), *mut u32, *mut ()) -> i64>,
    /// The value of the map that the timer stands in.
    pub value: Option<*mut ()>,
    /// When it is due, ns.
    pub due: Option<u64>,
}

/// What a map of one kind holds.
pub trait Storage: Any {
    /// Makes the map what it is before its first use.
    fn clear(&mut self);
}

impl Kernel {
    /// A kernel without devices, a second after its start, with 1,000 jiffies a second.
    pub fn new() -> Self {
        let kernel = Kernel::default();
        kernel.hz.set(1000);
        kernel.restart();
        kernel
    }

    /// Empties every map and sets clock and random numbers back. Devices and routes stay.
    pub fn restart(&self) {
        // SAFETY: programs do not run now, so nobody holds a pointer into a map.
        let maps = unsafe { &mut *self.maps.get() };
        maps.iter_mut().flatten().for_each(|map| map.clear());
        self.now.set(SECOND);
        self.random.set(0x9e37_79b9_7f4a_7c15);
        self.cpu.set(0);
        self.redirect.set(None);
        self.clones.borrow_mut().clear();
        self.timer.set(Timer::default());
    }

    /// Does `work` in this kernel: what programs and maps are asked means this one.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Puts the kernel before back, even after a panic.
        struct Back(*const Kernel);
        impl Drop for Back {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _back = Back(CURRENT.replace(self));
        work()
    }

    /// Jiffies since the start.
    pub fn jiffies(&self) -> u64 {
        self.now.get() / (SECOND / self.hz.get())
    }

    /// A pseudo-random word (xorshift64*).
    pub fn random_word(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Lets time pass, with the timer's callback as often as it is due.
    pub fn pass(&self, nanoseconds: u64) {
        let end = self.now.get() + nanoseconds;
        while let Timer { callback: Some(callback), value: Some(value), due: Some(due) } = self.timer.get()
            && due <= end
        {
            self.now.set(due.max(self.now.get()));
            self.timer.set(Timer { due: None, ..self.timer.get() });
            self.enter(|| callback(ptr::null_mut(), ptr::null_mut(), value));
        }
        self.now.set(end);
    }
}

/// What `work` makes of the kernel that this thread is in.
///
/// # Panics
/// If the thread is in none: see [`Kernel::enter`].
#[inline(always)]
pub fn with<R>(work: impl FnOnce(&Kernel) -> R) -> R {
    // SAFETY: `enter` borrows the kernel for as long as it is current.
    work(unsafe { &*current() })
}

/// The kernel that this thread is in.
#[inline(always)]
fn current() -> *const Kernel {
    let kernel = CURRENT.get();
    assert!(!kernel.is_null(), "no kernel was entered");
    kernel
}

/// A point at which another CPU may go on, where somebody explores interleavings: see [`Kernel::before_access`].
#[inline(always)]
pub fn point() {
    with(|kernel| {
        if let Some(hook) = kernel.before_access.get() {
            kernel.switch(hook);
        }
    });
}

impl Kernel {
    /// Lets others go on, and comes back with what is this CPU's own.
    #[cold]
    fn switch(&self, hook: fn()) {
        let (cpu, redirect, running) = (self.cpu.get(), self.redirect.get(), self.running.state());
        hook();
        self.cpu.set(cpu);
        self.redirect.set(redirect);
        self.running.set_state(running);
    }
}

/// A static map's place in each kernel.
pub struct Place<S> {
    /// The place, plus 1; 0 until the map is used first.
    number: AtomicUsize,
    make: fn() -> S,
    storage: PhantomData<fn() -> S>,
}

impl<S: Storage> Place<S> {
    /// A place, empty in each kernel. `make` makes what stands there.
    pub const fn new(make: fn() -> S) -> Self {
        Place { number: AtomicUsize::new(0), make, storage: PhantomData }
    }

    /// The map in the current kernel. It stays where it is until the kernel is dropped.
    #[inline(always)]
    pub fn get(&self) -> *mut S {
        let number = match self.number.load(Ordering::Relaxed) {
            0 => self.assign(),
            number => number,
        };
        // SAFETY: `enter` borrows the kernel for as long as it is current. One thread at a time is in a kernel, and nobody keeps a
        // reference to the list.
        let maps = unsafe { &mut *(*current()).maps.get() };
        let map = match maps.get_mut(number - 1) {
            Some(Some(map)) => map,
            _ => self.begin(maps, number),
        };
        // A number is one static's, and so the type is its `S`.
        ptr::from_mut(&mut **map).cast::<S>()
    }

    /// Makes the map of this number.
    #[cold]
    fn begin<'a>(&self, maps: &'a mut Vec<Option<Box<dyn Storage>>>, number: usize) -> &'a mut Box<dyn Storage> {
        if number > maps.len() {
            maps.resize_with(number, || None);
        }
        maps[number - 1].get_or_insert_with(|| Box::new((self.make)()))
    }

    #[cold]
    fn assign(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.number.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => number,
            Err(other) => other,
        }
    }
}
