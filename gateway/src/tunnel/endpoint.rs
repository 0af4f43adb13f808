//! QUIC as tunnels use it: who may speak, how long silence lasts, how much may be in flight.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::{hkdf, hmac};
use isthmus_core::name::SpiffeId;
use isthmus_runtime::{
    disk,
    identity::Identity,
    listen,
    tls::{self, Accept, ClientAuth},
};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use quinn_proto::HashedConnectionIdGenerator;

use crate::{congestion::BoundedBbr, error::Error};

/// The tunnels' protocol.
pub const ALPN: &[u8] = b"isthmus-tunnel/1";
/// A tunnel that is silent for so long is gone.
pub const IDLE: Duration = Duration::from_secs(3);
/// Something is sent at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Streams a peer may have open on one tunnel.
const MAX_STREAMS: u32 = 8192;
/// Bytes a stream may have in flight: 200 ms at 320 Mbit/s.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes a tunnel may have in flight, all streams together.
const TUNNEL_WINDOW: u32 = 64 * 1024 * 1024;
/// Assumed before the first measurement: a lost first packet is sent again after some 0.3 s instead of 1 s.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Bytes the kernel may keep for the socket: a burst that does not fit is lost.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Bytes of the secret on disk.
const SECRET: usize = 64;

/// How tunnels are set up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Setup {
    identity: Identity,
    transport: Arc<TransportConfig>,
}

impl Setup {
    /// For an identity. `offload`: whether packets are handed to the kernel in batches (GSO); off where a network
    /// card or a tunnel below mangles them.
    #[must_use]
    pub fn new(identity: Identity, offload: bool) -> Self {
        Self { identity, transport: Arc::new(transport(offload)) }
    }

    /// The endpoint on a socket of `address`, for both dialling and accepting.
    ///
    /// # Errors
    /// [`Error`]: the address is taken, the secret cannot be kept.
    pub fn endpoint(&self, address: SocketAddr, state_dir: &std::path::Path) -> Result<Endpoint, Error> {
        let secret = secret(state_dir)?;
        let reset_key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret));
        let socket = listen::udp_std(address, false)?;
        buffered(&socket);
        let mut config = EndpointConfig::new(reset_key);
        // Ids that a restarted gateway still recognises as its own: strange ones are dropped without a reset.
        let cid_key = secret.iter().take(8).fold(0u64, |key, byte| key << 8 | u64::from(*byte));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
        let runtime = quinn::default_runtime().ok_or_else(|| Error::Tunnels("there is no async runtime".into()))?;
        let server = self.server(&secret)?;
        Ok(Endpoint::new(config, Some(server), socket, runtime)?)
    }

    /// An endpoint of its own for one tunnel that is dialled from `address`: balancers tell flows apart by their ports, so
    /// that two tunnels may lead to two gateways, and one dialled anew to another one than before.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn outgoing(&self, address: IpAddr) -> Result<Endpoint, Error> {
        let socket = listen::udp_std(SocketAddr::new(address, 0), false)?;
        buffered(&socket);
        let runtime = quinn::default_runtime().ok_or_else(|| Error::Tunnels("there is no async runtime".into()))?;
        Ok(Endpoint::new(EndpointConfig::default(), None, socket, runtime)?)
    }

    fn server(&self, secret: &[u8]) -> Result<ServerConfig, Error> {
        let gateways = Accept::OneOf(Arc::new(is_gateway));
        let tls = tls::server_config(&self.identity, gateways, &[ALPN], ClientAuth::Required);
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| Error::Tunnels(error.to_string()))?;
        let token_key = Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, b"isthmus-retry").extract(secret));
        let mut config = ServerConfig::new(Arc::new(crypto), token_key);
        config.transport_config(self.transport.clone()).migration(false);
        Ok(config)
    }

    /// To dial a gateway that must be `peer` and nobody else.
    ///
    /// # Errors
    /// [`Error::Tunnels`].
    pub fn client(&self, peer: SpiffeId) -> Result<ClientConfig, Error> {
        let tls = tls::client_config(&self.identity, Accept::one(peer), &[ALPN]);
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| Error::Tunnels(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone());
        Ok(config)
    }
}

/// The system cuts the wish to what it allows; what it gives is what there is.
fn buffered(socket: &std::net::UdpSocket) {
    let buffers = socket2::SockRef::from(socket);
    let _ = (buffers.set_recv_buffer_size(SOCKET_BUFFER), buffers.set_send_buffer_size(SOCKET_BUFFER));
}

/// Whether an identity is some cluster's gateway.
#[must_use]
pub fn is_gateway(id: &SpiffeId) -> bool {
    id.namespace() == "isthmus-system" && id.service_account() == "gateway"
}

fn transport(offload: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(TUNNEL_WINDOW))
        .send_window(u64::from(TUNNEL_WINDOW))
        .datagram_receive_buffer_size(None)
        .initial_rtt(FIRST_RTT)
        .enable_segmentation_offload(offload)
        .congestion_controller_factory(Arc::new(BoundedBbr));
    transport
}

/// The secret that stateless resets are derived from: kept, so that peers of a restarted gateway learn it at once.
fn secret(state_dir: &std::path::Path) -> Result<Vec<u8>, Error> {
    let path = state_dir.join("tunnel.secret");
    disk::make_dir(state_dir)?;
    if let Some(kept) = disk::read(&path)?.filter(|kept| kept.len() == SECRET) {
        return Ok(kept);
    }
    let mut fresh = vec![0; SECRET];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| Error::Tunnels("the system has no randomness".into()))?;
    disk::write_atomic(&path, &fresh)?;
    Ok(fresh)
}
