//! One file of the journal: records that are appended and synced, read once after a crash, and wiped when they are in
//! the store. All of it blocks; the callers are on threads that may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first bytes of every segment: what it is and which version.
const MAGIC: &[u8; 8] = b"cimaseg1";
/// A record is not larger; a length beyond is damage.
const LARGEST: usize = 64 * 1024 * 1024;
/// What is written over a segment at a time.
static BLANK: [u8; 64 * 1024] = [0; 64 * 1024];

/// A segment that is being written.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: Arc<File>,
}

impl Segment {
    /// Makes a new one, readable by its owner alone, that is there after a power cut.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = folder.join(format!("{number:020}.fixes"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(MAGIC)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self { path, file: Arc::new(file) })
    }

    /// Appends a record. It is on the disk when this returns. After an error the segment takes no more: what is behind
    /// a torn record would not be found again.
    pub(super) fn append(&self, payload: &[u8]) -> io::Result<()> {
        let length =
            u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut record = Vec::with_capacity(payload.len() + 8);
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        record.extend_from_slice(payload);
        (&*self.file).write_all(&record)?;
        self.file.sync_data()
    }
}

/// The segments of a folder, oldest first, with their numbers.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(".fixes").and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a segment record by record. Where it ends in the middle of one, or in one that was damaged, it ends before it:
/// that record was never acked, or the disk has lost it. Returns whether it ended so.
pub(super) fn read(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let mut magic = [0; 8];
    if !filled(&mut file, &mut magic)? {
        return Ok(true);
    }
    if &magic != MAGIC {
        // Wiped in part: all of it is in the store.
        return Ok(magic != [0; 8]);
    }
    loop {
        let mut head = [0; 8];
        match file.read(&mut head[..1])? {
            0 => return Ok(false),
            _ if !filled(&mut file, &mut head[1..])? => return Ok(true),
            _ => {}
        }
        let [a, b, c, d, e, f, g, h] = head;
        let (length, crc) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]));
        if length > LARGEST {
            return Ok(true);
        }
        let mut payload = vec![0; length];
        if !filled(&mut file, &mut payload)? || crc32fast::hash(&payload) != crc {
            return Ok(true);
        }
        each(&payload);
    }
}

fn filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a segment whose fixes are in the store, and overwrites it first: no coordinate stays behind on the disk.
pub(super) fn shred(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(BLANK.len());
        file.write_all(&BLANK[..piece])?;
        left -= piece as u64;
    }
    file.sync_data()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &Path) -> (Vec<Vec<u8>>, bool) {
        let mut found = Vec::new();
        let torn = read(path, |payload| found.push(payload.to_vec())).unwrap();
        (found, torn)
    }

    #[test]
    fn records_are_read_back_up_to_where_a_write_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::create(folder.path(), 7).unwrap();
        segment.append(b"first").unwrap();
        segment.append(b"").unwrap();
        segment.append(b"third and last").unwrap();
        let all = [b"first".to_vec(), Vec::new(), b"third and last".to_vec()];
        assert_eq!(records(&segment.path), (all.to_vec(), false));
        assert_eq!(list(folder.path()).unwrap(), [(7, segment.path.clone())]);
        let whole = fs::read(&segment.path).unwrap();
        let ends = [8, 8 + 8 + 5, 8 + 8 + 5 + 8, whole.len()];
        for length in 0..whole.len() {
            fs::write(&segment.path, &whole[..length]).unwrap();
            let (found, torn) = records(&segment.path);
            let complete = ends[1..].iter().filter(|end| **end <= length).count();
            assert_eq!(found, all[..complete], "cut at {length}");
            assert_eq!(torn, !ends.contains(&length), "cut at {length}");
        }
    }

    #[test]
    fn a_damaged_record_ends_the_segment() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::create(folder.path(), 1).unwrap();
        segment.append(b"first").unwrap();
        segment.append(b"second").unwrap();
        let whole = fs::read(&segment.path).unwrap();
        for byte in 8 + 8 + 5..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x40;
            fs::write(&segment.path, damaged).unwrap();
            assert_eq!(records(&segment.path), (vec![b"first".to_vec()], true), "byte {byte}");
        }
    }

    #[test]
    fn what_is_wiped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::create(folder.path(), 1).unwrap();
        segment.append(&[b'x'; 200_000]).unwrap();
        let link = folder.path().join("link");
        fs::hard_link(&segment.path, &link).unwrap();
        shred(&segment.path).unwrap();
        assert!(!segment.path.exists());
        assert!(fs::read(&link).unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(records(&link), (vec![], false));
    }
}
