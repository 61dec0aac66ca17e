//! The memory and processor time of a process, from /proc; none on systems without /proc.
//!
//! Does not divide them among the parts of the process.

use std::time::Duration;

/// Resident bytes of this process.
#[must_use]
pub fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // The page size of x86-64; too low for larger pages.
    Some(pages * 4096)
}

/// A line of /proc/PID/status in bytes, such as `VmHWM` (most ever resident).
#[must_use]
pub fn status(pid: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The processor time of this process, in steps of 10 ms. Unlike wall-clock time it does not grow with the load of others.
#[must_use]
pub fn processor() -> Option<Duration> {
    processor_of("self")
}

/// The processor time of another process, by its id.
#[must_use]
pub fn processor_of(pid: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields
        .split(' ')
        .skip(11)
        .map_while(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis((ticks.next()? + ticks.next()?) * 10))
}
