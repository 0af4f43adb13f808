//! A bad network between the clusters of one machine: every cluster in a network namespace of its own, and a router in
//! this process that carries IP packets from one to the other, each way with its own delay, loss, rate and the like.
//!
//! Why not netem: not every kernel has it (ours has not), it knows no cut in one direction between two of three peers,
//! and nothing of it can be tested in virtual time. Here what happens to a packet is decided by a pure machine
//! ([`link::Link`]), and a thread moves the bytes ([`router`]).
//!
//! ```text
//!  root namespace                 isthmus-<run>-us-east             isthmus-<run>-us-west
//!  isth-1 ◄──── veth ────► host   lo 241.1.0.1/16                   lo 241.2.0.1/16   host ◄──► isth-2
//!                                 wan ◄── TUN ──► router ◄── TUN ──► wan
//! ```
//!
//! The root namespace reaches every process by the veth pair, past the router: operators, tests and browsers see the
//! mesh as it is while the network between its clusters is cut. Packets do not go from one cluster to another by the
//! root namespace, whatever its forwarding: a namespace has no route to other clusters but its TUN.
//!
//! | module | idea |
//! | --- | --- |
//! | [`settings`] | what a link is like, and changes to it |
//! | [`link`] | pure: what becomes of each packet |
//! | [`loss`] | pure: which packets are lost, singly or in bursts |
//! | [`pace`] | pure: a rate and the queue in front of it |
//! | [`packet`] | pure: what the router reads of a packet, and the one it writes itself |
//! | [`counts`] | what became of packets, by why
//! | [`links`] | all links of a network, shared by the router and who changes them |
//! | [`router`] | the thread that moves packets |
//! | [`namespace`] | namespaces, their devices, and what is left of killed runs |
//! | [`regions`] | round trips between regions |
//! | [`network`] | all of it for a plan |

pub mod counts;
pub mod link;
pub mod links;
pub mod loss;
pub mod namespace;
pub mod network;
pub mod pace;
pub mod packet;
pub mod regions;
pub mod router;
pub mod settings;
