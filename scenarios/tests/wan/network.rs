//! The router's promises, measured by sockets in two namespaces.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use isthmus_core::plan::{ClusterAddresses, Form};
use isthmus_scenarios::wan::{
    links::{Counts, End, Scope},
    namespace::inside,
    network::Network,
    packet::Doors,
    router::come_first,
    settings::{Change, Settings, Udp},
};

const MS: Duration = Duration::from_millis(1);
/// The port that other clusters reach where not all are open.
const PUBLIC: u16 = 15_443;

/// Two clusters with nothing between them yet.
struct Two {
    network: Network,
    names: Vec<String>,
    ends: [End; 2],
}

impl Two {
    fn raise(number: u8, doors: Doors) -> Self {
        let end = |(name, number): (&str, u8)| End { name: name.parse().unwrap(), number };
        let ends = [("near", number), ("far", number + 1)].map(end);
        let network = Network::raise(7, ends.to_vec(), doors, |_, _| Settings::default());
        let network = network.unwrap_or_else(|reason| panic!("these tests need root and TUN devices: {reason:#}"));
        let names = network.namespaces().map(str::to_owned).collect();
        Self { network, names, ends }
    }

    fn address(&self, end: usize, port: u16) -> SocketAddr {
        SocketAddr::new(ClusterAddresses::new(Form::Namespaces, self.ends[end].number).gateway(), port)
    }

