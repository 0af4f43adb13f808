//! What one direction of a link is like, and changes to it.

use std::{fmt, time::Duration};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The longest delay and jitter: more is no network, and packets under way are kept in memory.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// The slowest rate, bits a second: below it one packet takes more than a second.
pub const SLOWEST_RATE: u64 = 8_000;
/// The smallest MTU that every IPv4 network must carry (RFC 791).
pub const SMALLEST_MTU: u16 = 68;
/// The MTU of the devices in front of the router: Ethernet's.
pub const DEVICE_MTU: u16 = 1500;
/// A queue takes at least so many bytes, or a burst of two packets would be lost on an idle link.
const SMALLEST_QUEUE: u64 = 10 * DEVICE_MTU as u64;

/// How one direction of a link treats packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// From one end to the other, microseconds.
    pub delay_us: u64,
    /// Each packet's delay differs from [`Settings::delay_us`] by at most this, either way, evenly distributed,
    /// microseconds. Packets do not overtake each other by it: when they follow closely, the later waits for the earlier.
    pub jitter_us: u64,
    /// The part of the packets that is lost, 0 to 1.
    pub loss: f64,
    /// How many packets in a row are lost on average (Gilbert-Elliott); 0: each is lost or not by itself.
    pub burst: f64,
    /// Bits a second; 0: without a limit.
    pub rate: u64,
    /// Bytes that wait for the rate, what comes then is dropped; 0: what the rate carries in one round trip.
    pub queue: u64,
    /// The part of the packets that is held back so that later ones overtake them, 0 to 1.
    pub reorder: f64,
    /// The largest packet, bytes, at most [`DEVICE_MTU`]; 0: that.
    pub mtu: u16,
    /// Nothing passes, and nothing arrives that is under way.
    pub cut: bool,
    /// What happens to UDP.
    pub udp: Udp,
}

/// What happens to UDP on a link; middleboxes that starve or block it are why tunnels need a TCP fallback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Udp {
    /// It passes like everything else.
    #[default]
    Open,
    /// It is dropped.
    Blocked,
    /// So many bits a second of it pass, the rest is dropped.
    Throttled(u64),
}

/// A change: what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "each field is that of Settings")]
pub struct Change {
    pub delay_us: Option<u64>,
    pub jitter_us: Option<u64>,
    pub loss: Option<f64>,
    pub burst: Option<f64>,
    pub rate: Option<u64>,
    pub queue: Option<u64>,
    pub reorder: Option<f64>,
    pub mtu: Option<u16>,
    pub cut: Option<bool>,
    pub udp: Option<Udp>,
}

impl Change {
    /// Nothing passes any more.
    #[must_use]
    pub fn cut() -> Self {
        Self { cut: Some(true), ..Self::default() }
    }
}

impl Settings {
    /// A link whose round trip, with one like it the other way, is this.
    #[must_use]
    pub fn with_round_trip(round_trip: Duration) -> Self {
        Self { delay_us: u64::try_from(round_trip.as_micros() / 2).unwrap_or(u64::MAX), ..Self::default() }
    }

    /// These settings after a change.
    ///
    /// # Errors
    /// When a value is outside what a link can be: which, and what it may be.
    pub fn after(&self, change: &Change) -> Result<Self> {
        let after = Self {
            delay_us: change.delay_us.unwrap_or(self.delay_us),
            jitter_us: change.jitter_us.unwrap_or(self.jitter_us),
            loss: change.loss.unwrap_or(self.loss),
            burst: change.burst.unwrap_or(self.burst),
            rate: change.rate.unwrap_or(self.rate),
            queue: change.queue.unwrap_or(self.queue),
            reorder: change.reorder.unwrap_or(self.reorder),
            mtu: change.mtu.unwrap_or(self.mtu),
            cut: change.cut.unwrap_or(self.cut),
            udp: change.udp.unwrap_or(self.udp),
        };
        after.check()?;
        Ok(after)
    }

    fn check(&self) -> Result<()> {
        let longest = u64::try_from(LONGEST_DELAY.as_micros()).unwrap_or(u64::MAX);
        for (name, value) in [("delay", self.delay_us), ("jitter", self.jitter_us)] {
            if value > longest {
                bail!("a {name} of {} s is too long; at most {} s", value / 1_000_000, LONGEST_DELAY.as_secs());
            }
        }
        for (name, value) in [("loss", self.loss), ("reorder", self.reorder)] {
            if !(0.0..=1.0).contains(&value) {
                bail!("{name} is {} %; it is a share, from 0 to 100 %", value * 100.0);
            }
        }
        if !(self.burst == 0.0 || (1.0..=1e6).contains(&self.burst)) {
            bail!("a burst of {} packets; it is 0 (no bursts), or from 1 to a million", self.burst);
        }
        let throttle = if let Udp::Throttled(rate) = self.udp { rate } else { 0 };
        for (name, rate) in [("rate", self.rate), ("rate for UDP", throttle)] {
            if rate != 0 && rate < SLOWEST_RATE || rate > 1_000_000_000_000 {
                bail!("a {name} of {rate} bit/s; it is at least {SLOWEST_RATE} bit/s and at most 1 Tbit/s");
            }
        }
        if self.mtu != 0 && self.mtu < SMALLEST_MTU {
            bail!("an MTU of {} bytes; IPv4 needs at least {SMALLEST_MTU}", self.mtu);
        }
        if self.mtu > DEVICE_MTU {
            bail!("an MTU of {} bytes; the devices before the links carry at most {DEVICE_MTU}", self.mtu);
        }
        Ok(())
    }

