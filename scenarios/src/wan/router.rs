//! The thread that moves packets: from the TUN device of one namespace to that of another, when the link says so.
//!
//! It sleeps in `ppoll` until a packet comes or one is due, so a packet is late by the kernel's timer slack and by the
//! wait for a core. It does little and comes first, or the delays of a busy machine would be those of the network.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, PipeWriter},
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::linux::Tun;

use super::{
    link::{Reason, Verdict},
    links::Links,
    packet::{self, Doors},
};

/// Packets taken from one device before the others get their turn, and what is due is delivered.
const BATCH: usize = 64;
/// No packet of a TUN device is larger.
const LARGEST: usize = 65_536;
/// Packets under way, all links together; what comes then is dropped as by a full queue. A megabit of delay at a gigabit.
const MOST_UNDER_WAY: usize = 100_000;
/// Above the processes of the mesh, where the system gives no real-time priority.
const NICE: i32 = -15;

/// A cluster's TUN device; its number tells which addresses are behind it.
pub struct Port {
    /// The second octet of the addresses behind it.
    pub number: u8,
    /// The device.
    pub device: Tun,
}

/// A router that runs until it is dropped.
pub struct Router {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Routes between these ports.
    ///
    /// # Errors
    /// When the system has no thread or no pipe left, or a device cannot be read without waiting.
    pub fn start(ports: Vec<Port>, links: Arc<Links>, doors: Doors) -> io::Result<Self> {
        for port in &ports {
            port.device.set_nonblocking(true)?;
        }
        let (stopped, stop) = io::pipe()?;
        let (started, starts) = std::sync::mpsc::channel();
        let table = Table { ports, links, doors, under_way: BinaryHeap::new(), sent: 0 };
        let thread = std::thread::Builder::new().name("wan".into()).spawn(move || {
            come_first();
            let _ = started.send(());
            if let Err(reason) = table.route(&stopped) {
                tracing::error!(%reason, "the network between the clusters stands still; raise the mesh again");
            }
        })?;
        // Packets that came before would be later than their link says.
        let _ = starts.recv();
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The calling thread gets a core as soon as it wants one; also for who measures the router. On two cores with eighteen
/// threads that want them, a sleep of 20 ms was late by 6 ms in the median, with the highest weight by 2.5 ms (and by 68 in
/// one of ten), with a real-time priority by 0.1 ms. Without the right to either, delays are less exact, no more.
pub fn come_first() {
    let thread = rustix::thread::gettid().as_raw_pid().to_string();
    let real_time = Command::new("chrt").args(["--fifo", "--pid", "1", &thread]).stderr(Stdio::null()).status();
    if !real_time.is_ok_and(|status| status.success()) {
        let _ = rustix::process::nice(NICE);
    }
}

/// A packet under way; ordered by when it arrives, then by when it was sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    at: Duration,
    sent: u64,
    from: u8,
    to: u8,
    bytes: Box<[u8]>,
}

struct Table {
    ports: Vec<Port>,
    links: Arc<Links>,
    doors: Doors,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    sent: u64,
}

impl Table {
    fn route(mut self, stopped: &impl AsFd) -> io::Result<()> {
        let mut buffer = vec![0; LARGEST];
        loop {
            let ready = self.wait(stopped)?;
            let Some(ready) = ready else { return Ok(()) };
            self.deliver();
            for index in ready {
                self.take(index, &mut buffer);
                self.deliver();
            }
        }
    }

    /// Until a packet comes, or one is due: the ports that have one. `None`: it is over.
    fn wait(&self, stopped: &impl AsFd) -> io::Result<Option<Vec<usize>>> {
        let until = self.under_way.peek().map(|Reverse(next)| next.at.saturating_sub(self.links.now()));
        let until = until.and_then(|wait| Timespec::try_from(wait).ok());
        let mut polled = vec![PollFd::new(stopped, PollFlags::IN)];
        polled.extend(self.ports.iter().map(|port| PollFd::new(&port.device, PollFlags::IN)));
        match poll(&mut polled, until.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(reason) => return Err(reason.into()),
        }
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            return Ok(None);
        }
        Ok(Some(ready.enumerate().filter_map(|(index, ready)| ready.then_some(index)).collect()))
    }

    fn take(&mut self, index: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Some(port) = self.ports.get(index) else { return };
            let Ok(length) = port.device.recv(buffer) else { return };
            let from = port.number;
            if let Some(bytes) = buffer.get(..length) {
                self.send(from, bytes);
            }
        }
    }

    fn send(&mut self, from: u8, bytes: &[u8]) {
        let Some(head) = packet::read(bytes) else { return };
        let [_, own, _, _] = head.source.octets();
        let [_, to, _, _] = head.destination.octets();
        if let Some(why) = self.refuses(own, from, &head) {
            return self.links.refused(from, to, why);
        }
        match self.links.offer(self.links.now(), from, to, head.packet) {
            Some(Verdict::Arrives(at)) => {
                self.sent += 1;
                self.under_way.push(Reverse(UnderWay { at, sent: self.sent, from, to, bytes: bytes.into() }));
            }
            Some(Verdict::Dropped(Reason::TooLarge)) => {
                let answer = packet::too_large(bytes, self.links.largest(from, to));
                if let Some(answer) = answer {
                    self.put(from, &answer);
                }
            }
            _ => {}
        }
    }

    /// Why a packet does not come to a link.
    fn refuses(&self, own: u8, from: u8, head: &packet::Head) -> Option<Reason> {
        if own != from {
            // Who is in one cluster speaks with no other cluster's address.
            Some(Reason::Foreign)
        } else if !self.doors.let_through(head) {
            Some(Reason::Closed)
        } else {
            (self.under_way.len() >= MOST_UNDER_WAY).then_some(Reason::Overrun)
        }
    }

    fn deliver(&mut self) {
        let now = self.links.now();
        while self.under_way.peek().is_some_and(|Reverse(next)| next.at <= now) {
            let Some(Reverse(packet)) = self.under_way.pop() else { return };
            if self.links.ends(packet.from, packet.to) {
                let taken = self.put(packet.to, &packet.bytes);
                self.links.arrived(packet.from, packet.to, packet.bytes.len(), taken);
            }
        }
    }

    /// Whether the device of a cluster took it: in a namespace that is just being removed none does, like a host that was
    /// switched off.
    fn put(&self, to: u8, bytes: &[u8]) -> bool {
        let port = self.ports.iter().find(|port| port.number == to);
        port.is_some_and(|port| port.device.send(bytes).is_ok())
    }
}