    fn udp(&self, end: usize, port: u16) -> UdpSocket {
        let address = self.address(end, port);
        let socket = inside(&self.names[end], || UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // What the link lets through must not be lost in front of the test.
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        socket
    }

    fn listen(&self, port: u16) -> TcpListener {
        let address = self.address(1, port);
        inside(&self.names[1], || TcpListener::bind(address)).unwrap().unwrap()
    }

    fn connect(&self, to: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
        inside(&self.names[0], || TcpStream::connect_timeout(&to, limit)).unwrap()
    }

    fn change(&self, one_way_from: Option<usize>, change: Change) {
        let one = one_way_from.map(|end| self.ends[end].name.clone());
        let scope = Scope { one_way: one.is_some(), one, other: None };
        self.network.links.change(&scope, &change).unwrap();
    }

    /// Sends numbered packets from the first to the second, waits for those under way: which came, in their order.
    fn shoot(&self, count: u32, bytes: usize, gap: Duration) -> Vec<u32> {
        let (from, to, before) = (self.udp(0, 0), self.udp(1, PUBLIC), self.decided());
        let passed_before = self.passed();
        let target = to.local_addr().unwrap();
        for n in 0..count {
            let mut packet = vec![0; bytes];
            packet[..4].copy_from_slice(&n.to_be_bytes());
            from.send_to(&packet, target).unwrap();
            std::thread::sleep(gap);
        }
        self.wait_until_decided(before + u64::from(count));
        // What the router handed over the system may deliver a moment later; what passed that is no UDP never comes here.
        let mut buffer = [0; 2000];
        let mut came =
            || whole(|| to.recv(&mut buffer)).ok().map(|_| u32::from_be_bytes(buffer[..4].try_into().unwrap()));
        (passed_before..self.passed()).map_while(|_| came()).collect()
    }

    /// Packets from the first to the second that passed.
    fn passed(&self) -> u64 {
        self.network.links.rows()[0].counts.passed
    }

    /// Packets from the first to the second of which it is decided what became of them.
    fn decided(&self) -> u64 {
        let Counts { passed, lost, queue_full, cut, udp, too_large, .. } = self.network.links.rows()[0].counts;
        passed + lost + queue_full + cut + udp + too_large
    }

    fn wait_until_decided(&self, packets: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.decided() < packets {
            assert!(Instant::now() < until, "{} of {packets} packets: {:?}", self.decided(), self.network.links.rows());
            std::thread::sleep(MS);
        }
    }

    /// Round trips of an echo.
    fn round_trips(&self, count: usize) -> Vec<Duration> {
        let (asks, echo) = (self.udp(0, 0), self.udp(1, 0));
        asks.connect(echo.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 100];
        let mut trip = || {
            let begun = Instant::now();
            asks.send(b"ask").unwrap();
            let (length, from) = whole(|| echo.recv_from(&mut buffer)).expect("the question arrives");
            echo.send_to(&buffer[..length], from).unwrap();
            whole(|| asks.recv(&mut buffer)).expect("the answer arrives");
            begun.elapsed()
        };
        (0..count).map(|_| trip()).collect()
    }
}

/// A call that a signal interrupted is made again.
fn whole<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(reason) if reason.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn until_gone(is_there: impl Fn() -> bool, otherwise: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while is_there() {
        assert!(Instant::now() < until, "{otherwise}");
        std::thread::sleep(MS);
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

#[test]
fn packets_are_as_late_as_the_link_says_and_no_later_than_the_machine_makes_them() {
    let two = Two::raise(152, Doors::default());
    // What is measured is the router's lateness, not that of this thread.
    come_first();
    two.change(None, Change { delay_us: Some(20_000), ..Change::default() });
    // The control: how late this machine wakes a thread that sleeps twice, as this one does in a round trip.
    let sleep = || {
        let begun = Instant::now();
        (0..2).for_each(|_| std::thread::sleep(20 * MS));
        begun.elapsed()
    };
    // In turns, so that both meet the same machine.
    let (mut trips, mut slept) = (vec![], vec![]);
    for _ in 0..10 {
        trips.extend(two.round_trips(5));
        slept.extend((0..5).map(|_| sleep()));
    }
    assert!(trips.iter().all(|trip| *trip >= 40 * MS), "none is early: {trips:?}");
    let (trip, slept) = (median(trips), median(slept));
    println!("a round trip over 20 ms each way takes {trip:?}, two sleeps of 20 ms {slept:?}");
    assert!(trip <= slept + 2 * MS, "late: {trip:?}, two sleeps take {slept:?}");
}

#[test]
fn losses_cuts_and_reordering_are_those_asked_for_in_their_direction_only() {
    let two = Two::raise(154, Doors::default());
    two.change(Some(0), Change { loss: Some(0.2), ..Change::default() });
    let came = two.shoot(3000, 100, Duration::ZERO).len();
    assert!((2290..2510).contains(&came), "{came} of 3000 came at 20 % loss");
    // The answers' way loses nothing; the question may, so only answers are counted.
    let counts = two.network.links.rows();
    assert_eq!(counts.iter().map(|row| row.counts.lost).sum::<u64>(), 3000 - came as u64);
    two.network.links.heal(&Scope::default()).unwrap();
    two.change(Some(0), Change { reorder: Some(0.1), delay_us: Some(80_000), ..Change::default() });
    let order = two.shoot(300, 100, MS / 5);
    let overtaken = order.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(order.len() == 300 && (5..60).contains(&overtaken), "{overtaken} of {} were overtaken", order.len());
    two.change(Some(0), Change::cut());
    assert_eq!(two.shoot(50, 100, Duration::ZERO).len(), 0, "a cut lets nothing through");
    let (from, to) = (two.udp(1, 0), two.udp(0, 0));
    from.send_to(b"the other way", to.local_addr().unwrap()).unwrap();
    assert_eq!(whole(|| to.recv(&mut [0; 100])).expect("the other way is not cut"), 13);
}

#[test]
fn udp_is_blocked_while_tcp_passes_and_what_is_not_public_is_not_reached() {
    let two = Two::raise(156, Doors(vec![PUBLIC]));
    two.change(None, Change { udp: Some(Udp::Blocked), ..Change::default() });
    let (public, admin) = (two.listen(PUBLIC), two.listen(15_000));
    let mut stream = two.connect(public.local_addr().unwrap(), Duration::from_secs(5)).expect("TCP passes");
    let (mut accepted, from) = public.accept().unwrap();
    accepted.write_all(b"over tcp").unwrap();
    let mut said = [0; 8];
    stream.read_exact(&mut said).unwrap();
    assert_eq!((&said, from.ip().to_string()), (b"over tcp", "241.156.0.1".to_owned()));
    let refused = two.connect(admin.local_addr().unwrap(), Duration::from_millis(500)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
    // From the machine itself it is: past the router, by the pair of devices.
    TcpStream::connect_timeout(&admin.local_addr().unwrap(), Duration::from_secs(5)).expect("the machine reaches it");
    assert_eq!(two.shoot(20, 100, Duration::ZERO).len(), 0);
}

#[test]
fn a_smaller_mtu_is_told_to_tcp_and_drops_what_is_too_large() {
    let two = Two::raise(158, Doors::default());
    two.change(None, Change { mtu: Some(1000), ..Change::default() });
    let listener = two.listen(9000);
    let mut stream = two.connect(listener.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let sent = vec![7; 200_000];
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stream.write_all(&copy).unwrap());
    let mut got = Vec::new();
    accepted.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    accepted.read_to_end(&mut got).expect("TCP learns the MTU and goes on");
    writer.join().unwrap();
    assert_eq!(got, sent);
    let too_large = two.network.links.rows().iter().map(|row| row.counts.too_large).sum::<u64>();
    assert!(too_large > 0, "no packet was too large, so nothing was shown");
}

#[test]
fn a_rate_holds_and_its_queue_is_the_wait() {
    let two = Two::raise(160, Doors::default());
    // A kilobyte a millisecond, with room for fifty: of two hundred at once fifty wait and most are dropped.
    two.change(Some(0), Change { rate: Some(8_000_000), queue: Some(50_000), ..Change::default() });
    let begun = Instant::now();
    let came = two.shoot(200, 972, Duration::ZERO).len();
    let took = begun.elapsed();
    assert!(came >= 50, "{came} kB came of a queue of 50 kB");
    assert!(came as u128 <= took.as_millis() + 2, "faster than the rate: {came} kB in {took:?}");
    assert_eq!(two.network.links.rows()[0].counts.queue_full, 200 - came as u64);
}

#[test]
fn what_a_run_made_is_gone_with_it_and_a_number_has_one_owner() {
    let names = {
        let two = Two::raise(162, Doors::default());
        let again = Network::raise(1, two.ends.to_vec(), Doors::default(), |_, _| Settings::default());
        let refused = again.err().expect("the numbers are taken").to_string();
        assert!(refused.contains("number 162") && refused.contains("--first-number"), "{refused}");
        assert!(two.names.iter().all(|name| std::path::Path::new("/run/netns").join(name).exists()));
        two.names.clone()
    };
    assert_eq!(names, ["isthmus-162-near", "isthmus-163-far"]);
    for (name, number) in names.iter().zip([162, 163]) {
        assert!(!std::path::Path::new("/run/netns").join(name).exists(), "{name} is left");
        assert!(!std::path::Path::new(&format!("/sys/class/net/isth-{number}")).exists(), "isth-{number} is left");
        // Whoever raises a network beside this test may hold the lock for a moment, to see whether anything is left.
        let lock = format!("/run/isthmus/{number}.lock");
        until_gone(|| std::path::Path::new(&lock).exists(), "a lock is left");
    }
}

#[test]
fn what_a_killed_run_left_is_removed_and_nothing_else() {
    let ip = |arguments: &[&str]| {
        assert!(
            std::process::Command::new("ip").args(arguments).status().expect("iproute2").success(),
            "{arguments:?}"
        );
    };
    let exists = |name: &str| std::path::Path::new("/run/netns").join(name).exists();
    // A run that is killed leaves its namespaces and its lock's file, which nobody holds any more.
    ip(&["netns", "add", "isthmus-164-left"]);
    ip(&["link", "add", "isth-164", "type", "veth", "peer", "name", "host", "netns", "isthmus-164-left"]);
    ip(&["netns", "add", "isthmus-165-foreign"]);
    std::fs::create_dir_all("/run/isthmus").unwrap();
    // Last, because with it whoever raises a network beside this test may remove them.
    std::fs::write("/run/isthmus/164.lock", "").unwrap();
    let lives = Two::raise(166, Doors::default());
    // Somebody else may be about to remove them.
    let device = std::path::Path::new("/sys/class/net/isth-164");
    until_gone(|| exists("isthmus-164-left") || device.exists(), "what a killed run left is there");
    let kept = [exists("isthmus-165-foreign"), exists(&lives.names[0])];
    ip(&["netns", "del", "isthmus-165-foreign"]);
    assert_eq!(kept, [true, true]);
    drop(Two::raise(168, Doors::default()));
    assert!(lives.names.iter().all(|name| exists(name)), "a run that lives is left alone");
}
