//! Connections over TCP and Unix sockets as one type: the code of HTTP/2 is there
//! once and not twice.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tonic::transport::server::Connected;

use crate::address::Peer;

/// Accepts connections.
#[derive(Debug)]
pub(super) enum Incoming {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = match &*self {
            Self::Tcp(listener) => match ready!(listener.poll_accept(context)) {
                // Answers are small, and Envoy waits for each.
                Ok((stream, peer)) => stream
                    .set_nodelay(true)
                    .map(|()| Connection { stream: Either::Tcp(stream), peer: Peer::Tcp(peer) }),
                Err(error) => Err(error),
            },
            Self::Unix(listener) => match ready!(listener.poll_accept(context)) {
                Ok((stream, _nameless)) => {
                    Ok(Connection { stream: Either::Unix(stream), peer: Peer::Unix })
                }
                Err(error) => Err(error),
            },
        };
        Poll::Ready(Some(accepted))
    }
}

/// A connection, and who is at its other end.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Either,
    peer: Peer,
}

#[derive(Debug)]
enum Either {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
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
