//! Two sides over real sockets on port 0. The tests wait for each condition, with a deadline.

use std::future::Future;
use std::time::Duration;

use amcp_protocol::NodeName;
use proptest::prelude::*;
use ractor::Actor;
use ractor_cluster::{NodeServer, NodeServerMessage};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::greeting::{Greeting, HEADER, Hello, Side, Transcript, frame, header};
use super::*;
use crate::certs;

/// Far longer than any test takes; only a broken test waits this long.
const DEADLINE: Duration = Duration::from_secs(20);

const COOKIE: &str = "0123456789abcdef0123456789abcdef";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("it takes too long")
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn local(text: &str) -> Local {
    Local {
        info: NodeInfo {
            name: name(text),
            incarnation: 7,
            build: "0.1.0".into(),
            address: ":7000".into(),
            http: None,
            roles: vec![],
            domain: None,
        },
        cookie: COOKIE.into(),
        tls: None,
        admit: Arc::new(|_| Box::pin(async { Ok(()) })),
    }
}

/// A node that accepts.
struct Server {
    acceptor: Arc<Acceptor>,
    established: mpsc::Receiver<Connection>,
    _running: tokio::task::JoinSet<()>,
}

fn serve(local: Local) -> Server {
    let acceptor = Arc::new(Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    let (sender, established) = mpsc::channel(8);
    let mut running = tokio::task::JoinSet::new();
    let accepting = acceptor.clone();
    running.spawn(async move { accepting.run(Arc::new(local), sender).await });
    Server {
        acceptor,
        established,
        _running: running,
    }
}

impl Server {
    async fn raw(&self) -> TcpStream {
        soon(TcpStream::connect(self.acceptor.address()))
            .await
            .unwrap()
    }

    async fn refused(&self, count: u64) {
        soon(async {
            while self.acceptor.refused() < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn link(&mut self, dialler: &Local) -> (Connection, Connection) {
        let dialled = soon(dial(dialler, self.acceptor.address())).await.unwrap();
        (dialled, soon(self.established.recv()).await.unwrap())
    }

    async fn refuses(&self, dialler: &Local) -> DialError {
        soon(dial(dialler, self.acceptor.address()))
            .await
            .unwrap_err()
    }
}

/// A folder with an authority.
fn authority() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    certs::init(dir.path()).unwrap();
    dir
}

fn tls(dir: &TempDir, node: &str) -> Option<Tls> {
    let files = certs::issue(dir.path(), &name(node), &[]).unwrap();
    Some(Tls::load(&files, &name(node)).unwrap())
}

async fn bytes_flow(dialled: Connection, accepted: Connection, security: &str) {
    assert_eq!(
        (&dialled.peer.name, &accepted.peer.name),
        (&name("b"), &name("a"))
    );
    assert_eq!((dialled.dialled, accepted.dialled), (true, false));
    assert_eq!((dialled.security, accepted.security), (security, security));
    assert_eq!(dialled.token_in, accepted.token_out);
    assert_eq!(dialled.token_out, accepted.token_in);
    assert_eq!(accepted.peer.address, "127.0.0.1:7000");
    let label = format!("{:016x}", accepted.token_in);
    assert_eq!(accepted.stream.peer_label(), Some(label));

    let meters = [dialled.meter.clone(), accepted.meter.clone()];
    let (mut read_a, mut write_a) = dialled.stream.split();
    let (mut read_b, mut write_b) = accepted.stream.split();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
    let (mut there, mut back) = (vec![0; sent.len()], vec![0; sent.len()]);
    soon(async {
        tokio::try_join!(
            async {
                write_a.write_all(&sent).await?;
                write_a.flush().await
            },
            async {
                write_b.write_all(&sent).await?;
                write_b.flush().await
            },
            async { read_b.read_exact(&mut there).await.map(drop) },
            async { read_a.read_exact(&mut back).await.map(drop) },
        )
    })
    .await
    .unwrap();
    assert!(there == sent && back == sent);
    for meter in &meters {
        assert_eq!((meter.received(), meter.written()), (1_000_000, 1_000_000));
    }

    // One side cuts: its pending read wakes, its writes fail, and the other side reads the end.
    let mut byte = [0];
    let pending = tokio::spawn(async move { (read_a.read(&mut byte).await, read_a) });
    tokio::task::yield_now().await;
    meters[0].cut();
    let (read, read_a) = soon(pending).await.unwrap();
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    assert!(soon(write_a.write(&[1])).await.is_err());
    drop((read_a, write_a));
    assert!(!matches!(soon(read_b.read(&mut [0])).await, Ok(1..)));
}

#[tokio::test]
async fn two_nodes_link_over_plain_tcp() {
    let mut b = serve(local("b"));
    let (dialled, accepted) = b.link(&local("a")).await;
    bytes_flow(dialled, accepted, "plain").await;
    assert_eq!(b.acceptor.refused(), 0);
}

#[tokio::test]
async fn two_nodes_link_over_mutual_tls() {
    let dir = authority();
    let mut b = serve(Local {
        tls: tls(&dir, "b"),
        ..local("b")
    });
    let a = Local {
        tls: tls(&dir, "a"),
        ..local("a")
    };
    let (dialled, accepted) = b.link(&a).await;
    bytes_flow(dialled, accepted, "mtls").await;
}

#[tokio::test]
async fn a_wrong_cookie_is_said_to_both_sides() {
    let b = serve(local("b"));
    let stranger = Local {
        cookie: COOKIE.replace('0', "1"),
        ..local("a")
    };
    let error = b.refuses(&stranger).await;
    assert_eq!(error.refusal(), Some(&Refusal::WrongCookie), "{error}");
    b.refused(1).await;

    // A dialler that does not check the acceptor's proof learns of the wrong cookie too.
    let mut raw = b.raw().await;
    say(&mut raw, &Greeting::Hello(Hello::new(local("a").info))).await;
    hear(&mut raw).await;
    hear(&mut raw).await;
    say(&mut raw, &Greeting::Proof { proof: [7; 32] }).await;
    assert_eq!(hear_refusal(&mut raw).await, Refusal::WrongCookie);
    b.refused(2).await;
}

#[tokio::test]
async fn a_reflected_proof_is_refused() {
    let b = serve(local("b"));
    let mut raw = b.raw().await;
    say(&mut raw, &Greeting::Hello(Hello::new(local("a").info))).await;
    hear(&mut raw).await;
    let proof = hear(&mut raw).await;
    assert!(matches!(proof, Greeting::Proof { .. }));
    say(&mut raw, &proof).await;
    assert_eq!(hear_refusal(&mut raw).await, Refusal::WrongCookie);

    let transcript = Transcript {
        dialler: b"ab",
        acceptor: b"c",
        headers: true,
    };
    let proof = transcript.proof(COOKIE, Side::Dialler);
    assert!(transcript.proves(COOKIE, Side::Dialler, &proof));
    assert!(!transcript.proves(COOKIE, Side::Acceptor, &proof));
    let moved = Transcript {
        dialler: b"a",
        acceptor: b"bc",
        headers: true,
    };
    assert!(!moved.proves(COOKIE, Side::Dialler, &proof));
}

#[tokio::test]
async fn a_proof_covers_the_version_unless_a_build_is_older() {
    for (headers, other_version, proven) in [
        (true, false, true),
        (true, true, false),
        (false, false, true),
        // Nothing else than the version: an older build's proof still covers all of the hello, with its word that it is older.
        (false, true, true),
    ] {
        let b = serve(local("b"));
        let mut raw = b.raw().await;
        let mine = Greeting::Hello(Hello {
            headers,
            ..Hello::new(local("a").info)
        });
        say(&mut raw, &mine).await;
        let theirs = hear(&mut raw).await;
        hear(&mut raw).await;
        let mut dialler = frame(&mine.body()).unwrap();
        // As if somebody between the two had changed it on its way.
        dialler[4] ^= u8::from(other_version);
        let transcript = Transcript {
            dialler: &dialler,
            acceptor: &frame(&theirs.body()).unwrap(),
            headers,
        };
        let proof = transcript.proof(COOKIE, Side::Dialler);
        say(&mut raw, &Greeting::Proof { proof }).await;
        if proven {
            assert_eq!(hear(&mut raw).await, Greeting::Accept);
        } else {
            assert_eq!(hear_refusal(&mut raw).await, Refusal::WrongCookie);
        }
    }
}

#[tokio::test]
async fn certificates_of_others_are_refused() {
    let (ours, theirs) = (authority(), authority());
    let b = serve(Local {
        tls: tls(&ours, "b"),
        ..local("b")
    });
    let foreign = Local {
        tls: tls(&theirs, "a"),
        ..local("a")
    };
    let error = b.refuses(&foreign).await;
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
    b.refused(1).await;

    // The right authority, but another node's certificate, on either side.
    let impostor = Local {
        tls: tls(&ours, "c"),
        ..local("a")
    };
    let wrong = |node| Some(Refusal::WrongCertificate { name: name(node) });
    let error = b.refuses(&impostor).await;
    assert!(matches!(error, DialError::Refused { .. }), "{error}");
    assert_eq!(error.refusal().cloned(), wrong("a"));
    let liar = serve(Local {
        tls: tls(&ours, "d"),
        ..local("e")
    });
    let error = liar
        .refuses(&Local {
            tls: tls(&ours, "a"),
            ..local("a")
        })
        .await;
    assert!(matches!(error, DialError::Refuses { .. }), "{error}");
    assert_eq!(error.refusal().cloned(), wrong("e"));
    // Every certificate is for the common name, so no node may greet with it.
    let nobody = Local {
        tls: tls(&ours, "f"),
        ..local(COMMON_NAME)
    };
    assert_eq!(
        b.refuses(&nobody).await.refusal().cloned(),
        wrong(COMMON_NAME)
    );
}

#[tokio::test]
async fn an_acceptor_judges_a_certificate_that_only_it_can_judge() {
    // The dialler accepts the acceptor's authority, but its own certificate comes from another.
    let (ours, theirs) = (authority(), authority());
    let b = serve(Local {
        tls: tls(&ours, "b"),
        ..local("b")
    });
    let files = certs::issue(theirs.path(), &name("a"), &[]).unwrap();
    let both =
        [ours.path(), theirs.path()].map(|p| std::fs::read_to_string(p.join("ca.pem")).unwrap());
    std::fs::write(theirs.path().join("ca.pem"), both.concat()).unwrap();
    let a = Local {
        tls: Some(Tls::load(&files, &name("a")).unwrap()),
        ..local("a")
    };
    let error = b.refuses(&a).await;
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn one_side_without_tls_is_told_what_may_be_wrong() {
    let dir = authority();
    let secured = Local {
        tls: tls(&dir, "a"),
        ..local("a")
    };
    let error = serve(local("b")).refuses(&secured).await.to_string();
    assert!(
        error.contains("does the other node use TLS at all?"),
        "{error}"
    );
    let b = serve(Local {
        tls: tls(&dir, "b"),
        ..local("b")
    });
    let error = b.refuses(&local("a")).await.to_string();
    assert!(error.contains("does the other node use TLS"), "{error}");
}

#[tokio::test]
async fn a_node_does_not_link_with_itself() {
    let b = serve(local("b"));
    let error = b.refuses(&local("b")).await;
    assert_eq!(error.refusal(), Some(&Refusal::SelfDial), "{error}");
}

#[tokio::test]
async fn both_sides_are_asked_for_admission() {
    let no = |refusal: Refusal| -> Admit {
        Arc::new(move |peer: NodeInfo| {
            assert_eq!(peer.address, "127.0.0.1:7000");
            let refusal = refusal.clone();
            Box::pin(async move { Err(refusal) })
        })
    };
    let b = serve(Local {
        admit: no(Refusal::Leaving),
        ..local("b")
    });
    let error = b.refuses(&local("a")).await;
    assert!(
        matches!(
            error,
            DialError::Refused {
                refusal: Refusal::Leaving,
                ..
            }
        ),
        "{error}"
    );
    let c = serve(local("c"));
    let error = c
        .refuses(&Local {
            admit: no(Refusal::Duplicate),
            ..local("a")
        })
        .await;
    assert!(
        matches!(
            error,
            DialError::Refuses {
                refusal: Refusal::Duplicate,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn another_protocol_version_is_told_both() {
    let b = serve(local("b"));
    let mut raw = b.raw().await;
    let body = br#"{"step":"knock","of":"a later version"}"#;
    let mut bytes = frame(body).unwrap();
    bytes[5] = 9;
    raw.write_all(&bytes).await.unwrap();
    let versions = Refusal::ProtocolVersion {
        spoken: PROTOCOL_VERSION,
        refused: 9,
    };
    assert_eq!(hear_refusal(&mut raw).await, versions);
    assert!(versions.to_string().contains('9') && versions.to_string().contains('1'));
}

#[tokio::test]
async fn garbage_and_lengths_that_are_too_large_are_closed_at_once() {
    let b = serve(local("b"));
    let enormous = [b"AMCP\0\x01".as_slice(), &[0x80, 0, 0, 0]].concat();
    let session = (1_u64 << 63).to_be_bytes().repeat(2);
    let garbage = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        enormous,
        session,
        vec![0xff; 65_536],
    ];
    for (bytes, count) in garbage.into_iter().zip(1..) {
        let mut raw = b.raw().await;
        // The node may close the connection before all bytes are written.
        let _ = raw.write_all(&bytes).await;
        closed(&mut raw).await;
        b.refused(count).await;
    }
    for body in [&b"{}"[..], b"[]", b"", b"{\"step\":\"accept\"}", b"\xff"] {
        let mut raw = b.raw().await;
        raw.write_all(&frame(body).unwrap()).await.unwrap();
        closed(&mut raw).await;
    }
    let mut b = b;
    b.link(&local("a")).await;
}

#[tokio::test]
async fn silence_is_closed_with_and_without_tls() {
    let dir = authority();
    for tls in [None, tls(&dir, "b")] {
        let b = serve(Local { tls, ..local("b") });
        let mut raw = b.raw().await;
        closed(&mut raw).await;
        b.refused(1).await;
    }
}

#[tokio::test]
async fn nine_hundred_idle_sockets_do_not_keep_a_node_out() {
    let mut b = serve(local("b"));
    let mut idle = Vec::new();
    for _ in 0..900 {
        idle.push(b.raw().await);
    }
    b.link(&local("a")).await;
    for raw in &mut idle {
        closed(raw).await;
    }
    b.refused(900).await;
}

#[tokio::test]
async fn an_acceptor_runs_again() {
    let mut b = serve(local("b"));
    let acceptor = b.acceptor.clone();
    b._running.shutdown().await;
    let a = tokio::spawn({
        let address = acceptor.address();
        async move { dial(&local("a"), address).await }
    });
    let (sender, mut established) = mpsc::channel(1);
    b._running
        .spawn(async move { acceptor.run(Arc::new(local("b")), sender).await });
    soon(established.recv()).await.unwrap();
    soon(a).await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let gone = Acceptor::bind("127.0.0.1:0".parse().unwrap())
        .unwrap()
        .address();
    let error = soon(dial(&local("a"), gone)).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_built_in_listener_opens_no_session() {
    #[derive(Debug)]
    struct Opened(mpsc::UnboundedSender<()>);
    impl ractor_cluster::NodeEventSubscription for Opened {
        fn node_session_opened(&self, _: ractor_cluster::node::NodeServerSessionInformation) {
            self.0.send(()).unwrap();
        }
        fn node_session_disconnected(&self, _: ractor_cluster::node::NodeServerSessionInformation) {
        }
        fn node_session_authenticated(
            &self,
            _: ractor_cluster::node::NodeServerSessionInformation,
        ) {
        }
    }
    // A port that is free now: the server does not tell which one it chose.
    let free = Acceptor::bind("127.0.0.1:0".parse().unwrap())
        .unwrap()
        .address();
    let server = NodeServer::new(
        free.port(),
        session_cookie(COOKIE),
        "b".into(),
        "localhost".into(),
        Some(never_tls()),
        None,
    )
    .with_listen_addr(free.ip());
    let (server, ended) = Actor::spawn(None, server, ()).await.unwrap();
    let (sender, mut opened) = mpsc::unbounded_channel();
    let subscription = Box::new(Opened(sender));
    server
        .cast(NodeServerMessage::SubscribeToEvents {
            id: "test".into(),
            subscription,
        })
        .unwrap();

    let dir = authority();
    let connector = tls(&dir, "a").unwrap().connector;
    let raw = soon(TcpStream::connect(free)).await.unwrap();
    assert!(
        soon(connector.connect(super::tls::common_name(), raw))
            .await
            .is_err()
    );
    let mut raw = soon(TcpStream::connect(free)).await.unwrap();
    raw.write_all(&[0; 64]).await.unwrap();
    closed(&mut raw).await;
    // The listener would have told the server before it closed; the server answers in order.
    ractor::call_t!(server, NodeServerMessage::GetSessions, 5_000).unwrap();
    assert!(opened.try_recv().is_err(), "a session was opened");
    server.stop(None);
    soon(ended).await.unwrap();
}

#[test]
fn cookies_are_strong_and_made_once() {
    for weak in [
        "",
        "secret",
        &"a".repeat(64),
        &COOKIE[1..],
        "passwordpasswordpassword",
    ] {
        assert!(check_cookie(weak).is_err(), "{weak}");
    }
    check_cookie(COOKIE).unwrap();
    check_cookie("q7LmW2x-Tz_9sKfYb4RgUv").unwrap();
    assert_ne!(session_cookie(COOKIE), COOKIE);
    check_cookie(&session_cookie(COOKIE)).unwrap();

    let dir = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = dir.path().join(format!("{round}/cookie"));
        let barrier = std::sync::Barrier::new(4);
        let load = || {
            barrier.wait();
            load_or_make_cookie(&path).unwrap()
        };
        let cookies = std::thread::scope(|scope| {
            let loaders = [(); 4].map(|()| scope.spawn(load));
            loaders.map(|loader| loader.join().unwrap())
        });
        assert_eq!(
            cookies,
            [(); 4].map(|()| load_or_make_cookie(&path).unwrap())
        );
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "something was left behind");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn a_body_is_only_read_if_it_is_small() {
    let announced = |length: u32| {
        header(
            [b"AMCP\0\x01", &length.to_be_bytes()[..]]
                .concat()
                .try_into()
                .unwrap(),
        )
    };
    assert_eq!(announced(4_096).unwrap(), (1, 4_096));
    for length in [4_097, 1 << 31, u32::MAX] {
        assert!(
            announced(length)
                .unwrap_err()
                .to_string()
                .contains(&length.to_string())
        );
    }
    assert!(frame(&[0; 4_097]).is_err());
}

#[test]
fn later_versions_are_understood_as_far_as_possible() {
    let hello = Hello::new(local("a").info);
    let mut value = serde_json::to_value(Greeting::Hello(hello.clone())).unwrap();
    value["info"]["roles"] = serde_json::json!(["gateway", "oracle"]);
    value["info"]["mood"] = "fine".into();
    let read = Greeting::read(value.to_string().as_bytes()).unwrap();
    let mut expected = hello;
    expected.info.roles = vec![crate::info::Role::Gateway];
    assert_eq!(read, Greeting::Hello(expected));

    let refusal = super::greeting::refusal(serde_json::json!({"code": "moon"}), "wrong\nmoon");
    assert_eq!(
        refusal,
        Refusal::Other {
            message: "wrong moon".into()
        }
    );
    let told = Refusal::NameTaken {
        name: name("a"),
        holder: "b:1".into(),
    };
    let Greeting::Refuse { refusal, message } = Greeting::refuse(&told) else {
        panic!()
    };
    assert_eq!(super::greeting::refusal(refusal, &message), told);
}

proptest! {
    #[test]
    fn invariant_garbage_never_panics(
        start in any::<[u8; HEADER]>(),
        body in prop::collection::vec(any::<u8>(), 0..512),
        text in "\\{\"step\":\"(hello|proof|refuse)\",.{0,60}\\}",
    ) {
        let _ = header(start);
        let _ = Greeting::read(&body);
        let _ = Greeting::read(text.as_bytes());
        let framed = frame(&body).unwrap();
        let (version, length) = header(framed[..HEADER].try_into().unwrap()).unwrap();
        prop_assert_eq!((version, length), (PROTOCOL_VERSION, body.len()));
    }
}

async fn say(stream: &mut TcpStream, greeting: &Greeting) {
    stream
        .write_all(&frame(&greeting.body()).unwrap())
        .await
        .unwrap();
}

async fn hear(stream: &mut TcpStream) -> Greeting {
    let mut start = [0; HEADER];
    soon(stream.read_exact(&mut start)).await.unwrap();
    let mut body = vec![0; header(start).unwrap().1];
    soon(stream.read_exact(&mut body)).await.unwrap();
    Greeting::read(&body).unwrap()
}

async fn hear_refusal(stream: &mut TcpStream) -> Refusal {
    let Greeting::Refuse { refusal, message } = hear(stream).await else {
        panic!("it is not refused");
    };
    super::greeting::refusal(refusal, &message)
}

/// Waits until the other side has closed.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // Either an end or a reset is a closed socket.
    let _ = soon(stream.read_to_end(&mut rest)).await;
}
