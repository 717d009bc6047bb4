//! A road to a server that fails on purpose.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What one read carries, at most.
const CHUNK: usize = 64 * 1024;
/// Chunks on their way in one direction, at most; beyond it the sender waits, as on a full road.
const ON_THE_WAY: usize = 64;

/// What a road does to what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fault {
    /// Whatever is asked arrives later by this; answers do not. So it is what a question and its answer take longer.
    pub delay: Duration,
    /// Nothing arrives, in either direction, and nobody is told; also not that a new connection leads nowhere.
    pub silent: bool,
    /// New connections are closed at once.
    pub refused: bool,
    /// A connection is reset when it has carried so many bytes of answers since the fault began.
    pub cut_after: Option<u64>,
    /// The side that asks is told that no answer follows, and may go on asking.
    pub half_closed: bool,
}

/// A road that listens.
pub struct Proxy {
    /// Where.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
    resets: watch::Sender<u64>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A road to a server.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, resets) = (watch::channel(Fault::default()).0, watch::channel(0).0);
        let (server, faults, reset) = (server.to_owned(), fault.subscribe(), resets.subscribe());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                while ways.try_join_next().is_some() {}
                if faults.borrow().refused {
                    continue;
                }
                let (server, faults, reset) = (server.clone(), faults.clone(), reset.clone());
                ways.spawn(async move {
                    // Either side may go at any time; the other sees the end of its connection.
                    let _ = carry(near, &server, faults, reset).await;
                });
            }
        });
        Self { address, fault, resets, _task: task }
    }

    /// From now on, for connections there are and new ones.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Resets every connection there is.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// The address of a server, such as a database's URL, by way of this road.
    pub fn instead_of(&self, url: &str, server: &str) -> String {
        url.replace(server, &self.address.to_string())
    }
}

async fn carry(
    near: TcpStream,
    server: &str,
    faults: watch::Receiver<Fault>,
    mut resets: watch::Receiver<u64>,
) -> io::Result<()> {
    resets.mark_unchanged();
    let far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let answered = AtomicU64::new(0);
    let in_order = {
        let ways = async {
            tokio::join!(
                one_way(&mut near_in, &mut far_out, faults.clone(), None),
                one_way(&mut far_in, &mut near_out, faults.clone(), Some(&answered)),
            )
        };
        tokio::select! {
            _ = ways => true,
            _ = resets.changed() => false,
            () = cut(faults.clone(), &answered) => false,
        }
    };
    if !in_order {
        near_in.as_ref().set_zero_linger()?;
        far_in.as_ref().set_zero_linger()?;
        // Without the end in order that dropping them would send.
        near_out.forget();
        far_out.forget();
    }
    Ok(())
}

/// Ends when a connection has carried as many bytes as its road lets it.
async fn cut(mut faults: watch::Receiver<Fault>, answered: &AtomicU64) {
    loop {
        // The road outlives what it carries.
        let Ok(limit) = faults.wait_for(|fault| fault.cut_after.is_some()).await.map(|fault| fault.cut_after)
        else {
            return;
        };
        let before = answered.load(Ordering::SeqCst);
        while faults.borrow().cut_after == limit {
            if limit.is_some_and(|limit| answered.load(Ordering::SeqCst) - before >= limit) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Carries one direction until its sender ends it, and ends it then for the receiver. `answers` counts bytes of the way back,
/// which is not delayed.
async fn one_way(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    answers: Option<&AtomicU64>,
) {
    let (sender, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let delays = faults.clone();
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            match from.read_buf(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let delay = if answers.is_some() { Duration::ZERO } else { delays.borrow().delay };
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = arriving.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            // The road outlives what it carries.
            let _ = faults.wait_for(|fault| !fault.silent).await;
            if answers.is_some() && faults.borrow().half_closed {
                break;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
            if let Some(answered) = answers {
                answered.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            }
        }
        // It may be gone already.
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    /// A server that answers each byte with the same, and a client on a road to it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::to(&address).await;
        let client = TcpStream::connect(proxy.address).await.unwrap();
        (proxy, client)
    }

    async fn said(client: &mut TcpStream, byte: u8) -> io::Result<u8> {
        client.write_all(&[byte]).await?;
        client.read_u8().await
    }

    #[tokio::test]
    async fn what_is_asked_is_delayed() {
        let (proxy, mut client) = echo().await;
        assert_eq!(said(&mut client, 1).await.unwrap(), 1);
        proxy.set(Fault { delay: Duration::from_millis(60), ..Fault::default() });
        let began = Instant::now();
        assert_eq!(said(&mut client, 2).await.unwrap(), 2);
        assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_silent_road_loses_nothing() {
        let (proxy, mut client) = echo().await;
        proxy.set(Fault { silent: true, ..Fault::default() });
        client.write_all(&[7]).await.unwrap();
        assert!(timeout(Duration::from_millis(100), client.read_u8()).await.is_err());
        proxy.set(Fault::default());
        assert_eq!(client.read_u8().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn connections_are_reset_and_new_ones_refused() {
        let (proxy, mut client) = echo().await;
        assert_eq!(said(&mut client, 1).await.unwrap(), 1);
        proxy.set(Fault { refused: true, ..Fault::default() });
        proxy.reset();
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut next = TcpStream::connect(proxy.address).await.unwrap();
        assert!(said(&mut next, 1).await.is_err());
        proxy.set(Fault::default());
        let mut next = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(said(&mut next, 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_connection_is_cut_after_so_many_bytes() {
        let (proxy, mut client) = echo().await;
        assert_eq!(said(&mut client, 1).await.unwrap(), 1);
        proxy.set(Fault { cut_after: Some(2), ..Fault::default() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(said(&mut client, 2).await.unwrap(), 2);
        client.write_all(&[3, 4]).await.unwrap();
        let mut rest = Vec::new();
        assert!(client.read_to_end(&mut rest).await.is_err(), "{rest:?}");
    }

    #[tokio::test]
    async fn a_half_closed_connection_still_takes_what_is_asked() {
        let (proxy, mut client) = echo().await;
        assert_eq!(said(&mut client, 1).await.unwrap(), 1);
        proxy.set(Fault { half_closed: true, ..Fault::default() });
        client.write_all(&[2]).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        client.write_all(&[3]).await.unwrap();
    }
}