    /// From one end to the other.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us)
    }

    /// How far delays differ from it.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        Duration::from_micros(self.jitter_us)
    }

    /// Bytes that may wait for the rate.
    #[must_use]
    pub fn queue_bytes(&self) -> u64 {
        match self.queue {
            0 => (u128::from(self.rate) * u128::from(self.delay_us) * 2 / 8_000_000)
                .try_into()
                .unwrap_or(u64::MAX)
                .max(SMALLEST_QUEUE),
            queue => queue,
        }
    }

    /// The largest packet, bytes.
    #[must_use]
    pub fn largest(&self) -> u16 {
        if self.mtu == 0 { u16::MAX } else { self.mtu }
    }
}

/// What differs from a network without faults, the delay first.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![format!("{} ms", ms(self.delay_us))];
        let mut say = |is: bool, text: String| parts.extend(is.then_some(text));
        say(self.jitter_us > 0, format!("± {} ms", ms(self.jitter_us)));
        say(self.loss > 0.0, format!("{} % lost", percent(self.loss)));
        say(self.loss > 0.0 && self.burst > 0.0, format!("in bursts of {}", self.burst));
        say(self.rate > 0, format!("{}, queue {} kB", bits(self.rate), self.queue_bytes().div_ceil(1000)));
        say(self.reorder > 0.0, format!("{} % overtaken", percent(self.reorder)));
        say(self.mtu > 0, format!("MTU {}", self.mtu));
        match self.udp {
            Udp::Open => {}
            Udp::Blocked => say(true, "UDP blocked".into()),
            Udp::Throttled(rate) => say(true, format!("UDP at most {}", bits(rate))),
        }
        say(self.cut, "CUT".into());
        f.write_str(&parts.join(", "))
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// A share as a number that a person reads: no more digits than a float of it has meaning.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

fn bits(rate: u64) -> String {
    match rate {
        0..1_000_000 => format!("{} kbit/s", rate as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{} Mbit/s", rate as f64 / 1e6),
        _ => format!("{} Gbit/s", rate as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_does_not_name_stays() {
        let before = Settings { loss: 0.5, delay_us: 9, ..Settings::default() };
        let after = before.after(&Change { delay_us: Some(7), ..Change::default() }).unwrap();
        assert_eq!(after, Settings { loss: 0.5, delay_us: 7, ..Settings::default() });
        assert_eq!(after.after(&Change::default()).unwrap(), after);
    }

    #[test]
    fn what_no_link_can_be_is_refused_with_what_it_may_be() {
        let refused = |change: Change| Settings::default().after(&change).unwrap_err().to_string();
        let none = Change::default();
        assert!(refused(Change { loss: Some(2.0), ..none }).contains("loss is 200 %"));
        assert!(refused(Change { reorder: Some(f64::NAN), ..none }).contains("reorder"));
        assert!(refused(Change { burst: Some(0.5), ..none }).contains("from 1"));
        assert!(refused(Change { rate: Some(1), ..none }).contains("at least 8000 bit/s"));
        assert!(refused(Change { udp: Some(Udp::Throttled(1)), ..none }).contains("rate for UDP"));
        assert!(refused(Change { mtu: Some(20), ..none }).contains("at least 68"));
        assert!(refused(Change { mtu: Some(1501), ..none }).contains("at most 1500"));
        Settings::default().after(&Change { mtu: Some(1500), ..none }).unwrap();
        assert!(refused(Change { delay_us: Some(u64::MAX), ..none }).contains("at most 10 s"));
    }

    #[test]
    fn a_queue_holds_what_the_rate_carries_in_a_round_trip() {
        let link = Settings { rate: 10_000_000, delay_us: 25_000, ..Settings::default() };
        assert_eq!(link.queue_bytes(), 62_500);
        assert_eq!(Settings { delay_us: 0, ..link }.queue_bytes(), SMALLEST_QUEUE);
        assert_eq!(Settings { queue: 3, ..link }.queue_bytes(), 3);
    }

    #[test]
    fn settings_read_as_what_is_wrong_with_the_link() {
        assert_eq!(Settings::default().to_string(), "0 ms");
        let bad = Settings {
            delay_us: 12_500,
            jitter_us: 2_000,
            loss: 0.02,
            burst: 3.0,
            rate: 10_000_000,
            queue: 64_000,
            reorder: 0.005,
            mtu: 1280,
            cut: true,
            udp: Udp::Throttled(500_000),
        };
        let said = "12.5 ms, ± 2 ms, 2 % lost, in bursts of 3, 10 Mbit/s, queue 64 kB, 0.5 % overtaken, MTU 1280, \
                    UDP at most 500 kbit/s, CUT";
        assert_eq!(bad.to_string(), said);
    }
}
