//! The cookie: the secret of all nodes of a mesh, strong enough that a recorded greeting does not help to find it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio_rustls::rustls::crypto::aws_lc_rs;

/// 128 bits, four to a hexadecimal digit.
const MIN_HEX: usize = 32;

/// 128 bits, six to a character of base64.
const MIN_OTHER: usize = 22;

/// Of 10^11 random texts of 22 characters of base64, one has fewer different characters; words written three times often do.
const MIN_DIFFERENT: usize = 8;

/// The error of an unusable cookie.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// An attacker could guess the cookie.
    #[error(
        "the cookie is too weak: {0}; at least 128 random bits are needed (make one with `openssl rand -hex 32`)"
    )]
    Weak(String),
    /// The cookie's file cannot be read or made.
    #[error("the cookie file {} cannot be {what}: {source}", path.display())]
    File {
        /// `read` or `made`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Checks that a cookie has 128 bits, as far as its text shows.
///
/// # Errors
/// [`CookieError::Weak`]
pub fn check_cookie(cookie: &str) -> Result<(), CookieError> {
    let length = cookie.chars().count();
    let hex = cookie.chars().all(|c| c.is_ascii_hexdigit());
    let needed = if hex { MIN_HEX } else { MIN_OTHER };
    if length < needed {
        let kind = if hex {
            "hexadecimal digits"
        } else {
            "characters"
        };
        return Err(CookieError::Weak(format!(
            "it has {length} {kind}, fewer than {needed}"
        )));
    }
    let mut different: Vec<char> = cookie.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT {
        return Err(CookieError::Weak(format!(
            "it has only {} different characters",
            different.len()
        )));
    }
    Ok(())
}

/// Reads the cookie in a file. Without a file, makes one that only its owner may read, with a random cookie. Several nodes that
/// start at once get the same cookie.
///
/// # Errors
/// The file cannot be read or made, or holds a weak cookie.
pub fn load_or_make_cookie(path: &Path) -> Result<String, CookieError> {
    let file = |what| {
        move |source| CookieError::File {
            what,
            path: path.to_owned(),
            source,
        }
    };
    if !path.exists() {
        make(path).map_err(file("made"))?;
    }
    let text = fs::read_to_string(path).map_err(file("read"))?;
    let cookie = text.trim().to_owned();
    check_cookie(&cookie)?;
    Ok(cookie)
}

/// Makes the file whole or not at all: written aside, then linked to its name, which fails if another node was faster.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", hex(&random_bytes::<8>())));
    let aside = PathBuf::from(aside);
    let linked = write_secret(&aside, &format!("{}\n", hex(&random_bytes::<32>())))
        .and_then(|()| fs::hard_link(&aside, path));
    // The file may not exist; `linked` has the error that matters.
    let _ = fs::remove_file(&aside);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes a new file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The cookie for ractor_cluster: another one, because its own challenge has only 32 bits and must not help to find ours.
#[must_use]
pub fn session_cookie(cookie: &str) -> String {
    hex(&mac(cookie)
        .chain_update(b"ractor_cluster")
        .finalize()
        .into_bytes())
}

pub(crate) fn mac(cookie: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(cookie.as_bytes()).expect("HMAC takes keys of every length")
}

/// Random bytes from the operating system's secure source.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system's source of randomness does not fail once it is up");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
