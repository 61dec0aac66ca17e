//! Carries either side's greeting over a stream. Knows no sockets; callers bound its time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::greeting::{
    Garbled, Greeting, HEADER, Hello, PROTOCOL_VERSION, Refusal, Side, Transcript, frame, header,
    refusal,
};
use super::stream::{Bytes, LinkStream};
use super::{Connection, Local, Meter, tls};
use crate::info::NodeInfo;

/// The outcome of a greeting.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) peer: NodeInfo,
    pub(super) token_in: u64,
    pub(super) token_out: u64,
}

impl Met {
    /// The connection, ready for ractor_cluster.
    pub(super) fn connection(self, bytes: Bytes, dialled: bool, remote: SocketAddr) -> Connection {
        let meter = Arc::<Meter>::default();
        Connection {
            peer: self.peer,
            dialled,
            remote,
            token_in: self.token_in,
            token_out: self.token_out,
            security: bytes.security(),
            certificate: bytes.certificate(),
            meter: meter.clone(),
            stream: Box::new(LinkStream {
                bytes,
                meter,
                token_in: self.token_in,
            }),
        }
    }
}

/// The error of a greeting.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Garbled(#[from] Garbled),
    #[error("refused by the other node: {0}")]
    Refused(Refusal),
    #[error("refused by this node: {0}")]
    Refuses(Refusal),
}

impl Trouble {
    /// Whether an operator should see it: a misconfigured node. Nodes settle some refusals between themselves, and strangers can
    /// cause the other errors at will.
    pub(super) const fn worth_a_warning(&self) -> bool {
        match self {
            Self::Refused(refusal) | Self::Refuses(refusal) => {
                !matches!(refusal, Refusal::SelfDial | Refusal::Duplicate)
            }
            Self::Io(_) | Self::Garbled(_) => false,
        }
    }
}

/// The facts of a connection that its greeting needs.
pub(super) struct Meeting<'a> {
    pub(super) local: &'a Local,
    /// The other end's address.
    pub(super) remote: IpAddr,
    /// The other side's certificate, with TLS.
    pub(super) certificate: Option<CertificateDer<'static>>,
    /// Called once the other side has proven that it knows the cookie.
    pub(super) proven: &'a (dyn Fn() + Send + Sync),
}

/// The dialler's side.
pub(super) async fn greet<S>(stream: &mut S, meeting: &Meeting<'_>) -> Result<Met, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let met = greet_steps(stream, meeting).await;
    explain(stream, met).await
}

/// The acceptor's side.
pub(super) async fn answer<S>(stream: &mut S, meeting: &Meeting<'_>) -> Result<Met, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let met = answer_steps(stream, meeting).await;
    explain(stream, met).await
}

/// Tells the other side the reason for which this node refuses it.
async fn explain<S: AsyncWrite + Unpin>(
    stream: &mut S,
    met: Result<Met, Trouble>,
) -> Result<Met, Trouble> {
    if let Err(Trouble::Refuses(refusal)) = &met {
        // The other side may have closed already; this node refuses either way.
        let _ = write(stream, &Greeting::refuse(refusal)).await;
    }
    met
}

async fn greet_steps<S>(stream: &mut S, meeting: &Meeting<'_>) -> Result<Met, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mine = Hello::new(meeting.local.info.clone());
    let token_in = mine.token;
    let dialler = write(stream, &Greeting::Hello(mine)).await?;
    let (theirs, acceptor) = read_hello(stream).await?;
    let transcript = Transcript {
        dialler: &dialler,
        acceptor: &acceptor,
        headers: theirs.headers,
    };
    let cookie = &meeting.local.cookie;
    let proof = read_proof(stream).await?;
    if !transcript.proves(cookie, Side::Acceptor, &proof) {
        return Err(Trouble::Refuses(Refusal::WrongCookie));
    }
    (meeting.proven)();
    let token_out = theirs.token;
    let peer = meeting.recognise(theirs.info)?;
    // This node judges first: a yes of the other side may cost a link with this node, which it takes for lost.
    (meeting.local.admit)(peer.clone())
        .await
        .map_err(Trouble::Refuses)?;
    let proof = transcript.proof(cookie, Side::Dialler);
    write(stream, &Greeting::Proof { proof }).await?;
    match read(stream).await?.0 {
        Greeting::Accept => {}
        Greeting::Refuse {
            refusal: r,
            message,
        } => {
            return Err(Trouble::Refused(refusal(r, &message)));
        }
        Greeting::Hello(_) | Greeting::Proof { .. } => return Err(out_of_turn()),
    }
    Ok(Met {
        peer,
        token_in,
        token_out,
    })
}

