//! A load generator for POST /ask over plain HTTP/1.1 with connections that stay open.
//!
//! Reads just enough of the protocol for our own server: a status, a length, a body.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use amcp_tests::bench::load::{Fate, Open, Sample};

/// One request and its response.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response: its status and where its body begins in what was read.
struct Response {
    status: u16,
    body: Vec<u8>,
}

/// The bytes of a POST /ask, with a key if there is one.
pub(crate) fn ask(address: &str, query: &str, key: &str) -> Arc<[u8]> {
    let body = serde_json::json!({ "query": query }).to_string();
    let key = match key {
        "" => String::new(),
        key => format!("x-api-key: {key}\r\n"),
    };
    format!(
        "POST /ask HTTP/1.1\r\nhost: {address}\r\n{key}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into()
}

impl Connection {
    async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(response) = parse(&self.buffer)? {
                return Ok(response);
            }
        }
    }
}

/// The response, once it is there whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Response>> {
    let broken = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(end + 4);
    let head = str::from_utf8(head).map_err(|_| broken("the head is no text"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let found = name.eq_ignore_ascii_case("content-length");
        found.then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Err(broken("no status or no content-length"));
    };
    Ok(rest.get(..length).map(|body| Response {
        status,
        body: body.to_vec(),
    }))
}

/// Asks once and returns status and body.
pub(crate) async fn once(address: &str, request: &[u8]) -> io::Result<(u16, String)> {
    let response = Connection::open(address).await?.send(request).await?;
    Ok((
        response.status,
        String::from_utf8_lossy(&response.body).into_owned(),
    ))
}

fn fate(response: &Response) -> io::Result<Fate> {
    match response.status {
        200 => Ok(Fate::Answered),
        429 | 503 => Ok(Fate::Refused),
        other => Err(io::Error::other(format!(
            "status {other}: {}",
            String::from_utf8_lossy(&response.body)
        ))),
    }
}

/// The address of a collector of traces that reads everything and keeps nothing.
pub(crate) async fn collector() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(taken(BufReader::new(stream)));
        }
    });
    Ok(url)
}

async fn taken(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap_or(0);
        } else if line.is_empty() {
            tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
            let taken = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.get_mut().write_all(taken).await?;
        }
    }
}

/// Closed loop over `connections` connections.
pub(crate) async fn closed(
    address: &str,
    request: Arc<[u8]>,
    connections: usize,
    duration: Duration,
) -> io::Result<Sample> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    let start = Instant::now();
    let mut askers: JoinSet<io::Result<Vec<_>>> = JoinSet::new();
    for mut connection in opened {
        let request = request.clone();
        askers.spawn(async move {
            let mut fates = Vec::new();
            while start.elapsed() < duration {
                let asked = Instant::now();
                let fate = fate(&connection.send(&request).await?)?;
                fates.push((fate, asked.elapsed()));
            }
            Ok(fates)
        });
    }
    let fates: io::Result<Vec<_>> = askers.join_all().await.into_iter().collect();
    Ok(Sample::new(fates?.concat(), 0, start.elapsed()))
}

/// Open loop at `rate` a second over at most `connections` connections; what is due while all of them are in use counts as
/// unsent.
pub(crate) async fn open(
    address: &str,
    request: Arc<[u8]>,
    (rate, connections): (f64, usize),
    duration: Duration,
) -> io::Result<Open> {
    // Room for what falls due in one tick; more would hide behind the generator that its connections are all in use.
    let (due, waiting) = mpsc::channel::<Instant>(64);
    let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
    let mut askers: JoinSet<io::Result<Vec<_>>> = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?;
        let (waiting, request) = (waiting.clone(), request.clone());
        askers.spawn(async move {
            let mut fates = Vec::new();
            while let Some(due) = next(&waiting).await {
                let sent = Instant::now();
                let fate = fate(&connection.send(&request).await?)?;
                fates.push((fate, sent.elapsed(), due.elapsed()));
            }
            Ok(fates)
        });
    }
    let start = Instant::now();
    let (mut count, mut unsent) = (0_u32, 0);
    while start.elapsed() < duration {
        loop {
            let at = start + Duration::from_secs_f64(f64::from(count) / rate);
            if at > Instant::now() {
                break;
            }
            count += 1;
            unsent += usize::from(due.try_send(at).is_err());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = start.elapsed();
    drop(due);
    let fates: io::Result<Vec<_>> = askers.join_all().await.into_iter().collect();
    Ok(Open::new(fates?.concat(), unsent, elapsed))
}

async fn next(waiting: &tokio::sync::Mutex<mpsc::Receiver<Instant>>) -> Option<Instant> {
    waiting.lock().await.recv().await
}
