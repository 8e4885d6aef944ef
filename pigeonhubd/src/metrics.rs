//! The figures of this hub in OpenMetrics text; `METRICS.md` tells of each.
//!
//! The driver takes a [`Snapshot`] whenever somebody asks. No id, name or
//! address is a label: each label has a closed set of values.

mod families;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pigeonhub_proto::control::Status;
use pigeonhub_proto::hub::counters::{Counters, Gauges, Histogram, Label, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::encoding::{EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::process::Process;
use crate::tally::EdgeCounters;

/// A hub at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// At a glance.
    pub status: Status,
    /// What the hub has.
    pub gauges: Gauges,
    /// What it counted.
    pub counters: Counters,
    /// What the edge counted.
    pub edge: Arc<EdgeCounters>,
    /// Events that wait for the driver, and how many may.
    pub events: (usize, usize),
    /// The same of data channels.
    pub channel_events: (usize, usize),
    /// Bytes that wait to be read on WebSockets.
    pub backlog: usize,
    /// Panics so far.
    pub panics: u64,
    /// Log entries that were dropped.
    pub log_dropped: u64,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// This process.
    pub process: Process,
    /// When it started, in seconds since the Unix epoch.
    pub started: f64,
}

/// OpenMetrics text, up to its `# EOF`.
pub fn render(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        self.clients(&mut page)?;
        self.signals(&mut page)?;
        self.mesh(&mut page)?;
        self.links(&mut page)?;
        self.traffic(&mut page)?;
        self.process(&mut page)
    }
}

/// Callers and messages that were refused, by why; only what did happen.
pub fn refused(counters: &Counters, edge: &EdgeCounters) -> BTreeMap<String, u64> {
    let away = counters.turned_away.iter().map(|(why, count)| (why.name(), count));
    let hubs = counters.rejections.iter().map(|(why, count)| (why.name(), count));
    let of_edge = [("no-place", edge.refused.get()), ("too-many-messages", edge.messages_refused.get())];
    let told = away.map(|(why, count)| (why.to_owned(), count));
    let told = told.chain(hubs.map(|(why, count)| (format!("hub-{why}"), count)));
    let edge = edge.refusals.iter().chain(of_edge).map(|(why, count)| (why.to_owned(), count));
    told.chain(edge).filter(|(_, count)| *count > 0).collect()
}

/// A label's values, all of one family.
type Labels<'a> = &'a [(&'static str, &'static str)];

/// What is written into.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.unit_counter(name, None, help, value)
    }

    fn unit_counter(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn tally<L: Label>(
        &mut self,
        name: &str,
        label: &'static str,
        help: &str,
        tally: &Tally<L>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in tally.iter() {
            let labels = [(label, value.name())];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.unit_gauge(name, None, help, value as u64)
    }

    fn unit_gauge(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, usize)>,
    ) -> fmt::Result {
        self.unit_gauges(name, None, help, values)
    }

    fn unit_gauges<'l>(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, usize)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&(value as u64))?;
        }
        Ok(())
    }

    /// Times, which are counted in microseconds and shown in seconds.
    fn times<'l>(
        &mut self,
        name: &str,
        help: &str,
        times: impl IntoIterator<Item = (Labels<'l>, &'l Histogram)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in times {
            let (sum, count, buckets) = scaled(histogram, 1e6);
            // Without labels there are no braces either.
            if labels.is_empty() {
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let (sum, count, buckets) = scaled(histogram, 1.0);
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&'static str, &str)]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }
}

/// With bounds and sum in other units, and the last bucket, which has no bound.
#[allow(
    clippy::cast_precision_loss,
    reason = "a sum of microseconds needs no more than 53 bits of precision"
)]
fn scaled(histogram: &Histogram, by: f64) -> (f64, u64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> =
        histogram.buckets().map(|(bound, count)| (bound as f64 / by, count)).collect();
    let bounded: u64 = buckets.iter().map(|(_, count)| count).sum();
    buckets.push((f64::INFINITY, histogram.count().saturating_sub(bounded)));
    (histogram.sum() as f64 / by, histogram.count(), buckets)
}

#[cfg(test)]
mod tests;
