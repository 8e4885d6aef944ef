//! Signals for peers at one other hub, on their way there together.
//!
//! Each message between two hubs costs its place in their stream, an acknowledgement and a look
//! at either end, whatever its size. So a hub gathers the signals for each other hub while it deals
//! with inputs that came at once, and whoever runs the sessions may gather those that need nothing
//! but to be passed on ([`crate::direct`]), without asking the hub about each.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{Id, Spelled};
use crate::mesh::stream::Parts;
use crate::wire::mesh::{MeshSignal, encode_onto};

/// Signals in one bundle, at most: as many as an acknowledgement can tell apart.
pub const MAX_SIGNALS: usize = Parts::BITS as usize;

/// Their bytes, at most: two bundles fit into one message of a link. A larger signal goes alone.
pub const MAX_BYTES: usize = 28 * 1024;

/// The index of [`crate::wire::mesh::HubMessage::Signals`] in postcard's format.
const SIGNALS: u8 = 0;

/// Where the number of signals stands, which takes one byte.
const COUNT: usize = 1;

/// Bytes of a signal beside its network's name and its data, at most: ids, numbers and lengths.
const REST: usize = 96;

/// Whom to tell if a signal does not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The peer that sent it.
    pub from: Id,
    /// Whom it was for.
    pub target: Spelled,
    /// In which network.
    pub network: Arc<str>,
}

/// Signals, encoded, and their senders.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// The message so far; empty without a signal.
    bytes: Vec<u8>,
    /// One for each signal, and where that ends in `bytes`.
    signals: Vec<(Sender, usize)>,
    /// Those that were taken out.
    struck: Vec<Sender>,
    /// Room to begin with, in bytes: one bundle is mostly about as large as those before it.
    likely: usize,
}

impl Bundle {
    /// Adds a signal; `network` is its network's name. If there is no room for it beside the
    /// others, those are returned, and go first.
    pub fn push(&mut self, signal: &MeshSignal<'_>, network: Arc<str>) -> Option<Self> {
        let size = REST + signal.network.len() + signal.data.as_ref().map_or(0, |data| data.len());
        let full = self.signals.len() >= MAX_SIGNALS || self.bytes.len() + size > MAX_BYTES;
        let full = (full && !self.is_empty()).then(|| self.take());
        if self.is_empty() {
            self.bytes = Vec::with_capacity(self.likely.max(COUNT + 1 + size));
            self.bytes.extend_from_slice(&[SIGNALS, 0]);
        }
        self.bytes = encode_onto(signal, std::mem::take(&mut self.bytes));
        let sender = Sender { from: signal.from.id, target: signal.target, network };
        self.signals.push((sender, self.bytes.len()));
        self.count();
        full
    }

    fn count(&mut self) {
        if let Some(count) = self.bytes.get_mut(COUNT) {
            *count = u8::try_from(self.signals.len()).unwrap_or(u8::MAX);
        }
    }

    /// All that it holds.
    pub fn take(&mut self) -> Self {
        let likely = self.bytes.len().max(self.likely / 2).min(MAX_BYTES);
        std::mem::replace(self, Self { likely, ..Self::default() })
    }

