use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(20),
    bytes: 1_000,
};

fn guard(networks: &[&str]) -> Guard {
    let networks: Vec<IpNet> = networks.iter().map(|net| net.parse().unwrap()).collect();
    Guard::allowing(networks)
}

#[test]
fn only_public_addresses_pass() {
    let guard = Guard::default();
    for ip in "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 \
        192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.17 2606:4700::1111 2a00::1 \
        2001:200::1 2003::1 64:ff9b::8.8.8.8 ::ffff:8.8.8.8"
        .split(' ')
    {
        assert_eq!(guard.check("h", ip.parse().unwrap()), Ok(()), "{ip}");
    }
    for ip in "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 \
        169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 \
        192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.250 \
        240.0.0.1 255.255.255.255 168.63.129.16 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 \
        64:ff9b::169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::8.8.8.8 100::1 2001::1 2001:db8::1 \
        2002:7f00:1::1 3fff::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 4000::1 9000::1"
        .split(' ')
    {
        assert!(guard.check("h", ip.parse().unwrap()).is_err(), "{ip}");
    }
}

#[test]
fn what_is_allowed_passes_in_every_form_and_nothing_beside_it() {
    let guard = guard(&["10.1.0.0/16", "fd00::/64"]);
    for (ip, passes) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("64:ff9b::10.1.2.3", true),
        ("fd00::5", true),
        ("10.2.0.1", false),
        ("fd01::5", false),
    ] {
        assert_eq!(
            guard.check("h", ip.parse().unwrap()).is_ok(),
            passes,
            "{ip}"
        );
    }
}

#[test]
fn a_url_may_disguise_an_address_but_not_from_the_guard() {
    let guard = Guard::default();
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://user:pw@169.254.169.254/latest",
        "https://[::1]:8443/",
    ] {
        let url = Url::parse(url).unwrap();
        assert!(
            matches!(guard.check_url(&url), Err(Refused::Address { .. })),
            "{url}"
        );
    }
    for url in ["file:///etc/passwd", "ftp://1.1.1.1/", "gopher://1.1.1.1/"] {
        let url = Url::parse(url).unwrap();
        assert!(
            matches!(guard.check_url(&url), Err(Refused::Scheme(_))),
            "{url}"
        );
    }
    let url = Url::parse("https://example.org/").unwrap();
    assert_eq!(guard.check_url(&url), Ok(()));
}

#[test]
fn redirects_are_counted_and_keep_their_encryption() {
    let guard = Guard::default();
    let of =
        |texts: &[&str]| -> Vec<Url> { texts.iter().map(|url| Url::parse(url).unwrap()).collect() };
    let judge =
        |before: &[&str], next: &str| guard.check_redirect(&of(before), &Url::parse(next).unwrap());
    let (http, https) = ("http://a.example/", "https://a.example/");
    assert_eq!(judge(&[http], https), Ok(()));
    assert_eq!(judge(&[http; 3], http), Ok(()));
    assert_eq!(judge(&[http; 4], http), Err(Refused::Redirects));
    assert_eq!(judge(&[http, https], http), Err(Refused::Downgrade));
    assert!(judge(&[https], "https://169.254.169.254/").is_err());
}

/// A server of raw answers by path, and its port. A path that it does not know gets an endless body.
async fn server(answers: &[(&'static str, String)]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers: HashMap<&str, String> = answers.iter().cloned().collect();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let read = socket.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned();
            let answer = answers.get(path).unwrap_or(&endless);
            let answer = answer.replace("PORT", &port.to_string());
            let _ = socket.write_all(answer.as_bytes()).await;
            while *answer == endless && socket.write_all(&[b'x'; 512]).await.is_ok() {}
        }
    });
    port
}

fn moved(to: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}

fn fine() -> String {
    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfine".to_owned()
}

/// Answers each look-up with the next address, and counts.
struct Twice {
    answers: Mutex<Vec<&'static str>>,
    asked: Arc<AtomicUsize>,
}

impl Resolve for Twice {
    fn resolve(&self, _: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let ip = self.answers.lock().unwrap().remove(0);
        let address = SocketAddr::new(ip.parse().unwrap(), 0);
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as Addrs) })
    }
}

#[tokio::test]
async fn each_redirect_is_judged_again() {
    let metadata = moved("http://169.254.169.254/latest/meta-data/");
    let port = server(&[
        ("/fine", fine()),
        ("/metadata", metadata),
        ("/named", moved("http://metadata.example:PORT/fine")),
        ("/file", moved("file:///etc/passwd")),
        ("/once", moved("/fine")),
        ("/loop", moved("/loop")),
    ])
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Twice {
        answers: Mutex::new(vec!["169.254.169.254"]),
        asked,
    };
    let client = GuardedClient::with_names(guard(&["127.0.0.1/32"]), LIMITS, names).unwrap();
    let fetch = async |path: &str| {
        let url = Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap();
        client.get(url).await
    };
    for path in ["/fine", "/once"] {
        assert_eq!(fetch(path).await.unwrap().body, b"fine", "{path}");
    }
    for path in ["/metadata", "/named"] {
        let error = fetch(path).await.unwrap_err();
        let FetchError::Refused(Refused::Address { ip, .. }) = error else {
            panic!("{path}: {error}");
        };
        assert_eq!(ip.to_string(), "169.254.169.254");
    }
    let error = fetch("/loop").await.unwrap_err();
    assert!(
        matches!(error, FetchError::Refused(Refused::Redirects)),
        "{error}"
    );
    let error = fetch("/file").await.unwrap_err();
    assert!(
        matches!(error, FetchError::Refused(Refused::Scheme(_))),
        "{error}"
    );
    let error = fetch("/endless").await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge(1_000)), "{error}");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_the_one_that_is_reached() {
    let port = server(&[("/", fine())]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Twice {
        answers: Mutex::new(vec!["127.0.0.1", "127.0.0.2"]),
        asked: Arc::clone(&asked),
    };
    let client = GuardedClient::with_names(guard(&["127.0.0.1/32"]), LIMITS, names).unwrap();
    let url = Url::parse(&format!("http://rebinding.example:{port}/")).unwrap();
    let fetched = client.get(url.clone()).await.unwrap();
    assert_eq!(
        (fetched.body.as_slice(), asked.load(Ordering::SeqCst)),
        (&b"fine"[..], 1)
    );
    let error = client.get(url).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Refused(Refused::Address { .. })),
        "{error}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_systems_names_are_guarded_too() {
    let client = GuardedClient::new(Guard::default(), LIMITS).unwrap();
    let url = Url::parse("http://localhost:9/").unwrap();
    let error = client.get(url).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Refused(Refused::Address { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_redirect_does_not_tell_the_next_host_the_first_address() {
    let (first, next) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let last = fine();
    let to = moved(&format!("http://{}/", next.local_addr().unwrap()));
    let serve = async |listener: &TcpListener, answer: &str| {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let read = socket.read(&mut request).await.unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..read]).to_lowercase()
    };
    let client = GuardedClient::new(guard(&["127.0.0.1/32"]), LIMITS).unwrap();
    let url = format!(
        "http://{}/T0/secret?token=secret",
        first.local_addr().unwrap()
    );
    let (fetched, asked, seen) = tokio::join!(
        client.get(Url::parse(&url).unwrap()),
        serve(&first, &to),
        serve(&next, &last),
    );
    assert_eq!(fetched.unwrap().body, b"fine");
    assert!(
        asked.contains("secret") && !seen.contains("secret"),
        "{seen}"
    );
}
