//! Connections to the admin port. Each has a place.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::connection::{Connection, Incoming};
use crate::admin::{Caller, Place, Places};

/// Accepts connections to the admin port, and drops those for which no place is free.
#[derive(Debug)]
pub(super) struct AdminIncoming {
    incoming: Incoming,
    places: Places,
}

impl AdminIncoming {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self { incoming, places: Places::default() }
    }
}

impl Stream for AdminIncoming {
    type Item = io::Result<AdminConnection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { incoming, places } = self.get_mut();
        loop {
            let next = ready!(Pin::new(&mut *incoming).poll_next(context));
            let connection = match next {
                Some(Ok(connection)) => connection,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            if let Some(place) = places.take() {
                return Poll::Ready(Some(Ok(AdminConnection { connection, place })));
            }
        }
    }
}

/// A connection that closes when it loses its place.
#[derive(Debug)]
pub(super) struct AdminConnection {
    connection: Connection,
    place: Arc<Place>,
}

impl AdminConnection {
    /// Reads or writes with `transfer`, which returns true if bytes were transferred.
    fn transfer<T>(
        &mut self,
        context: &mut Context<'_>,
        transfer: impl FnOnce(Pin<&mut Connection>, &mut Context<'_>) -> Poll<io::Result<(T, bool)>>,
    ) -> Poll<io::Result<T>> {
        if self.place.poll_lost(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let (result, is_active) = ready!(transfer(Pin::new(&mut self.connection), context))?;
        if is_active {
            self.place.mark_active();
        }
        Poll::Ready(Ok(result))
    }
}

impl Connected for AdminConnection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { peer: self.connection.peer, place: Arc::clone(&self.place) }
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.transfer(context, |connection, context| {
            let before = buffer.filled().len();
            connection.poll_read(context, buffer).map_ok(|()| ((), buffer.filled().len() > before))
        })
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.transfer(context, |connection, context| {
            connection.poll_write(context, bytes).map_ok(|written| (written, written > 0))
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.transfer(context, |connection, context| {
            connection.poll_write_vectored(context, slices).map_ok(|written| (written, written > 0))
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
