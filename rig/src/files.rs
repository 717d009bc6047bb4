//! How many files may be open.

use anyhow::ensure;

/// Beside the sockets, and one for each ten of them.
const SPARE: usize = 500;

/// Each socket is a file here and one in a server, which inherits the limit.
///
/// # Errors
/// When so many sockets cannot be opened; says what to do.
pub fn check_open_files(sockets: usize) -> anyhow::Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files")).unwrap_or_default();
    let soft: usize = line.split_whitespace().next().unwrap_or_default().parse().unwrap_or(usize::MAX);
    let wanted = sockets + sockets / 10 + SPARE;
    ensure!(
        soft >= wanted,
        "only {soft} files may be open, {wanted} are needed; run `ulimit -n {wanted}` first"
    );
    Ok(())
}
