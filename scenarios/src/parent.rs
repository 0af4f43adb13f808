//! A role ends when its supervisor does, however that ends: a killed `up` leaves no process behind.

/// The variable in which a supervisor tells a child its own process id.
pub const PARENT: &str = "ISTHMUS_PARENT";

/// Called by a role before anything else: asks the kernel to be killed with its parent, if it has one that wants it.
/// Returns whether the role may go on; the parent may have died before the kernel was asked.
#[must_use]
pub fn follow() -> bool {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|id| id.parse::<i32>().ok()) else { return true };
    let asked = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    asked.is_ok() && rustix::process::getppid().map(rustix::process::Pid::as_raw_pid) == Some(parent)
}
