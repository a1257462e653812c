//! For tests: a connection to a bus that takes everything and never says a word.

use std::future::pending;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

#[derive(Debug)]
struct Silent;

impl Socket for Silent {
    type ReadHalf = Silent;
    type WriteHalf = Silent;

    fn split(self) -> Split<Silent, Silent> {
        Split::new(Silent, Silent)
    }
}

#[async_trait]
impl ReadHalf for Silent {
    async fn recvmsg(&mut self, _: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        pending().await
    }
}

#[async_trait]
impl WriteHalf for Silent {
    async fn sendmsg(&mut self, bytes: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls over it end after `patience`.
pub(super) async fn connection(patience: Duration) -> Connection {
    let builder = Builder::authenticated_socket(Silent, "0123456789abcdef0123456789abcdef");
    builder.method_timeout(patience).build().await.expect("nothing is asked of the other end")
}
