//! A private certificate authority, so that mutual TLS is one command away.
//!
//! Makes files and nothing else: the authority's key stays in its folder, which belongs on no node. Users with an authority of
//! their own issue with that; [`crate::transport::Tls`] says what a node's certificate must contain.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amcp_protocol::NodeName;
use amcp_registry::bus::unix_ms;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use tokio_rustls::rustls::pki_types::DnsName;

use crate::settings::TlsFiles;
use crate::transport::{COMMON_NAME, TlsError, certificates, check, random_bytes, write_secret};

/// The authority's name. Always the same: nodes know the authority by its key, and every issue needs the name again.
const AUTHORITY: &str = "AMCP cluster authority";

/// The authority outlives the machines: a new authority means new files on every node.
const AUTHORITY_DAYS: u64 = 3_650;

/// A node's certificate cannot be revoked, only expire: a year bounds the use of a lost key, and spares operators work.
const NODE_DAYS: u64 = 365;

/// Certificates begin a day early, for machines whose clocks are behind.
const EARLY: Duration = Duration::from_secs(DAY);

const DAY: u64 = 86_400;

/// The error of a certificate or an authority that was not made.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The file exists, and we never overwrite one.
    #[error("the file {} exists already", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A certificate cannot name this node.
    #[error("a certificate cannot name the node {name}: {reason}")]
    Name {
        /// The name.
        name: NodeName,
        /// The fault, in words.
        reason: &'static str,
    },
    /// A certificate cannot hold this host.
    #[error("the certificate cannot hold the host {host:?}: {reason}")]
    Host {
        /// The host.
        host: String,
        /// The fault, in words.
        reason: &'static str,
    },
    /// The authority's key file holds no key.
    #[error("{} is not the key of an authority: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The fault, in words.
        reason: String,
    },
    /// The TLS library cannot make the certificate.
    #[error("the TLS library cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The authority's certificate and key do not belong together.
    #[error(transparent)]
    Check(#[from] TlsError),
}

impl CertError {
    /// The user's remedy.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Exists(_) => {
                "certificates are never overwritten: remove the file first if no node uses it, or choose another folder"
            }
            Self::File { .. } | Self::Key { .. } => {
                "make an authority with `amcp cluster certs init --out DIR`, and issue from the same folder"
            }
            Self::Name { .. } => "give the node another name",
            Self::Host { .. } => {
                "nodes do not need hosts, only other tools do: leave the host out, or give an IP address or a full host name"
            }
            Self::Make(_) => "this is a fault in AMCP: please report it",
            Self::Check(error) => return error.hint(),
        }
        .to_owned()
    }
}

/// The authority's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFiles {
    /// The authority's certificate, for every node.
    pub cert: PathBuf,
    /// The authority's key, for no node.
    pub key: PathBuf,
}

fn authority_files(dir: &Path) -> AuthorityFiles {
    AuthorityFiles {
        cert: dir.join("ca.pem"),
        key: dir.join("ca.key"),
    }
}

/// Makes an authority: `ca.pem`, and `ca.key` that only its owner may read.
///
/// # Errors
/// The folder holds an authority already, or cannot be written.
pub fn init(dir: &Path) -> Result<AuthorityFiles, CertError> {
    let files = authority_files(dir);
    must_be_new(&[&files.cert, &files.key])?;
    fs::create_dir_all(dir).map_err(at(dir))?;
    let key = new_key()?;
    let certificate = lasting(authority_params(), AUTHORITY_DAYS).self_signed(&key)?;
    write(&files.cert, &files.key, &certificate, &key)?;
    Ok(files)
}

