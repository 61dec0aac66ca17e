//! Mutual TLS between nodes: only TLS 1.3, only certificates of the mesh's own authority, each with its node's name.
//!
//! Nodes are dialled by address, so every node's certificate carries [`COMMON_NAME`], which the dialler asks for, and the
//! node's own name, which both sides compare with the greeting. Neither issues nor revokes certificates: a lost key means a new
//! authority.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::NodeName;
use amcp_registry::bus::unix_ms;
use ractor_cluster::IncomingEncryptionMode;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::settings::TlsFiles;

/// The name for which every node's certificate is valid, whatever its address. No node may have this name.
pub const COMMON_NAME: &str = "amcp-node";

/// The error of unusable files of mutual TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or not PEM.
    #[error("the {what} {} cannot be read: {reason}", path.display())]
    File {
        /// `certificate`, `key of the certificate`, `certificate of the authority`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The fault, in words.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the key {} does not belong to the certificate {}", key.display(), cert.display())]
    KeyMismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        cert: PathBuf,
    },
    /// The certificate is another node's, or no node's.
    #[error("the certificate {} is not for the node {name}, but for {}", cert.display(), names.join(", "))]
    NotThisNode {
        /// The certificate.
        cert: PathBuf,
        /// This node.
        name: NodeName,
        /// The names for which the certificate is valid.
        names: Vec<String>,
    },
    /// The certificate, or the authority's, has expired.
    #[error("the certificate {} or the authority's has expired", cert.display())]
    Expired {
        /// The certificate.
        cert: PathBuf,
    },
    /// The authority did not sign the certificate, or the certificate is unusable otherwise.
    #[error("the certificate {} is not valid under the authority {}: {reason}", cert.display(), ca.display())]
    NotAccepted {
        /// The certificate.
        cert: PathBuf,
        /// The authority.
        ca: PathBuf,
        /// The fault, in words.
        reason: String,
    },
}

impl TlsError {
    /// The user's remedy.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::File { .. } => {
                "make an authority with `amcp cluster certs init --out DIR`, then a certificate with `amcp cluster certs issue NAME`"
                    .to_owned()
            }
            Self::KeyMismatch { .. } => {
                "give the certificate and the key of the same `amcp cluster certs issue`".to_owned()
            }
            Self::NotThisNode { name, .. } => {
                format!("issue one with `amcp cluster certs issue {name}`")
            }
            Self::Expired { .. } => {
                "issue a new one with `amcp cluster certs issue`; check the machine's clock".to_owned()
            }
            Self::NotAccepted { .. } => {
                "all nodes need certificates of the same authority, made by `amcp cluster certs issue`"
                    .to_owned()
            }
        }
    }
}

/// A node's side of mutual TLS.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
    /// The node's certificate and its key.
    pub(crate) own: Arc<CertifiedKey>,
}

amcp_protocol::opaque_debug!(Tls);

