//! Sockets. Without `SO_REUSEPORT` a listener is also a lock: two processes cannot hold one address.
//! With it, the workers of one process share an address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

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

/// TCP listeners on every address of the network namespace, one for IPv4 and one for IPv6 where there is IPv6, that other
/// workers of this process share. `transparent`: they also take what was sent to addresses that are none of ours, or to
/// other ports, when a rule of the kernel leads it here (TPROXY); this needs the capability `NET_ADMIN`.
///
/// # Errors
/// As [`tcp`], and when the privilege is missing.
pub fn tcp_everywhere(port: u16, transparent: bool) -> io::Result<Vec<TcpListener>> {
    let four = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let six = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let open = |address| everywhere(address, transparent).map_err(|error| explain(address, "tcp", error));
    let mut listeners = vec![open(four)?];
    // A kernel without IPv6 has no connections there to take.
    match open(six) {
        Ok(listener) => listeners.push(listener),
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            return Err(error);
        }
        Err(error) => tracing::debug!(%error, "no IPv6"),
    }
    Ok(listeners)
}

/// The loopback address of the family that this address is of.
#[must_use]
pub const fn loopback(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
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
    listening(tcp_socket(address, shared)?, address)
}

fn everywhere(address: SocketAddr, transparent: bool) -> io::Result<TcpListener> {
    let socket = tcp_socket(address, true)?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(transparent)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(transparent)?;
        }
    }
    listening(socket, address)
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted role bind while connections of its predecessor linger; on Linux it shares no live listener.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    Ok(socket)
}

fn listening(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
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