/// Issues a node's certificate: `NAME.pem`, and `NAME.key` that only its owner may read. It is also valid for the names and
/// addresses in `hosts`, which nodes do not need.
///
/// # Errors
/// The node has a certificate already, the folder holds no authority, or a certificate cannot hold a name.
pub fn issue(dir: &Path, name: &NodeName, hosts: &[String]) -> Result<TlsFiles, CertError> {
    let authority = authority_files(dir);
    let names = subject_names(name, hosts)?;
    let files = TlsFiles {
        ca: authority.cert,
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    must_be_new(&[&files.cert, &files.key])?;
    let roots = certificates("certificate of the authority", &files.ca)?;
    let pem = fs::read_to_string(&authority.key).map_err(at(&authority.key))?;
    let signer = KeyPair::from_pem(&pem).map_err(|error| CertError::Key {
        path: authority.key,
        reason: error.to_string(),
    })?;

    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params
        .distinguished_name
        .push(DnType::CommonName, name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node both dials and accepts.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = new_key()?;
    let issuer = Issuer::new(authority_params(), signer);
    let certificate = lasting(params, NODE_DAYS).signed_by(&key, &issuer)?;
    // Also finds an authority from elsewhere, and one whose two files do not belong together.
    check(&files, name, &roots, &[certificate.der().clone()])?;
    write(&files.cert, &files.key, &certificate, &key)?;
    Ok(files)
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, AUTHORITY);
    // It signs nodes only, no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn lasting(mut params: CertificateParams, days: u64) -> CertificateParams {
    let now = Duration::from_millis(u64::try_from(unix_ms()).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(EARLY);
    params.not_after = epoch + now + Duration::from_secs(days * DAY);
    let mut serial: [u8; 16] = random_bytes();
    // A serial number is positive.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn subject_names(name: &NodeName, hosts: &[String]) -> Result<Vec<SanType>, CertError> {
    let unnamed = |reason| CertError::Name {
        name: name.clone(),
        reason,
    };
    if [COMMON_NAME, "ca"].contains(&name.as_str()) {
        return Err(unnamed("the name is reserved"));
    }
    if DnsName::try_from(name.as_str()).is_err() {
        return Err(unnamed("it must be a DNS name, with a letter in it"));
    }
    let mut names = vec![
        SanType::DnsName(COMMON_NAME.try_into()?),
        SanType::DnsName(name.as_str().try_into()?),
    ];
    for host in hosts {
        let wrong = |reason| CertError::Host {
            host: host.clone(),
            reason,
        };
        names.push(if let Ok(ip) = host.parse::<IpAddr>() {
            SanType::IpAddress(ip)
        } else if DnsName::try_from(host.as_str()).is_err() {
            return Err(wrong("it is neither an IP address nor a host name"));
        } else if host.contains('.') {
            SanType::DnsName(host.as_str().try_into()?)
        } else {
            return Err(wrong(
                "the node could then greet under that name as another node",
            ));
        });
    }
    Ok(names)
}

fn must_be_new(paths: &[&Path]) -> Result<(), CertError> {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Err(CertError::Exists(path.to_path_buf())),
        None => Ok(()),
    }
}

fn write(cert: &Path, key: &Path, made: &Certificate, pair: &KeyPair) -> Result<(), CertError> {
    write_secret(key, &pair.serialize_pem()).map_err(at(key))?;
    fs::File::create_new(cert)
        .and_then(|mut file| file.write_all(made.pem().as_bytes()))
        .map_err(at(cert))
}

fn at(path: &Path) -> impl Fn(io::Error) -> CertError {
    move |source| CertError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Tls;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn issued_certificates_are_accepted_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            issue(dir.path(), &name("a"), &[]),
            Err(CertError::Check(TlsError::File { .. }))
        ));
        let authority = init(dir.path()).unwrap();
        assert!(matches!(init(dir.path()), Err(CertError::Exists(_))));
        let hosts = ["10.0.0.7", "::1", "db1.internal"].map(String::from);
        let files = issue(dir.path(), &name("a"), &hosts).unwrap();
        Tls::load(&files, &name("a")).unwrap();
        assert!(matches!(
            issue(dir.path(), &name("a"), &[]),
            Err(CertError::Exists(_))
        ));
        #[cfg(unix)]
        for key in [&authority.key, &files.key] {
            let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(key).unwrap());
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
    }

    #[test]
    fn names_that_would_speak_for_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        for reserved in [COMMON_NAME, "ca", "7"] {
            let refused = issue(dir.path(), &name(reserved), &[]);
            assert!(matches!(refused, Err(CertError::Name { .. })), "{reserved}");
        }
        for host in ["b", "amcp-node", "no host", ""] {
            let refused = issue(dir.path(), &name("a"), &[host.to_owned()]);
            assert!(matches!(refused, Err(CertError::Host { .. })), "{host}");
        }
    }

    #[test]
    fn files_of_two_authorities_are_told_apart() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        init(one.path()).unwrap();
        let other = init(two.path()).unwrap();
        fs::copy(other.key, one.path().join("ca.key")).unwrap();
        assert!(matches!(
            issue(one.path(), &name("a"), &[]),
            Err(CertError::Check(TlsError::NotAccepted { .. }))
        ));
        assert!(!one.path().join("a.pem").exists());
    }

    #[test]
    fn unusable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        let a = issue(dir.path(), &name("a"), &[]).unwrap();
        let b = issue(dir.path(), &name("b"), &[]).unwrap();
        let load = |files: TlsFiles| Tls::load(&files, &name("a")).unwrap_err();
        let crossed = TlsFiles {
            key: b.key.clone(),
            ..a.clone()
        };
        assert!(matches!(load(crossed), TlsError::KeyMismatch { .. }));
        let TlsError::NotThisNode { names, .. } = load(b) else {
            panic!("it is another node's");
        };
        assert_eq!(names, [COMMON_NAME, "b"]);
        let missing = TlsFiles {
            key: dir.path().join("none.key"),
            ..a.clone()
        };
        let error = load(missing);
        assert!(error.to_string().contains("none.key"), "{error}");
        let no_key = TlsFiles {
            key: a.cert.clone(),
            ..a.clone()
        };
        assert!(matches!(load(no_key), TlsError::File { .. }));

        let params = |days| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = subject_names(&name("a"), &[]).unwrap();
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days * DAY);
            params
        };
        let ca_key = fs::read_to_string(dir.path().join("ca.key")).unwrap();
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&ca_key).unwrap());
        let key = KeyPair::from_pem(&fs::read_to_string(&a.key).unwrap()).unwrap();
        let old = params(18_262).signed_by(&key, &issuer).unwrap();
        fs::write(&a.cert, old.pem()).unwrap();
        assert!(matches!(load(a), TlsError::Expired { .. }));
    }
}
