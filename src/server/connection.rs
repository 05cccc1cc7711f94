//! Connections over TCP and Unix sockets as one type, so that the binary has the code of HTTP/2
//! once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Sleep;

use crate::address::Peer;

/// The pause after an error on accepting a connection. Most often the process has no file
/// descriptors left, and another attempt at once would fail, too.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of accepted connections.
#[derive(Debug)]
pub(super) struct Incoming {
    listener: Accepting,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Incoming {
    pub(super) fn new(listener: Accepting) -> Self {
        Self { listener, pause: None }
    }
}

impl Accepting {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Either, Peer)>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(context))?;
                // Responses are small, and Envoy waits for each. If the peer is gone already,
                // reading reports it.
                let _gone = stream.set_nodelay(true);
                Poll::Ready(Ok((Either::Tcp(stream), Peer::Tcp(peer))))
            }
            Self::Unix(listener) => {
                let (stream, _nameless) = ready!(listener.poll_accept(context))?;
                Poll::Ready(Ok((Either::Unix(stream), Peer::Unix)))
            }
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(context)) {
                Ok((stream, peer)) => return Poll::Ready(Some(Ok(Connection { stream, peer }))),
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    this.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }
}

/// A connection and its peer.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Either,
    pub(super) peer: Peer,
}

#[derive(Debug)]
enum Either {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Either::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Either::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Either::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Either::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Either::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Either::Tcp(stream) => stream.is_write_vectored(),
            Either::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Either::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Either::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
