//! What a failure means: whose it is, whether trying again is right, and the one word an operator sees
//! (DESIGN.md decision 5).

use std::time::Duration;

/// Where the fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// This process or its host.
    Local,
    /// The client.
    Peer,
    /// The endpoint, or what lies before it.
    Remote,
    /// What an operator wrote.
    Operator,
}

/// Whether the same request may be tried elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It may not.
    No,
    /// When it is safe: GET, HEAD or OPTIONS, of whose answer nothing was passed on (RFC 9110, 9.2.1).
    Safe,
    /// Whatever it is: nothing of it was sent.
    Unsent,
}

/// Why a request or a connection ended as it did; the words are Envoy's response flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No endpoint to send to.
    NoHealthyUpstream,
    /// No connection to the endpoint.
    UpstreamConnectionFailure,
    /// The connection ended before the answer.
    UpstreamConnectionTermination,
    /// The endpoint reset the stream.
    UpstreamRemoteReset,
    /// No answer within the route's timeout.
    UpstreamRequestTimeout,
    /// All tries failed.
    UpstreamRetryLimitExceeded,
    /// The gateway or the endpoint said it has too much to do.
    UpstreamOverflow,
    /// No route, no such service.
    NoRouteFound,
    /// The client went away.
    DownstreamConnectionTermination,
    /// The client's bytes are no request.
    DownstreamProtocolError,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::NoHealthyUpstream,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamRemoteReset,
        Self::UpstreamRequestTimeout,
        Self::UpstreamRetryLimitExceeded,
        Self::UpstreamOverflow,
        Self::NoRouteFound,
        Self::DownstreamConnectionTermination,
        Self::DownstreamProtocolError,
    ];

    /// Envoy's response flag.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::UpstreamOverflow => "UO",
            Self::NoRouteFound => "NR",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
        }
    }

    /// The fault of a flag; `None`: a flag this build does not know.
    #[must_use]
    pub fn of_flag(flag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.flag() == flag)
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::NoRouteFound => Blame::Operator,
            Self::DownstreamConnectionTermination | Self::DownstreamProtocolError => Blame::Peer,
            _ => Blame::Remote,
        }
    }

    /// Whether trying elsewhere is right.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Self::UpstreamConnectionFailure | Self::UpstreamOverflow => Retry::Unsent,
            Self::UpstreamConnectionTermination | Self::UpstreamRemoteReset => Retry::Safe,
            _ => Retry::No,
        }
    }

    /// The status a client sees when there is no answer to pass on.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::UpstreamRequestTimeout => 504,
            Self::NoRouteFound => 404,
            Self::DownstreamProtocolError => 400,
            Self::UpstreamConnectionTermination | Self::UpstreamRemoteReset => 502,
            _ => 503,
        }
    }
}

/// Whether a method is safe (RFC 9110, 9.2.1).
#[must_use]
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Part of the requests that may be retries.
const BUDGET_PART: f64 = 0.2;
/// Retries a second that are always allowed: a quiet service has no requests to earn from.
const BUDGET_FLOOR: f64 = 10.0;
/// Seconds over which earnings are kept.
const BUDGET_WINDOW: f64 = 10.0;

/// The retry budget of a service: retries never multiply a load that already hurts.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    balance: f64,
    at: Duration,
}

impl Budget {
    /// A full floor at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { balance: BUDGET_FLOOR, at: now }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if self.balance < BUDGET_FLOOR {
            self.balance = (self.balance + passed * BUDGET_FLOOR).min(BUDGET_FLOOR);
        } else {
            let kept = (1.0 - passed / BUDGET_WINDOW).max(0.0);
            self.balance = BUDGET_FLOOR + (self.balance - BUDGET_FLOOR) * kept;
        }
    }

    /// A request was made: it earns a part of a retry.
    pub fn earn(&mut self, now: Duration) {
        self.refill(now);
        self.balance += BUDGET_PART;
    }

    /// Whether a retry may be made; it is paid then.
    pub fn spend(&mut self, now: Duration) -> bool {
        self.refill(now);
        let allowed = self.balance >= 1.0;
        if allowed {
            self.balance -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_is_retried_for_a_fifth_and_a_quiet_service_ten_times_a_second() {
        let mut budget = Budget::new(Duration::ZERO);
        assert_eq!((0..100).filter(|_| budget.spend(Duration::ZERO)).count(), 10);
        let mut retried = 0;
        for n in 0..1000u64 {
            let now = Duration::from_secs(1) + Duration::from_millis(n);
            budget.earn(now);
            retried += u32::from(budget.spend(now));
        }
        assert!((190..=230).contains(&retried), "{retried}");
    }
}
