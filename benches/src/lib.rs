//! What Isthmus costs, side by side with other proxies on the same machine, in the same minutes.
//!
//! Two cases, each with 32 keep-alive connections of HTTP/1.1 and a body of 100 bytes, metrics on:
//! - **hop**: one plaintext hop, load → proxy → backend;
//! - **pair**: a sidecar pair, load → proxy → mTLS → proxy → backend.
//!
//! The figure is the CPU of the proxies' processes a request (user and system time of `/proc/PID/stat` over the counted requests), since
//! it is what a fleet pays for, and what a busy machine distorts least. The contenders stay up for the whole run and take the load in turn
//! (A B C A B C …), so that whatever the machine does meanwhile meets all of them; the table shows medians and ratios.
//!
//! From the bottom: [`tools`] (what must be installed), [`process`] (children and their CPU), [`http`] (one probe), [`load`] (wrk),
//! [`certificates`], [`yard`] (addresses, files, the backend), [`counters`] (what a proxy says it carried), [`contender`] (one file a
//! proxy), [`measure`] (the rounds), [`report`] (medians and ratios), [`page`] (`benches/RESULTS.md`).

pub mod certificates;
pub mod contender;
pub mod counters;
pub mod http;
pub mod load;
pub mod measure;
pub mod page;
pub mod process;
pub mod report;
pub mod tools;
pub mod yard;
