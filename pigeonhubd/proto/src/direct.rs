//! Signals that sessions pass on without the hub, and pings.
//!
//! The hub says who is announced where ([`Output::Direct`] and
//! [`Output::NotDirect`]). Of a message from such a session, whoever runs the
//! sessions asks here whether it is a signal that the hub would pass on as it
//! is; or a ping. Everything else, each fault above all, is the hub's to look at.
//! A signal for a peer here goes straight to its session. One for a peer at another
//! hub goes into a [`Bundle`], of which the hub gets many at once ([`Input::Signals`]).
//!
//! What a target gets stays in order, by sender, as long as the sessions keep
//! to this: a message goes straight only if no earlier one of the same sender
//! waits for the hub, and all that the hub put out because of earlier ones is
//! where it belongs. Then:
//!
//! - An announce and what it entails comes before the signals behind it. They
//!   wait for the hub too until it is done, and `Direct` is the last it puts out.
//!   Introductions that wait for company (`hub::rooms`) may come later than signals.
//! - A signal that the hub holds until its target is known is put out before
//!   the target's `Direct`.
//! - A signal behind a goodbye, or behind the end of a session, goes nowhere:
//!   `NotDirect` is put out before others are told that the peer left.
//! - What was put into bundles before an input is given to the hub before that
//!   input. What comes in while the hub deals with it, from a peer whose `NotDirect`
//!   that entails, is struck out: other hubs may have been told that the peer left.
//!
//! [`Bundle`]: crate::bundle::Bundle
//! [`Input::Signals`]: crate::io::Input::Signals
//! [`Output::Direct`]: crate::io::Output::Direct
//! [`Output::NotDirect`]: crate::io::Output::NotDirect

use std::borrow::Cow;

use crate::id::{Id, Spelled};
use crate::wire::SignalKind;
use crate::wire::client::{ClientFrame, ClientKind};
use crate::wire::mesh::MeshSignal;
use crate::wire::reply::SignalText;

/// A message that the hub need not see.
#[derive(Debug)]
pub enum Direct<'a> {
    /// To be answered with [`pong`](crate::wire::reply::pong).
    Ping,
    /// To be passed on.
    Signal(DirectSignal<'a>),
}

/// A signal without a fault, to someone else than its sender.
#[derive(Debug)]
pub struct DirectSignal<'a> {
    frame: ClientFrame<'a>,
    kind: SignalKind,
    target: Spelled,
}

impl<'a> Direct<'a> {
    /// What `from` sent, if it is such a message.
    pub fn parse(text: &'a str, from: &Id) -> Option<Self> {
        let frame = ClientFrame::parse(text).ok()?;
        match frame.kind {
            ClientKind::Ping => Some(Self::Ping),
            ClientKind::Signal(kind) => {
                let target = frame.target.filter(|target| target.id != *from)?;
                Some(Self::Signal(DirectSignal { frame, kind, target }))
            }
            _ => None,
        }
    }
}

impl<'a> DirectSignal<'a> {
    /// The network that both have to be announced in.
    pub fn network(&self) -> &str {
        &self.frame.network
    }

    /// Whom it is for.
    pub fn target(&self) -> Id {
        self.target.id
    }

    /// What the target's hub gets, if that is another one. `stamp`: the target's announcement that counts.
    pub fn for_hub(&self, from: Spelled, stamp: u64) -> MeshSignal<'_> {
        let data = self.frame.data.map(|data| Cow::Borrowed(data.get()));
        let network = Cow::Borrowed(self.network());
        MeshSignal { kind: self.kind, network, from, target: self.target, stamp, data }
    }

    /// What the target gets: from its true sender, whatever the message says.
    /// `unix_ms`: now.
    pub fn text(&self, from: Spelled, target: Spelled, unix_ms: u64) -> SignalText<'a> {
        SignalText::new(self.kind, self.frame.data, from, target, &self.frame.network, unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00112233445566778899AaBbCcDdEeFf00112233";
    const TWO: &str = "11112233445566778899aabbccddeeff00112233";

    fn parsed<'a>(text: &'a str, from: &Id) -> DirectSignal<'a> {
        match Direct::parse(text, from) {
            Some(Direct::Signal(signal)) => signal,
            other => panic!("a signal was expected, not {other:?}"),
        }
    }

    #[test]
    fn only_flawless_signals_to_others_go_straight() {
        let from: Spelled = ONE.parse().expect("an id");
        let signal = format!(r#"{{"type":"answer","targetPeerId":"{TWO}","networkName":"n","data":[ 1 ]}}"#);
        let direct = parsed(&signal, &from.id);
        assert_eq!((direct.network(), direct.target()), ("n", TWO.parse().expect("an id")));
        for other in [
            format!(r#"{{"type":"answer","targetPeerId":"{ONE}"}}"#),
            format!(r#"{{"type":"answer","targetPeerId":"{TWO}","networkName":[]}}"#),
            format!(r#"{{"type":"goodbye","targetPeerId":"{TWO}"}}"#),
            String::from(r#"{"type":"answer","targetPeerId":"me"}"#),
            String::from(r#"{"type":"answer"}"#),
            String::from("no JSON"),
        ] {
            assert!(Direct::parse(&other, &from.id).is_none(), "{other}");
        }
        assert!(matches!(Direct::parse(r#"{"type":"ping"}"#, &from.id), Some(Direct::Ping)));
    }

    #[test]
    fn nobody_speaks_for_another() {
        let (from, target): (Spelled, Spelled) = (ONE.parse().expect("id"), TWO.parse().expect("id"));
        let text = format!(r#"{{"type":"offer","targetPeerId":"{TWO}","fromPeerId":"{TWO}","data":{{}}}}"#);
        let direct = parsed(&text, &from.id);
        let sent = direct.text(from, target, 7).parts().concat();
        let expected = format!(
            r#"{{"type":"offer","data":{{}},"fromPeerId":"{ONE}","targetPeerId":"{TWO}","networkName":"global","timestamp":7}}"#
        );
        assert_eq!(String::from_utf8(sent).expect("text"), expected);
    }
}