impl Tls {
    /// Reads the files and checks that the other nodes will accept them.
    ///
    /// # Errors
    /// A file cannot be read, or the certificate is not valid today, for `name` and under this authority.
    pub fn load(files: &TlsFiles, name: &NodeName) -> Result<Self, TlsError> {
        let authority = certificates("certificate of the authority", &files.ca)?;
        let chain = certificates("certificate", &files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(unreadable("key of the certificate", &files.key))?;
        check(files, name, &authority, &chain)?;

        let refused = |reason: String| TlsError::NotAccepted {
            cert: files.cert.clone(),
            ca: files.ca.clone(),
            reason,
        };
        // After the checks above, only a wrong key is left to refuse.
        let mismatch = |_| TlsError::KeyMismatch {
            key: files.key.clone(),
            cert: files.cert.clone(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in authority {
            roots.add(certificate).map_err(|e| refused(e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|e| refused(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        let own = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider())
            .map_err(mismatch)?;
        // Links are few and long: each checks both certificates anew instead of resuming a session.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(mismatch)?;
        client.resumption = Resumption::disabled();
        Ok(Self {
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
            own: Arc::new(own),
        })
    }
}

/// The name that the dialler asks for.
pub(super) fn common_name() -> ServerName<'static> {
    ServerName::try_from(COMMON_NAME).expect("it is a DNS name")
}

/// Whether a certificate is for the node `name`.
pub(super) fn names(certificate: &CertificateDer<'_>, name: &NodeName) -> bool {
    // Every certificate is for the common name, so it can be no node's own name.
    name.as_str() != COMMON_NAME
        && DnsName::try_from(name.as_str()).is_ok_and(|name| {
            EndEntityCert::try_from(certificate).is_ok_and(|certificate| {
                certificate
                    .verify_is_valid_for_subject_name(&ServerName::DnsName(name))
                    .is_ok()
            })
        })
}

/// Whether the key of a certificate has signed a message. Takes any scheme that suits the key: the signer's word about it does not count.
pub(crate) fn verifies(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    let schemes = provider().signature_verification_algorithms.all;
    EndEntityCert::try_from(certificate).is_ok_and(|certificate| {
        let by = |scheme| certificate.verify_signature(scheme, message, signature);
        schemes.iter().any(|scheme| by(*scheme).is_ok())
    })
}

/// Signs a message with the key of a certificate.
pub(crate) fn sign(own: &CertifiedKey, message: &[u8]) -> Option<Vec<u8>> {
    let schemes = provider()
        .signature_verification_algorithms
        .supported_schemes();
    own.key.choose_scheme(&schemes)?.sign(message).ok()
}

/// Checks a node's certificate as peers will, both those that dial and those that accept.
pub(crate) fn check(
    files: &TlsFiles,
    name: &NodeName,
    authority: &[CertificateDer<'_>],
    chain: &[CertificateDer<'_>],
) -> Result<(), TlsError> {
    let cert = &files.cert;
    let refused = |error: webpki::Error| {
        if matches!(error, webpki::Error::CertExpired { .. }) {
            return TlsError::Expired { cert: cert.clone() };
        }
        TlsError::NotAccepted {
            cert: cert.clone(),
            ca: files.ca.clone(),
            reason: if matches!(error, webpki::Error::UnknownIssuer) {
                "another authority has signed it".to_owned()
            } else {
                error.to_string()
            },
        }
    };
    let (first, intermediates) = chain.split_first().ok_or_else(|| TlsError::File {
        what: "certificate",
        path: cert.clone(),
        reason: "the file holds no certificate".to_owned(),
    })?;
    let own = EndEntityCert::try_from(first).map_err(refused)?;
    let anchors = authority
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(
        u64::try_from(unix_ms()).unwrap_or_default(),
    ));
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        own.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &anchors,
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(refused)?;
    }
    let common = own.verify_is_valid_for_subject_name(&common_name()).is_ok();
    if common && names(first, name) {
        return Ok(());
    }
    Err(TlsError::NotThisNode {
        cert: cert.clone(),
        name: name.clone(),
        names: own.valid_dns_names().map(ToOwned::to_owned).collect(),
    })
}

/// Reads every certificate of a file.
pub(crate) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = unreadable(what, path);
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(&unreadable)?;
    if found.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn unreadable(what: &'static str, path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |error| TlsError::File {
        what,
        path: path.to_owned(),
        reason: if let pem::Error::Io(error) = &error {
            error.to_string()
        } else if matches!(error, pem::Error::NoItemsFound) {
            format!("the file holds no {what} in PEM")
        } else {
            error.to_string()
        },
    }
}

/// Chosen by name, because a program that embeds a node may have installed another provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// TLS that no client can complete, for ractor_cluster's own listener, which cannot be switched off: no connection there ever
/// reaches a session.
#[must_use]
pub fn never_tls() -> IncomingEncryptionMode {
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    IncomingEncryptionMode::Tls(Arc::new(server).into())
}

/// Has no certificate for any client.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
