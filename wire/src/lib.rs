//! Every message between processes of the mesh: protobuf schemas, the frame on streams, and the versions spoken.
//!
//! No I/O: bytes in, values out. Content that is a word of the mesh (a compiled resource, what a cluster says)
//! travels as JSON of its `isthmus-core` type inside a protobuf envelope that carries version and signature, so the
//! signed bytes are the sent bytes and no second schema can drift from the first.

pub mod frame;
pub mod signing;

/// The range of wire versions this build speaks; stated in every hello (DESIGN.md decision 6).
pub const WIRE_VERSIONS: core::ops::RangeInclusive<u32> = 1..=1;

/// Ask the cluster's CA for an identity.
#[allow(missing_docs, clippy::all)]
pub mod identity {
    tonic::include_proto!("isthmus.identity.v1");
}

/// Header, answer, notice, metadata record: what is spoken around an inner connection.
#[allow(missing_docs, clippy::all)]
pub mod tunnel {
    tonic::include_proto!("isthmus.tunnel.v1");
}

/// Members among themselves and with their own control.
#[allow(missing_docs, clippy::all)]
pub mod federation {
    tonic::include_proto!("isthmus.federation.v1");
}

/// Compiled configuration to proxies and gateways.
#[allow(missing_docs, clippy::all)]
pub mod feed {
    tonic::include_proto!("isthmus.feed.v1");
}

/// Replicas of one control among themselves.
#[allow(missing_docs, clippy::all)]
pub mod replicas {
    tonic::include_proto!("isthmus.replicas.v1");
}
