//! placeholder
use crate::{
    compiler::{Compiled, Setting},
    error::Error,
};
use isthmus_runtime::drain::Drain;
use std::{net::IpAddr, sync::Arc};
use tokio::{sync::watch, task::JoinSet};
/// Starts.
pub async fn start(
    _setting: &Setting,
    _address: IpAddr,
    _compiled: watch::Receiver<Option<Arc<Compiled>>>,
    _tasks: &mut JoinSet<()>,
    _drain: &Drain,
) -> Result<(), Error> {
    Ok(())
}
