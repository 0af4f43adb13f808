//! The door to the outside that all roles share.
//!
//! A role decides in pure code of its own; whatever touches a socket, a disk, a clock or a signal in the same way in
//! every role is here, once.
//!
//! | module | promise |
//! | --- | --- |
//! | [`config`] | a configuration file is read whole or refused with file, line, field and reason |
//! | [`drain`] | everybody learns that the process ends, and how long it may take |
//! | [`places`] | room for strangers: bounded, and a flood of them pays for itself |
//! | [`listen`] | sockets that name the address when they cannot be bound |
//! | [`disk`] | a file is the old one or the new one, never half of each |
//! | [`backoff`] | waits that grow and do not beat in time |
//! | [`key`] | a cluster's federation key, made once |
//! | [`identity`] | the own leaf and everybody's roots, hot |
//! | [`enrolment`] | how a process comes by its first leaf, and by every next one |
//! | [`trust`] | roots by trust domain |
//! | [`certificate`] | until when a certificate is valid |
//! | [`tls`] | TLS 1.3 between identities; a chain counts only under the roots of its own trust domain |
//! | [`pass`] | the right to open streams at the local gateways |
//! | [`grpc`] | tonic over that TLS, both ends |
//! | [`http1`] | plain HTTP for operators, bounded |
//! | [`admin`] | the admin port, which is also the lock of a role, with metrics and health beside it |
//! | [`readiness`] | ready when every part is |
//! | [`metrics`] | one registry a process |
//! | [`logs`] | lines on stderr, level changeable |
//! | [`feed`] | the client half of the feed |
//! | [`dns`] | names of services, answered over UDP and TCP |

pub mod admin;
pub mod backoff;
pub mod certificate;
pub mod config;
pub mod disk;
pub mod dns;
pub mod drain;
pub mod enrolment;
pub mod feed;
pub mod grpc;
pub mod http1;
pub mod identity;
pub mod key;
pub mod listen;
pub mod logs;
pub mod metrics;
pub mod pass;
pub mod places;
pub mod readiness;
pub mod tls;
pub mod trust;
