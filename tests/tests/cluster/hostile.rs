//! What a cluster port makes of those who are no nodes of the mesh.

use std::time::{Duration, Instant};

use amcp_cluster::MemberState;
use amcp_tests::cluster::{Member, Spec, mesh, until};
use amcp_tests::process::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Waits until a node has refused others, none of which is a member, and all of which go on by themselves.
pub(crate) async fn refuses(member: &Member, others: &[&Member]) {
    for other in others {
        let tried = format!("{} says why it is not let in", other.name());
        let told = until(&tried, PATIENCE, async || {
            let view = other.view().await;
            view.members.iter().any(|member| member.trouble.is_some())
        });
        told.await;
        let known = member.member(other.name()).await;
        let linked = known.is_some_and(|known| known.state == MemberState::Alive);
        assert!(!linked, "{} was let in", other.name());
    }
    assert!(member.view().await.counts.refused > 0);
}

#[tokio::test]
async fn a_node_with_another_cookie_is_refused() {
    let members = mesh(vec![Spec::new("a"), Spec::new("b")]).await;
    let other = Spec::new("c").env("AMCP_COOKIE", "00c0ffee11c0ffee22c0ffee33c0ffee4455667788");
    let c = Member::start(other.joins(members[0].cluster)).await;
    refuses(&members[0], &[&c]).await;
    let trouble = c.view().await.members.into_iter().find_map(|m| m.trouble);
    assert!(trouble.as_ref().unwrap().contains("cookie"), "{trouble:?}");
}

/// Says what the other end does with these bytes: how long until it has closed.
async fn closed_after(member: &Member, bytes: Vec<u8>) -> Duration {
    let mut socket = TcpStream::connect(member.cluster).await.unwrap();
    let began = Instant::now();
    // It may close before all is written.
    let _ = socket.write_all(&bytes).await;
    closed(socket).await;
    began.elapsed()
}

/// Waits for the other end to close, whatever it says before.
async fn closed(mut socket: TcpStream) {
    let mut said = Vec::new();
    let end = timeout(PATIENCE, socket.read_to_end(&mut said)).await;
    // An error is a reset: closed, too.
    let _ = end.expect("the node closes the socket");
}

#[tokio::test]
async fn what_is_no_greeting_is_closed_and_the_node_serves_on() {
    let members = mesh(vec![Spec::new("a").orchestrates(), Spec::new("b")]).await;
    let a = &members[0];
    let mut length = b"AMCP\x00\x01".to_vec();
    length.extend((1_u64 << 63).to_be_bytes());
    length.extend([b'x'; 1_000]);
    let hostile = [
        ("nothing", Vec::new()),
        ("half a greeting", b"AMCP".to_vec()),
        ("a length of 2^63", length),
        // As ractor_cluster frames: the length, then a protobuf that is none.
        (
            "a frame of 2^63 bytes",
            [(1_u64 << 63).to_be_bytes(), [0xff; 8]].concat(),
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        (
            "noise",
            (0..100_000_u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
        ),
    ];
    for (what, bytes) in hostile {
        let after = closed_after(a, bytes).await;
        println!("{what}: closed after {after:?}");
    }
    let answer = super::tasks::ask(a, "What is 17 * 23?").await;
    assert!(answer.answer.contains("391"), "{answer:?}");
}

#[tokio::test]
async fn idle_sockets_are_freed_and_keep_nobody_out() {
    let a = Member::start(Spec::new("a")).await;
    let mut idle = Vec::new();
    for _ in 0..900 {
        idle.push(TcpStream::connect(a.cluster).await.unwrap());
    }
    let began = Instant::now();
    let b = Member::start(Spec::new("b").joins(a.cluster)).await;
    let met = a.sees("b", MemberState::Alive, PATIENCE).await;
    println!("with 900 idle sockets a node was let in after {met:?}");
    for socket in idle {
        closed(socket).await;
    }
    println!("900 idle sockets were freed within {:?}", began.elapsed());
    let answer = super::tasks::ask(&b, "What is 17 * 23?").await;
    assert!(answer.answer.contains("391"), "{answer:?}");
}
