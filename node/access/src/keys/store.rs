//! The file of the keys: written by one command at a time, watched by a running node.
//!
//! Does not decide which key is valid; [`super::KeyRing`] does.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use amcp_protocol::Principal;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, KeyError, KeyRing, MAX_KEYS};
use crate::Refusal;
use crate::files::{make_private_folder, private_file, replace};

/// A revoked key is refused within a second, also on a busy machine.
const LOOK: Duration = Duration::from_millis(500);

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<K> {
    version: u32,
    keys: Vec<K>,
}

/// `keys.json` in the data folder.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The file in a data folder. Touches nothing.
    #[must_use]
    pub fn in_data(folder: &Path) -> Self {
        Self(folder.join("keys.json"))
    }

    /// The keys in the file; none without a file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(&self) -> Result<KeyRing, KeyError> {
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeyRing::default()),
            read => read.map_err(|source| self.trouble(source))?,
        };
        parse(&text).map_err(|reason| KeyError::Content {
            path: self.0.display().to_string(),
            reason,
        })
    }

    /// Changes the keys; none of several changes at once is lost. Only the owner may read the file and its folder if they are new.
    ///
    /// # Errors
    /// Those of the change, after which the file is as it was, and of the file.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut KeyRing) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        let trouble = |source| self.trouble(source);
        make_private_folder(folder).map_err(trouble)?;
        let lock = self.0.with_extension("lock");
        // Its own file: a change replaces the other one, and would free the lock with it.
        let lock = private_file(&lock).map_err(trouble)?;
        lock.lock().map_err(trouble)?;
        let mut ring = self.read()?;
        let changed = change(&mut ring)?;
        self.write(&ring).map_err(trouble)?;
        Ok(changed)
    }

    fn write(&self, ring: &KeyRing) -> io::Result<()> {
        let content = Content {
            version: VERSION,
            keys: ring.keys(),
        };
        replace(&self.0, |aside| {
            serde_json::to_writer_pretty(&mut *aside, &content)?;
            aside.write_all(b"\n")
        })
    }

    fn trouble(&self, source: io::Error) -> KeyError {
        KeyError::File {
            path: self.0.display().to_string(),
            source,
        }
    }

    /// Changes with each change of the file; none without one.
    fn look(&self) -> io::Result<Option<Seen>> {
        match fs::metadata(&self.0) {
            Ok(found) => Ok(Some(Seen {
                modified: found.modified()?,
                size: found.len(),
                inode: found.ino(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    modified: SystemTime,
    size: u64,
    inode: u64,
}

fn parse(text: &[u8]) -> Result<KeyRing, String> {
    let content: Content<Key> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("this build reads version {VERSION} only"));
    }
    if content.keys.len() > MAX_KEYS {
        return Err(format!("it has more than {MAX_KEYS} keys"));
    }
    let mut ids = HashSet::new();
    let mut ring = KeyRing::default();
    for key in content.keys {
        let id = key.id.clone();
        if !ids.insert(id.clone()) {
            return Err(format!("two keys have the id {id}"));
        }
        ring.put(key)
            .map_err(|fault| format!("key {id}: {fault}"))?;
    }
    Ok(ring)
}

/// The keys of a running node. A thread follows the file, so that no check waits for a disk.
#[derive(Debug)]
pub struct Keys {
    current: Arc<ArcSwap<KeyRing>>,
    /// Ends the thread when it is dropped.
    _stop: mpsc::Sender<()>,
}

impl Keys {
    /// Reads the file and follows it from now on. While it is unreadable or broken, the keys of the last good one count.
    ///
    /// # Errors
    /// Those of [`KeyFile::read`]; the system starts no thread.
    pub fn open(file: KeyFile) -> Result<Self, KeyError> {
        let trouble = |source| file.trouble(source);
        // Looked at before it is read: a change in between is read twice.
        let seen = file.look().map_err(trouble)?;
        let current = Arc::new(ArcSwap::from_pointee(file.read()?));
        let (stop, stopped) = mpsc::channel::<()>();
        let (watched, followed) = (Arc::clone(&current), file.clone());
        let watch = move || {
            let mut last = Followed {
                seen: Some(seen),
                ..Followed::default()
            };
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                follow(&followed, &mut last, &watched);
            }
        };
        let thread = thread::Builder::new().name("amcp-keys".to_owned());
        thread.spawn(watch).map_err(trouble)?;
        Ok(Self {
            current,
            _stop: stop,
        })
    }

    /// Finds the user that a key's text proves; see [`KeyRing::check`].
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(&self, text: &str, now: Timestamp) -> Result<Arc<Principal>, Refusal> {
        self.current.load().check(text, now)
    }

    /// The keys of a file; without a file no key is valid.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn of(file: Option<KeyFile>) -> Result<Self, KeyError> {
        match file {
            Some(file) => Self::open(file),
            None => Ok(Self {
                current: Arc::default(),
                _stop: mpsc::channel().0,
            }),
        }
    }

    /// Whether any key is valid.
    #[must_use]
    pub fn has_any(&self, now: Timestamp) -> bool {
        let ring = self.current.load();
        ring.keys().iter().any(|key| !key.has_ended(now))
    }
}

/// What the thread knows: the state of the file that it read last, and the trouble that it reported since.
#[derive(Default)]
pub(super) struct Followed {
    seen: Option<Option<Seen>>,
    pub(super) trouble: Option<String>,
}

pub(super) fn follow(file: &KeyFile, last: &mut Followed, current: &ArcSwap<KeyRing>) {
    let read = match file.look() {
        Ok(seen) if last.seen.as_ref() == Some(&seen) => return,
        Ok(seen) => file.read().map(|ring| (seen, ring)),
        Err(error) => Err(file.trouble(error)),
    };
    match read {
        Ok((seen, ring)) => {
            tracing::info!(keys = ring.0.len(), "the keys were read again");
            current.store(Arc::new(ring));
            *last = Followed {
                seen: Some(seen),
                trouble: None,
            };
        }
        Err(error) => {
            let error = error.to_string();
            if last.trouble.as_ref() != Some(&error) {
                tracing::error!("the keys of the last good file stay valid: {error}");
            }
            *last = Followed {
                seen: None,
                trouble: Some(error),
            };
        }
    }
}
