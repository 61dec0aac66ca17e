//! The stream for ractor_cluster: counts bytes, and fails in both directions once it is cut. Knows no frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::either::Either;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Meter;

/// A connected socket, plain or in TLS (either side; boxed, since TLS is a kilobyte large).
pub(super) struct Bytes(pub(super) Either<TcpStream, Box<TlsStream<TcpStream>>>);

impl Bytes {
    /// `plain` or `mtls`, for `amcp cluster`.
    pub(super) const fn security(&self) -> &'static str {
        match self.0 {
            Either::Left(_) => "plain",
            Either::Right(_) => "mtls",
        }
    }

    /// The other side's certificate; none for plain TCP. Empty, so that it names no node, if TLS brought none.
    pub(super) fn certificate(&self) -> Option<CertificateDer<'static>> {
        let Either::Right(stream) = &self.0 else {
            return None;
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let own = chain.first().cloned();
        Some(own.unwrap_or_else(|| CertificateDer::from(Vec::new())))
    }
}

/// The stream of a link.
pub(super) struct LinkStream {
    pub(super) bytes: Bytes,
    pub(super) meter: Arc<Meter>,
    pub(super) token_in: u64,
}

impl ClusterBidiStream for LinkStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let meter = self.meter;
        match self.bytes.0 {
            // Two halves without a lock between them.
            Either::Left(stream) => {
                let (read, write) = stream.into_split();
                halves(read, write, meter)
            }
            Either::Right(stream) => {
                let (read, write) = tokio::io::split(stream);
                halves(read, write, meter)
            }
        }
    }

    fn peer_label(&self) -> Option<String> {
        Some(format!("{:016x}", self.token_in))
    }
}

fn halves<R, W>(read: R, write: W, meter: Arc<Meter>) -> (BoxRead, BoxWrite)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    (
        Box::new(Half::new(read, meter.clone())),
        Box::new(Half::new(write, meter)),
    )
}

/// One direction of a connection.
struct Half<T> {
    inner: T,
    meter: Arc<Meter>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<T: Unpin> Half<T> {
    fn new(inner: T, meter: Arc<Meter>) -> Self {
        let cut = Box::pin(meter.cut.clone().cancelled_owned());
        Self { inner, meter, cut }
    }

    /// The result of `poll`, unless the connection is cut, now or while `poll` waits.
    fn unless_cut<V>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<V>>,
    ) -> Poll<io::Result<V>> {
        let cut = || io::Error::new(io::ErrorKind::ConnectionAborted, "the link was cut");
        if self.meter.cut.is_cancelled() {
            return Poll::Ready(Err(cut()));
        }
        let polled = poll(Pin::new(&mut self.inner), cx);
        // Only a direction that waits must be woken by the cut.
        if polled.is_pending() && self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        polled
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Half<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = this.unless_cut(cx, |inner, cx| inner.poll_read(cx, buf));
        let read = buf.filled().len().saturating_sub(before);
        if read > 0 {
            this.meter.heard(read);
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Half<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.unless_cut(cx, |inner, cx| inner.poll_write(cx, buf));
        if let Poll::Ready(Ok(written)) = polled {
            this.meter.written.fetch_add(written as u64, Relaxed);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_cut(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_cut(cx, AsyncWrite::poll_shutdown)
    }
}
