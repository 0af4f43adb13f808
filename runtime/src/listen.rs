//! Sockets. Without `SO_REUSEPORT` a listener is also a lock: two processes cannot hold one address.
//! With it, the workers of one process share an address.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Connections the kernel keeps ready for `accept`.
const BACKLOG: i32 = 4096;

/// A TCP listener that no other process can share.
///
/// # Errors
/// When the address cannot be bound; the text names it and the likely reason.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    listener(address, false).map_err(|error| explain(address, "tcp", error))
}

/// A TCP listener that other workers of this process share (`SO_REUSEPORT`).
///
/// # Errors
/// As [`tcp`].
pub fn tcp_shared(address: SocketAddr) -> io::Result<TcpListener> {
    listener(address, true).map_err(|error| explain(address, "tcp", error))
}

/// A UDP socket that no other process can share.
///
/// # Errors
/// As [`tcp`].
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    datagram(address, false).and_then(UdpSocket::from_std).map_err(|error| explain(address, "udp", error))
}

/// A UDP socket that other workers of this process share (`SO_REUSEPORT`).
///
/// # Errors
/// As [`tcp`].
pub fn udp_shared(address: SocketAddr) -> io::Result<UdpSocket> {
    datagram(address, true).and_then(UdpSocket::from_std).map_err(|error| explain(address, "udp", error))
}

/// As [`udp`] and [`udp_shared`], for a library that wants the plain socket (quinn). Not blocking.
///
/// # Errors
/// As [`tcp`].
pub fn udp_std(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    datagram(address, shared).map_err(|error| explain(address, "udp", error))
}

/// The next connection, whatever happens: an error of one connection is skipped, and one of the process (no file
/// descriptor is left) is waited out, and said once.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut said = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "connections cannot be accepted for the moment");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether an error of `accept` is about the one connection only.
#[must_use]
pub fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted role bind while connections of its predecessor linger; on Linux it shares no live listener.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn datagram(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn explain(address: SocketAddr, protocol: &str, error: io::Error) -> io::Error {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "another process holds it",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
        _ => "the system refused it",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}/{protocol}: {reason} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unshared_listener_is_a_lock_and_its_error_names_the_address() {
        let held = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = held.local_addr().unwrap();
        for second in [tcp(address), tcp_shared(address)] {
            let error = second.unwrap_err().to_string();
            assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
        }
    }

    #[tokio::test]
    async fn shared_sockets_share_an_address() {
        let first = tcp_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        tcp_shared(first.local_addr().unwrap()).unwrap();
        let first = udp_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        udp_shared(first.local_addr().unwrap()).unwrap();
    }
}