    /// Whether it holds no signal.
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty()
    }

    /// Takes out the senders of signals that were struck out: they are to be told.
    pub fn take_struck(&mut self) -> Vec<Sender> {
        std::mem::take(&mut self.struck)
    }

    /// Signals in it.
    pub fn len(&self) -> usize {
        self.signals.len()
    }

    /// Bytes of the message so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Their senders, in order.
    pub fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.signals.iter().map(|(sender, _)| sender)
    }

    /// Takes out what a peer sent in a network.
    pub fn strike(&mut self, from: &Id, network: &str) {
        let struck = |sender: &Sender| sender.from == *from && *sender.network == *network;
        if !self.senders().any(struck) {
            return;
        }
        let mut before = self.take();
        self.struck = before.take_struck();
        let mut start = COUNT + 1;
        for (sender, end) in before.signals {
            let signal = before.bytes.get(start..end).unwrap_or_default();
            start = end;
            if struck(&sender) {
                self.struck.push(sender);
                continue;
            }
            if self.is_empty() {
                self.bytes.extend_from_slice(&[SIGNALS, 0]);
            }
            self.bytes.extend_from_slice(signal);
            self.signals.push((sender, self.bytes.len()));
        }
        self.count();
    }

    /// The message, a [`crate::wire::mesh::HubMessage::Signals`], and the sender of each signal in it.
    pub fn into_message(self) -> (Bytes, Vec<Sender>) {
        (self.bytes.into(), self.signals.into_iter().map(|(sender, _)| sender).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SignalKind;
    use crate::wire::mesh::{HubMessage, decode, encode};

    fn peer(number: u8) -> Spelled {
        Id([number; 20]).to_string().parse().expect("an id")
    }

    fn signal(from: u8, data: &str) -> MeshSignal<'_> {
        MeshSignal {
            kind: SignalKind::Offer,
            network: "n".into(),
            from: peer(from),
            target: peer(0xee),
            stamp: u64::MAX,
            data: Some(data.into()),
        }
    }

    fn push(bundle: &mut Bundle, signal: &MeshSignal<'_>) -> Option<Bundle> {
        bundle.push(signal, Arc::from(&*signal.network))
    }

    /// The signals' data.
    fn read(bundle: Bundle) -> Vec<(Id, String)> {
        let (bytes, senders) = bundle.into_message();
        let Ok(HubMessage::Signals(signals)) = decode(&bytes) else { panic!("signals were expected") };
        assert_eq!(senders.len(), signals.len());
        let read = |(signal, sender): (&MeshSignal<'_>, &Sender)| {
            assert_eq!((signal.from.id, signal.target), (sender.from, sender.target));
            (sender.from, signal.data.clone().unwrap_or_default().into_owned())
        };
        signals.iter().zip(&senders).map(read).collect()
    }

    #[test]
    fn it_is_the_message_that_serde_writes() {
        let signals = ["1", r#"{"a":2}"#, ""].map(|data| signal(1, data));
        let mut bundle = Bundle::default();
        assert!(signals.iter().all(|signal| push(&mut bundle, signal).is_none()));
        let (bytes, senders) = bundle.into_message();
        assert_eq!(bytes, encode(&HubMessage::Signals(signals.to_vec())));
        assert_eq!(senders.len(), 3);
    }

    #[test]
    fn none_has_more_than_it_may_and_none_is_lost() {
        for (data, count) in [(0, 1000), (1200, 100), (MAX_BYTES, 3), (3 * MAX_BYTES, 3)] {
            let data = "7".repeat(data);
            let mut bundle = Bundle::default();
            let mut all: Vec<Bundle> =
                (0..count).filter_map(|number| push(&mut bundle, &signal(number as u8, &data))).collect();
            all.push(bundle);
            for bundle in &all {
                assert!(
                    bundle.len() <= MAX_SIGNALS && (bundle.len() == 1 || bundle.bytes.len() <= MAX_BYTES)
                );
            }
            let read: Vec<(Id, String)> = all.into_iter().flat_map(read).collect();
            let expected: Vec<(Id, String)> =
                (0..count).map(|number| (peer(number as u8).id, data.clone())).collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn what_one_peer_sent_is_struck_out() {
        let mut bundle = Bundle::default();
        for (from, data) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            push(&mut bundle, &signal(from, data));
        }
        bundle.strike(&peer(1).id, "another network");
        assert_eq!((bundle.len(), bundle.take_struck().len()), (4, 0));
        bundle.strike(&peer(1).id, "n");
        assert!(bundle.take_struck().iter().map(|sender| sender.from).eq([peer(1).id; 2]));
        push(&mut bundle, &signal(4, "e"));
        assert_eq!(
            read(bundle),
            [(2, "b"), (3, "d"), (4, "e")].map(|(from, data)| (peer(from).id, data.into()))
        );
        let mut only = Bundle::default();
        push(&mut only, &signal(1, "a"));
        only.strike(&peer(1).id, "n");
        assert!(only.is_empty() && push(&mut only, &signal(1, "b")).is_none());
        assert_eq!(read(only), [(peer(1).id, String::from("b"))]);
    }

    #[test]
    fn no_signal_takes_more_than_is_reckoned_with() {
        let (bytes, _) = {
            let mut bundle = Bundle::default();
            push(&mut bundle, &signal(1, ""));
            bundle.into_message()
        };
        // A length of a megabyte takes two bytes more than one of nothing.
        assert!(bytes.len() + 2 * 2 <= REST, "{}", bytes.len());
    }
}
