//! Makes every HTTP client of a node: rustls with aws-lc-rs, compiled-in root certificates (ADR-0004). Operators name the servers
//! of the one kind, which follows no redirect; the guarded kind is for addresses that others name.
//!
//! Does not know what is fetched.

mod guarded;

use std::net::IpAddr;

use reqwest::{Client, ClientBuilder, redirect};
use rustls::crypto::aws_lc_rs;

pub use guarded::{FetchError, Fetched, Guard, GuardedClient, Limits, Refused};
pub use ipnet::IpNet;
pub use reqwest::Url;

/// A builder of a client for one server. A server on this machine gets no proxy.
pub fn client_of(server: &Url) -> ClientBuilder {
    let builder = builder();
    if is_loopback(server) {
        // A proxy cannot reach this machine's own addresses.
        builder.no_proxy()
    } else {
        builder
    }
}

fn builder() -> ClientBuilder {
    // reqwest uses the process's provider and panics without one. If a program that embeds a node has installed its own
    // provider, that provider stays.
    let _ = aws_lc_rs::default_provider().install_default();
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that makes clients"
    )]
    let builder = Client::builder()
        .user_agent(concat!("amcp/", env!("CARGO_PKG_VERSION")))
        // A redirect turns a POST into a GET and may lead anywhere.
        .redirect(redirect::Policy::none())
        // The path and the query of an address may be a secret, which the next host is not to know.
        .referer(false);
    builder
}

/// Whether a URL names this machine by `localhost` or a loopback address.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || ip.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::Certificate;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn this_machine_is_known_by_name_and_address() {
        for (url, here) in [
            ("http://localhost:1", true),
            ("http://127.0.0.9", true),
            ("https://[::1]:1/x", true),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), here, "{url}");
        }
    }

    #[tokio::test]
    async fn https_takes_a_trusted_certificate_and_refuses_a_stranger() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
        let trusted = Certificate::from_der(&certificate).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(socket).await else {
                    continue;
                };
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0, "a request");
                let reply = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                stream.write_all(reply).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
        let stranger = client_of(&url).build().unwrap();
        assert!(stranger.get(url.clone()).send().await.is_err());
        let friend = client_of(&url).add_root_certificate(trusted);
        let friend = friend.build().unwrap();
        let status = friend.get(url).send().await.unwrap().status();
        assert_eq!(status.as_u16(), 204);
        server.abort();
    }
}
