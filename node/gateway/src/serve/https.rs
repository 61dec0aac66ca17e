//! TLS for a listener: certificate, key and the authority of clients from files, which are read again when they change.
//!
//! Does not know users: a client's certificate lets it connect and proves nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use amcp_protocol::{ErrorCode, Failure};
use axum::http::StatusCode;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::stream::{MAX_HEAD, response};

/// Time between two looks at the files: a renewed certificate serves at once, as far as people notice.
const LOOK: Duration = Duration::from_secs(1);
/// The first byte of a handshake (RFC 8446 §5.1); no HTTP request begins with it.
const HANDSHAKE: u8 = 22;

/// The files of a listener with TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsFiles {
    /// The listener's certificate, and behind it those of the authorities between it and a root.
    pub cert: PathBuf,
    /// The certificate's key, without a password.
    pub key: PathBuf,
    /// The authorities of clients: with them, a client without a certificate of theirs cannot connect.
    pub client_ca: Option<PathBuf>,
}

/// A listener's side of TLS 1.2 and 1.3.
pub struct Https {
    files: HttpsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// The files' state before they were last read, also if they were unusable.
    seen: Vec<Option<Seen>>,
}

/// Changes with each change of a file: when it was written, its length, and its number in the file system.
type Seen = (SystemTime, u64, u64);

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Https").field(&self.files).finish()
    }
}

impl Https {
    /// Reads the files.
    ///
    /// # Errors
    /// The file, its line and the fault.
    pub fn open(files: HttpsFiles) -> Result<Arc<Self>, String> {
        let seen = files.look();
        let config = Arc::new(files.read()?);
        let current = Mutex::new(Current { config, seen });
        Ok(Arc::new(Self { files, current }))
    }

    /// Reads the files again; connections from now on get what they hold.
    ///
    /// # Errors
    /// The file, its line and the fault; the old certificate stays.
    pub fn reread(&self) -> Result<(), String> {
        let seen = self.files.look();
        let read = self.files.read();
        let mut current = self.lock();
        current.seen = seen;
        current.config = Arc::new(read?);
        Ok(())
    }

    /// Reads the files again whenever they change.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            let https = Arc::clone(&self);
            // Disks may be slow. A panic in there leaves the old certificate.
            let _ = tokio::task::spawn_blocking(move || https.look()).await;
        }
    }

    fn look(&self) {
        if self.files.look() == self.lock().seen {
            return;
        }
        match self.reread() {
            Ok(()) => {
                tracing::info!(cert = %self.files.cert.display(), "the certificate for HTTPS was read again")
            }
            Err(fault) => {
                tracing::error!(
                    "the new certificate for HTTPS is unusable, and the old one stays: {fault}"
                );
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a handshake out; the caller bounds its time.
    ///
    /// # Errors
    /// The client broke off, speaks no TLS, or has no certificate of the right authority.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first != [HANDSHAKE] {
            let failure = Failure::new(ErrorCode::BadRequest, "this address speaks HTTPS only")
                .hint("begin the URL with https://");
            // Reset by bytes that nobody read, the client would not see the answer.
            let _ = stream.try_read(&mut [0; MAX_HEAD]);
            let _ = stream.try_write(&response(StatusCode::BAD_REQUEST, failure));
            return Err(io::Error::other("it speaks no TLS"));
        }
        let config = Arc::clone(&self.lock().config);
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl HttpsFiles {
    fn look(&self) -> Vec<Option<Seen>> {
        let paths = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| seen(path)).collect()
    }

    fn read(&self) -> Result<ServerConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&self.cert)?;
        let mut keys = items::<PrivateKeyDer<'static>>(&self.key, "private key")?.into_iter();
        let (line, key) = keys.next().expect("there is one, else it is an error");
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| format!("{}: {error}", path.display()))?;
                }
                let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let clients = clients.build();
                builder.with_client_cert_verifier(
                    clients.map_err(|error| format!("{}: {error}", path.display()))?,
                )
            }
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| {
            if matches!(error, Error::InconsistentKeys(_)) {
                let (key, cert) = (self.key.display(), self.cert.display());
                return format!("the key {key} does not belong to the certificate {cert}");
            }
            fault(&self.key, line, &error.to_string())
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn seen(path: &Path) -> Option<Seen> {
    let found = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&found);
    #[cfg(not(unix))]
    let number = 0;
    Some((found.modified().ok()?, found.len(), number))
}

fn fault(path: &Path, line: usize, fault: &str) -> String {
    format!("{}, line {line}: {fault}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = items::<CertificateDer<'static>>(path, "certificate")?;
    let sound = found.into_iter().map(|(line, certificate)| {
        ParsedCertificate::try_from(&certificate)
            .map_err(|error| fault(path, line, &format!("no certificate begins here: {error}")))?;
        Ok(certificate)
    });
    sound.collect()
}

/// The sections of one kind in a file, with the lines on which they begin; at least one.
fn items<T: PemObject>(path: &Path, kind: &str) -> Result<Vec<(usize, T)>, String> {
    let unreadable = |error: io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let (mut found, mut section, mut begun) = (Vec::new(), String::new(), None);
    for (number, line) in (1..).zip(text.lines()) {
        let (begins, ends) = (
            line.starts_with("-----BEGIN "),
            line.starts_with("-----END "),
        );
        match begun {
            None if ends => return Err(fault(path, number, "this ends what never began")),
            Some(_) if begins => {
                return Err(fault(path, number, "this begins before the last one ended"));
            }
            Some(_) if !ends && !line.trim_end().bytes().all(is_base64) => {
                let hint = "this is no base64, or the key has a password";
                return Err(fault(path, number, hint));
            }
            None if begins => begun = Some(number),
            None => continue,
            Some(_) => {}
        }
        section.push_str(line);
        section.push('\n');
        if let (true, Some(number)) = (ends, begun) {
            match T::from_pem_slice(section.as_bytes()) {
                Ok(item) => found.push((number, item)),
                Err(pem::Error::NoItemsFound) => {}
                Err(error) => return Err(fault(path, number, &error.to_string())),
            }
            section.clear();
            begun = None;
        }
    }
    match begun {
        Some(number) => Err(fault(path, number, "what begins here has no end")),
        None if found.is_empty() => Err(format!(
            "{}: there is no {kind} in PEM, or it has a password",
            path.display()
        )),
        None => Ok(found),
    }
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}
