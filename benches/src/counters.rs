//! Each measured process counts its own requests, and is held to it: a figure with metrics off would compare nothing.

use anyhow::{Context, Result, bail};

use crate::http::{self, Target};

/// Where one process tells how many requests it has carried.
#[derive(Clone, Debug)]
pub struct Counter {
    /// What listens for the question.
    pub target: Target,
    /// The page.
    pub path: &'static str,
    /// Finds the figure in an answer with head and body.
    pub read: fn(&str) -> Option<u64>,
}

impl Counter {
    /// `istio_requests_total` of a sidecar of ours, over all labels.
    #[must_use]
    pub fn isthmus(target: Target) -> Self {
        Self { target, path: "/metrics", read: |page| total(page, "istio_requests_total") }
    }

    /// Requests that Envoy's entry took.
    #[must_use]
    pub fn envoy(target: Target) -> Self {
        Self { target, path: "/stats/prometheus", read: |page| total(page, "envoy_http_downstream_rq_completed") }
    }

    /// The last of the three sums of nginx's `stub_status`.
    #[must_use]
    pub fn nginx(target: Target) -> Self {
        Self { target, path: "/status", read: |page| sums(page)?.split_whitespace().nth(2)?.parse().ok() }
    }

    /// Requests until now.
    ///
    /// # Errors
    /// The page is not to be had or the figure is not on it.
    pub fn count(&self) -> Result<u64> {
        let Self { target, path, read } = self;
        let page = http::get(target, path).with_context(|| format!("no counters at {}{path}", target.address))?;
        read(&page).with_context(|| format!("{}{path} counts no requests; it says:\n{page}", target.address))
    }
}

/// What all of `counters` show now.
///
/// # Errors
/// As [`Counter::count`].
pub fn all(counters: &[Counter]) -> Result<Vec<u64>> {
    counters.iter().map(Counter::count).collect()
}

/// Each process must have counted every answer that the load has received since `before`.
///
/// # Errors
/// One of them counted fewer, or as [`Counter::count`].
pub fn check(counters: &[Counter], before: &[u64], received: u64) -> Result<()> {
    for (counter, before) in counters.iter().zip(before) {
        let counted = counter.count()?.saturating_sub(*before);
        if counted < received {
            bail!("{} counted {counted} of {received} requests: its metrics are off or wrong", counter.target.address);
        }
    }
    Ok(())
}

/// Sum of all series of a metric on a page of Prometheus text; `None`: there are none.
fn total(page: &str, name: &str) -> Option<u64> {
    let series = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let counts: Vec<u64> = series.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

/// The line behind "server accepts handled requests" (nginx documentation, `ngx_http_stub_status_module`).
fn sums(page: &str) -> Option<&str> {
    page.lines().skip_while(|line| !line.contains("accepts handled requests")).nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_a_metric_count_and_no_other() {
        let page = "# HELP a_total x\na_total{code=\"200\"} 3\na_total{code=\"503\"} 4\na_total_created 9\n";
        assert_eq!(total(page, "a_total"), Some(7));
        assert_eq!(total(page, "b_total"), None);
    }

    #[test]
    fn requests_are_the_last_sum_of_nginx() {
        let page =
            "HTTP/1.1 200 OK\r\n\r\nActive connections: 1 \nserver accepts handled requests\n 5 5 31 \nReading: 0";
        let read = Counter::nginx(Target { address: ([127, 0, 0, 1], 1).into(), host: String::new() }).read;
        assert_eq!(read(page), Some(31));
        assert_eq!(read("HTTP/1.1 404 Not Found\r\n\r\n"), None);
    }
}
