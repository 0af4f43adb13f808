//! TCP where the server speaks first: a line of JSON that says who it is, then every byte comes back.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::config::Itself;

pub(crate) async fn serve(listener: TcpListener, itself: Itself) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let itself = itself.clone();
                tokio::spawn(async move {
                    if let Err(reason) = echo(stream, &itself).await {
                        tracing::debug!(%reason, "TCP connection ended");
                    }
                });
            }
            // Out of descriptors, or the peer is gone already: neither is a reason to end or to spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn echo(mut stream: TcpStream, itself: &Itself) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut greeting = serde_json::to_vec(itself)?;
    greeting.push(b'\n');
    stream.write_all(&greeting).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => stream.write_all(bytes).await?,
            _ => return stream.shutdown().await,
        }
    }
}
