//! The local and the far gateway in one: reads the signed header, says which endpoint it chose, and passes bytes on to
//! that endpoint's sidecar without looking at them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Accept, Answer, Header, Notice, SignedHeader, answer, notice::State},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Where a far endpoint is: its id, and the address of its sidecar.
pub type Far = (&'static str, SocketAddr);

/// A gateway that serves while it lives.
pub struct Gateway {
    /// Headers that came, in order.
    pub headers: Arc<Mutex<Vec<Header>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    /// Listens at `address` and leads to the first of a cluster's endpoints that is not to be avoided, as a gateway does
    /// when that one has no connection open.
    pub async fn start(address: SocketAddr, far: Vec<(&'static str, Vec<Far>)>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let headers = Arc::<Mutex<Vec<Header>>>::default();
        let (kept, far) = (headers.clone(), Arc::new(far));
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (kept, far) = (kept.clone(), far.clone());
                tokio::spawn(async move { serve(tcp, &kept, &far).await });
            }
        });
        Self { headers, task }
    }
}

async fn serve(mut tcp: TcpStream, kept: &Mutex<Vec<Header>>, far: &[(&'static str, Vec<Far>)]) -> Option<()> {
    let mut buffer = BytesMut::new();
    let (kind, bytes) = loop {
        if let Some(taken) = frame::take(&mut buffer).ok()? {
            break taken;
        }
        if tcp.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    };
    if kind == Kind::Subscribe {
        for (cluster, _) in far {
            let notice =
                Notice { cluster: (*cluster).into(), state: State::Up.into(), rtt_us: 900, tunnel: String::new() };
            tcp.write_all(&frame::encode(Kind::Notice, &notice).ok()?).await.ok()?;
        }
        let _ = tcp.read(&mut [0; 64]).await;
        return None;
    }
    let signed = SignedHeader::decode(bytes).ok()?;
    let header = Header::decode(signed.header.as_slice()).ok()?;
    kept.lock().unwrap().push(header.clone());
    let (_, endpoints) = far.iter().find(|(cluster, _)| *cluster == header.cluster)?;
    let wanted = endpoints.iter().find(|(id, _)| !header.avoid.iter().any(|avoided| avoided == id));
    let (id, address) = wanted.or(endpoints.first())?;
    let accept = Accept { endpoint_id: (*id).into(), zone: "a".into(), gateway: "far".into(), ..Accept::default() };
    let answer = Answer { answer: Some(answer::Answer::Accept(accept)) };
    let mut to = TcpStream::connect(address).await.ok()?;
    tcp.write_all(&frame::encode(Kind::Answer, &answer).ok()?).await.ok()?;
    to.write_all(&buffer).await.ok()?;
    tokio::io::copy_bidirectional(&mut tcp, &mut to).await.ok().map(drop)
}
