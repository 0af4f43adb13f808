//! Plain connections: to the outside, and to the own application. The application of a captured pod is dialled from an
//! address that says that it is the sidecar, or from the client's own where that shall be seen.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::capture::{APPLICATION_V4, APPLICATION_V6, Mode, SIDECAR};

/// From where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum From {
    /// Whatever address the system takes.
    #[default]
    Any,
    /// The sidecar's address on loopback.
    Sidecar,
    /// A client's address, which is not ours: what is sent and answered is led by `capture`'s rules.
    Client(IpAddr),
}

/// Where a plain connection leads, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dial {
    pub(crate) to: SocketAddr,
    pub(crate) from: From,
}

impl Dial {
    /// To somewhere outside.
    pub(crate) fn outside(to: SocketAddr) -> Self {
        Self { to, from: From::Any }
    }

    /// To the own application, for this client.
    pub(crate) fn application(to: SocketAddr, capture: Option<Mode>, client: Option<IpAddr>) -> Self {
        let from = match (capture, client) {
            (None, _) => From::Any,
            (Some(Mode::Tproxy), Some(client)) if client.is_ipv4() == to.is_ipv4() && !client.is_loopback() => {
                From::Client(client)
            }
            (Some(_), _) => From::Sidecar,
        };
        Self { to, from }
    }

    /// Opens it.
    pub(crate) async fn connect(self) -> io::Result<TcpStream> {
        let stream = match self.from {
            From::Any => TcpStream::connect(self.to).await,
            From::Client(client) => self.bound(client, true).await,
            From::Sidecar => {
                let own = if self.to.is_ipv4() { APPLICATION_V4.into() } else { APPLICATION_V6.into() };
                match self.bound(own, false).await {
                    // All ports of that address are in use, or the pod has none in this family.
                    Err(error) if is_of_source(&error) => TcpStream::connect(self.to).await,
                    connected => connected,
                }
            }
        }?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn bound(self, source: IpAddr, foreign: bool) -> io::Result<TcpStream> {
        let socket = if self.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if foreign {
            let socket = SockRef::from(&socket);
            match self.to {
                SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
            }
            socket.set_mark(SIDECAR)?;
        }
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(self.to).await
    }
}

fn is_of_source(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_client_is_shown_only_where_that_is_asked_for() {
        let (to, six) = ("10.0.0.2:80".parse().unwrap(), "[fd00::2]:80".parse().unwrap());
        let client: Option<IpAddr> = Some([10, 0, 0, 1].into());
        let from = |to, capture, client| Dial::application(to, capture, client).from;
        assert_eq!(from(to, None, client), From::Any);
        assert_eq!(from(to, Some(Mode::Redirect), client), From::Sidecar);
        assert_eq!(from(to, Some(Mode::Tproxy), client), From::Client([10, 0, 0, 1].into()));
        assert_eq!(from(six, Some(Mode::Tproxy), client), From::Sidecar);
        assert_eq!(from(to, Some(Mode::Tproxy), Some([127, 0, 0, 1].into())), From::Sidecar);
    }

    #[tokio::test]
    async fn the_application_sees_the_sidecars_address() {
        let application = TcpListener::bind("127.71.0.1:0").await.unwrap();
        let dial = Dial::application(application.local_addr().unwrap(), Some(Mode::Redirect), None);
        let (_stream, accepted) = (dial.connect().await.unwrap(), application.accept().await.unwrap());
        assert_eq!(accepted.1.ip(), APPLICATION_V4);
    }
}