async fn answer_steps<S>(stream: &mut S, meeting: &Meeting<'_>) -> Result<Met, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (theirs, dialler) = read_hello(stream).await?;
    let (token_out, headers) = (theirs.token, theirs.headers);
    let peer = meeting.recognise(theirs.info)?;
    let mine = Hello::new(meeting.local.info.clone());
    let token_in = mine.token;
    let acceptor = write(stream, &Greeting::Hello(mine)).await?;
    let transcript = Transcript {
        dialler: &dialler,
        acceptor: &acceptor,
        headers,
    };
    let cookie = &meeting.local.cookie;
    let proof = transcript.proof(cookie, Side::Acceptor);
    write(stream, &Greeting::Proof { proof }).await?;
    let proof = read_proof(stream).await?;
    if !transcript.proves(cookie, Side::Dialler, &proof) {
        return Err(Trouble::Refuses(Refusal::WrongCookie));
    }
    (meeting.proven)();
    (meeting.local.admit)(peer.clone())
        .await
        .map_err(Trouble::Refuses)?;
    write(stream, &Greeting::Accept).await?;
    Ok(Met {
        peer,
        token_in,
        token_out,
    })
}

impl Meeting<'_> {
    /// The other side with its complete address, unless it is this node or its certificate names another.
    fn recognise(&self, info: NodeInfo) -> Result<NodeInfo, Trouble> {
        let local = &self.local.info;
        if info.name == local.name && info.incarnation == local.incarnation {
            return Err(Trouble::Refuses(Refusal::SelfDial));
        }
        let named = |certificate| tls::names(certificate, &info.name);
        if !self.certificate.as_ref().is_none_or(named) {
            let name = info.name;
            return Err(Trouble::Refuses(Refusal::WrongCertificate { name }));
        }
        info.met_from(self.remote)
            .map_err(|reason| Garbled(reason).into())
    }
}

async fn read_hello<S>(stream: &mut S) -> Result<(Hello, Vec<u8>), Trouble>
where
    S: AsyncRead + Unpin,
{
    match read(stream).await? {
        (Greeting::Hello(hello), frame) => Ok((hello, frame)),
        (Greeting::Refuse { refusal, message }, _) => Err(refused_early(refusal, &message)),
        (Greeting::Proof { .. } | Greeting::Accept, _) => Err(out_of_turn()),
    }
}

async fn read_proof<S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; 32], Trouble> {
    match read(stream).await?.0 {
        Greeting::Proof { proof } => Ok(proof),
        Greeting::Refuse { refusal, message } => Err(refused_early(refusal, &message)),
        Greeting::Hello(_) | Greeting::Accept => Err(out_of_turn()),
    }
}

/// A refusal by a peer that has not proven to be a node of the mesh.
fn refused_early(value: serde_json::Value, message: &str) -> Trouble {
    match refusal(value, message) {
        refusal if refusal.is_early() => Trouble::Refused(refusal),
        _ => out_of_turn(),
    }
}

fn out_of_turn() -> Trouble {
    Garbled("it sent a message out of turn".to_owned()).into()
}

/// Writes a greeting and returns its frame.
async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    greeting: &Greeting,
) -> Result<Vec<u8>, Trouble> {
    let frame = frame(&greeting.body())?;
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(frame)
}

/// Reads a greeting and its frame, and not one byte of what follows it.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Greeting, Vec<u8>), Trouble> {
    let mut start = [0; HEADER];
    stream.read_exact(&mut start).await?;
    let (version, length) = header(start)?;
    let mut frame = start.to_vec();
    frame.resize(HEADER + length, 0);
    let body = frame.split_at_mut(HEADER).1;
    stream.read_exact(body).await?;
    let greeting = Greeting::read(body);
    if version == PROTOCOL_VERSION {
        return Ok((greeting?, frame));
    }
    // Of another version we understand only its refusal.
    match greeting {
        Ok(Greeting::Refuse { refusal, message }) => Err(refused_early(refusal, &message)),
        Ok(_) | Err(_) => Err(Trouble::Refuses(Refusal::ProtocolVersion {
            spoken: PROTOCOL_VERSION,
            refused: version,
        })),
    }
}
