//! A disk that forgets what was not synced when the power is cut, and tears what was being written.
//!
//! redb runs on it as on a file. Between two syncs every write of 512 bytes may reach the platter or not, each by itself,
//! which is what a disk with a cache may do. After a cut the old handles fail for good, as for a process that is gone;
//! what is opened next sees the platter.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use parking_lot::Mutex;
use redb::StorageBackend;

/// What reaches the platter whole or not at all.
const SECTOR: usize = 512;

/// A write that is not synced yet.
enum Write {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

#[derive(Default)]
struct File {
    /// What survives.
    platter: Vec<u8>,
    /// What is read while the power is on.
    cache: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<&'static str, File>,
    /// Counts cuts: a handle of an older life fails.
    life: u64,
    /// The power fails in the course of the sync after so many others.
    fuse: Option<u32>,
    seed: u64,
}

/// A member's disk: its files by name.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

/// An open file of one life.
pub struct Handle {
    disk: Disk,
    name: &'static str,
    life: u64,
}

impl Disk {
    /// Empty; `seed` decides what a cut tears.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner { seed, ..Inner::default() })))
    }

    /// A file, new or as it survived.
    pub fn open(&self, name: &'static str) -> Handle {
        let mut inner = self.0.lock();
        inner.files.entry(name).or_default();
        Handle { disk: self.clone(), name, life: inner.life }
    }

    /// The life that began with the last cut.
    pub fn life(&self) -> u64 {
        self.0.lock().life
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.0.lock().cut();
    }

    /// Cuts it in the course of a sync, after so many others.
    pub fn fuse(&self, syncs: u32) {
        self.0.lock().fuse = Some(syncs);
    }

    /// Wipes it.
    pub fn wipe(&self) {
        let mut inner = self.0.lock();
        inner.cut();
        inner.files.clear();
    }
}

impl Inner {
    fn cut(&mut self) {
        self.life += 1;
        self.fuse = None;
        for file in self.files.values_mut() {
            for (at, write) in std::mem::take(&mut file.unsynced).into_iter().enumerate() {
                let mut dice = fastrand::Rng::with_seed(self.seed ^ self.life << 32 ^ at as u64);
                match write {
                    Write::Length(length) => file.platter.resize(length, 0),
                    Write::Bytes(offset, bytes) => tear(&mut file.platter, offset, &bytes, &mut dice),
                }
            }
            file.cache.clone_from(&file.platter);
        }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if let Some(left) = self.fuse {
            if left == 0 {
                self.cut();
                return Err(io::Error::other("the power is cut"));
            }
            self.fuse = Some(left - 1);
        }
        let Some(file) = self.files.get_mut(name) else { return Ok(()) };
        for write in std::mem::take(&mut file.unsynced) {
            match write {
                Write::Length(length) => file.platter.resize(length, 0),
                Write::Bytes(offset, bytes) => put(&mut file.platter, offset, &bytes),
            }
        }
        Ok(())
    }
}

/// Of a write that was under way, some sectors are there and some are not.
fn tear(platter: &mut Vec<u8>, offset: usize, bytes: &[u8], dice: &mut fastrand::Rng) {
    let whole = dice.u8(..3);
    for (at, sector) in bytes.chunks(SECTOR).enumerate() {
        if whole == 0 || whole == 1 && dice.bool() {
            put(platter, offset + at * SECTOR, sector);
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.0.lock();
        if inner.life != self.life {
            return Err(io::Error::other("the power is cut"));
        }
        act(inner.files.get_mut(self.name).ok_or_else(|| io::Error::other("the file is gone"))?)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of life {}", self.name, self.life)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.cache.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file| {
            let from = offset as usize;
            let bytes = file.cache.get(from..from + out.len());
            out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|file| {
            file.cache.resize(length as usize, 0);
            file.unsynced.push(Write::Length(length as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|_| Ok(()))?;
        self.disk.0.lock().sync(self.name)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|file| {
            put(&mut file.cache, offset as usize, data);
            file.unsynced.push(Write::Bytes(offset as usize, data.to_vec()));
            Ok(())
        })
    }
}
