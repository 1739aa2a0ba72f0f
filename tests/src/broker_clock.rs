//! A wrong clock of a running nats-server. libfaketime does not reach it, because it does not
//! use the C library. But it reads the clock by a function that the kernel maps into each
//! process: the vDSO. This overwrites the function in that process alone.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use crate::process::Paused;

/// `clock_gettime` by a system call; the offset, which follows the code, is added to the real
/// time. System V ABI: the clock is in `edi`, 0 is the real time, and `rsi` points to the result,
/// which begins with the seconds.
const CODE: [u8; 24] = [
    0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228
    0x0f, 0x05, // syscall
    0x85, 0xff, // test edi, edi
    0x75, 0x0a, // jnz to the ret
    0x48, 0x8b, 0x0d, 0x06, 0x00, 0x00, 0x00, // mov rcx, [rip + 6]
    0x48, 0x01, 0x0e, // add [rsi], rcx
    0xc3, // ret
    0x90, 0x90,
];
const FUNCTION: &[u8] = b"__vdso_clock_gettime";

/// The clock of one process.
#[derive(Debug)]
pub struct BrokerClock {
    pid: u32,
    memory: File,
    /// The address of the offset.
    offset: u64,
}

impl BrokerClock {
    /// `None` on another processor than x86-64, with an unknown vDSO, or where this user may not
    /// write to the process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return None;
        }
        let memory =
            File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let range = maps.lines().find(|line| line.ends_with("[vdso]"))?.split_once(' ')?.0;
        let (begin, end) = range.split_once('-')?;
        let [begin, end] = [begin, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut image = vec![0; usize::try_from(end - begin).unwrap()];
        memory.read_exact_at(&mut image, begin).ok()?;
        let room = CODE.len() + size_of::<i64>();
        let function = begin + Image(&image).function(FUNCTION, u64::try_from(room).unwrap())?;
        let clock = Self { pid, memory, offset: function + u64::try_from(CODE.len()).unwrap() };
        let _paused = Paused::new([pid]);
        clock.write(clock.offset, &0_i64.to_le_bytes());
        clock.write(function, &CODE);
        Some(clock)
    }

    /// Makes the clock wrong by these seconds.
    pub fn jump(&self, seconds: i64) {
        let _paused = Paused::new([self.pid]);
        self.write(self.offset, &seconds.to_le_bytes());
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        // The kernel gives the process a page of its own.
        self.memory.write_all_at(bytes, address).unwrap();
    }
}

/// An ELF image of 64 bits, as it is in memory.
struct Image<'a>(&'a [u8]);

impl Image<'_> {
    /// The address of a function with at least this size.
    fn function(&self, name: &[u8], size: u64) -> Option<u64> {
        let headers = self.number::<8>(32)?;
        let count = self.number::<2>(56)?;
        let mut headers = (0..count).map(|number| headers + number * 56);
        let dynamic = headers.find(|header| self.number::<4>(*header) == Some(2))?;
        let dynamic = self.number::<8>(dynamic + 16)?;
        let (strings, symbols) = (self.entry(dynamic, 5)?, self.entry(dynamic, 6)?);
        // The names follow the symbols.
        let mut symbols = (symbols..strings).step_by(24);
        let symbol = symbols.find(|symbol| {
            let at = self.number::<4>(*symbol).map(|at| strings + at);
            let found = at.and_then(|at| self.0.get(usize::try_from(at).ok()?..));
            found.is_some_and(|found| found.starts_with(name) && found.get(name.len()) == Some(&0))
        })?;
        (self.number::<8>(symbol + 16)? >= size).then(|| self.number::<8>(symbol + 8))?
    }

    /// The value of the entry with this tag.
    fn entry(&self, dynamic: u64, tag: u64) -> Option<u64> {
        let mut at = dynamic;
        loop {
            match self.number::<8>(at)? {
                0 => return None,
                found if found == tag => return self.number::<8>(at + 8),
                _ => at += 16,
            }
        }
    }

    /// The number of this many bytes.
    fn number<const SIZE: usize>(&self, at: u64) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let mut bytes = [0; 8];
        bytes[..SIZE].copy_from_slice(self.0.get(at..at + SIZE)?);
        Some(u64::from_le_bytes(bytes))
    }
}
