//! Many clients, slow ones, and ones that send too much: what they cost others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use amcp_gateway::Limits;
use amcp_tests::process::{Node, Sandbox, client};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::mesh::{Setup, TestMesh};
use crate::PATIENCE;

/// What the node sends until it closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    // A connection that is reset has ended too.
    let _ = read.expect("the node closes the connection");
    String::from_utf8(rest).unwrap()
}

/// Status and body of a response that ends with its connection.
fn parts(response: &str) -> (u16, Value) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_in_words() {
    let mesh = TestMesh::start(Setup::default()).await;
    for (request, status, code) in [
        (
            format!(
                "GET /agents HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
                "x".repeat(300_000)
            ),
            431,
            "too_large",
        ),
        (
            format!(
                "GET /agents HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
                "x: y\r\n".repeat(1_000)
            ),
            431,
            "too_large",
        ),
        (
            format!(
                "GET /{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
                "x".repeat(8_000)
            ),
            414,
            "too_large",
        ),
        (
            "GET / HTTP/1.1\r\nwhat is this\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
    ] {
        let mut stream = TcpStream::connect(mesh.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answered, body) = parts(&rest(&mut stream).await);
        assert_eq!((answered, &body["error"]["code"]), (status, &code.into()));
    }
    let fits = mesh
        .http
        .get(mesh.url("/agents"))
        .header("x", "x".repeat(12_000));
    assert_eq!(fits.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_never_asks_is_cut_off_and_one_that_asked_may_pause() {
    let limits = Limits {
        first: Duration::from_millis(200),
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let mesh = TestMesh::start(setup).await;
    let mut silent = TcpStream::connect(mesh.address).await.unwrap();
    let mut slow = TcpStream::connect(mesh.address).await.unwrap();
    let mut pausing = TcpStream::connect(mesh.address).await.unwrap();
    let ask = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    pausing.write_all(ask).await.unwrap();
    // A slow one sends all the time, and never ends its first head.
    let send = async {
        let _ = slow
            .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
            .await;
        while slow.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, send).await.expect("the node hangs up");
    assert_eq!(rest(&mut silent).await, "");
    pausing.write_all(ask).await.unwrap();
    let mut answers = Vec::new();
    let answered = async {
        while answers
            .windows(7)
            .filter(|part| part == b"\"live\"}")
            .count()
            < 2
        {
            assert_ne!(pausing.read_buf(&mut answers).await.unwrap(), 0);
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let limits = Limits {
        per_address: 2,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let mesh = TestMesh::start(setup).await;
    let first = TcpStream::connect(mesh.address).await.unwrap();
    let _second = TcpStream::connect(mesh.address).await.unwrap();
    let mut third = TcpStream::connect(mesh.address).await.unwrap();
    let (status, body) = parts(&rest(&mut third).await);
    assert_eq!(
        (status, &body["error"]["code"]),
        (429, &"overloaded".into())
    );
    let other = client_from([127, 0, 0, 2]).get(mesh.url("/livez")).send();
    assert_eq!(other.await.unwrap().status(), 200);
    drop(first);
    let again = async {
        loop {
            let again = mesh.http.get(mesh.url("/livez")).send().await;
            if again.is_ok_and(|again| again.status() == 200) {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

fn client_from(address: [u8; 4]) -> reqwest::Client {
    let here = "http://127.0.0.1".parse().unwrap();
    let address = IpAddr::V4(Ipv4Addr::from(address));
    let client = amcp_outbound::client_of(&here).local_address(address);
    client.timeout(PATIENCE).build().unwrap()
}

async fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut connecting: tokio::task::JoinSet<_> =
        (0..count).map(|_| TcpStream::connect(address)).collect();
    let mut open = Vec::new();
    while let Some(stream) = timeout(PATIENCE, connecting.join_next()).await.unwrap() {
        open.push(stream.unwrap().unwrap());
    }
    open
}

#[tokio::test]
async fn idle_and_slow_clients_keep_nobody_from_an_answer() {
    let sandbox = Sandbox::new();
    let mut node = Node::start(&sandbox, &["--admin", "127.0.0.1:0"], &[]).await;
    let admin = node.admin().await;
    let mut idle = connect(node.address, 2_048).await;
    // Every fourth sends a head that never ends, as slowly as it may.
    for slow in idle.iter_mut().step_by(4) {
        let _ = slow.write_all(b"GET /livez HTTP/1.1\r\nx: ").await;
    }
    let health = format!("http://{admin}/readyz");
    let healthy = client().get(health).send().await.unwrap();
    assert_eq!(healthy.status(), 200);
    let neighbour = client_from([127, 0, 0, 2]);
    let agents = neighbour.get(node.url("/agents")).send().await.unwrap();
    assert_eq!(agents.status(), 200);
    let nothing = client().get(format!("http://{admin}/agents")).send();
    assert_eq!(nothing.await.unwrap().status(), 404);
    // None of them asks, so none of them stays.
    for stream in &mut idle {
        rest(stream).await;
    }
}

/// With a short queue the system would let the others try again after a second.
#[tokio::test]
async fn five_hundred_clients_may_come_in_one_moment() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &[], &[]).await;
    // Nobody accepts meanwhile: the queue has to take them all.
    node.signal("STOP").await;
    let open = connect(node.address, 500).await;
    node.signal("CONT").await;
    assert_eq!(open.len(), 500);
}
