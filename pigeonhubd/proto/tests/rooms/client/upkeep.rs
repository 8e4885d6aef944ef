//! What a client does from time to time.

use crate::client::{Client, FEWEST, MOST};
use crate::connection::State;
use crate::net::{Event, Micros, Net, SEC};

impl Client {
    /// `startConnectivityEnforcement`.
    pub(crate) fn enforce(&mut self, net: &mut Net) {
        net.after(4 * SEC, Event::Enforce(self.me));
        let linked = self.linked(net);
        if !self.connected || linked >= MOST {
            return;
        }
        let idle = |peer: &usize| self.half(*peer).is_none() && !self.attempting.contains(peer);
        let idle = self.discovered.keys().copied().filter(idle).collect();
        for peer in self.nearest_first(net, idle).into_iter().take(MOST - linked) {
            self.connect(net, peer);
        }
    }

    /// `optimizeMeshConnections`, then `handleOptimizeConnections`.
    pub(crate) fn optimize(&mut self, net: &mut Net) {
        let wanted = |peer: &usize| self.half(*peer).is_none() && self.should_initiate(net, *peer);
        let wanted: Vec<usize> = self.discovered.keys().copied().filter(wanted).collect();
        let linked = self.linked(net);
        let many = if linked == 0 {
            1
        } else if linked < FEWEST {
            FEWEST - linked
        } else {
            1
        };
        if linked >= MOST {
            return;
        }
        for peer in self.nearest_first(net, wanted).into_iter().take(many) {
            self.connect(net, peer);
        }
    }

    pub(crate) fn optimize_scheduled(&mut self, net: &mut Net, number: u32) {
        if number == self.optimization {
            self.optimize(net);
        }
    }

    pub(crate) fn optimize_if_alone(&mut self, net: &mut Net) {
        if self.linked(net) == 0 {
            self.optimize(net);
        }
    }

    /// `monitorAndFixStuckConnections`: offers that nobody answered for ten seconds.
    pub(crate) fn fix_stuck(&mut self, net: &mut Net) {
        net.after(2 * SEC, Event::FixStuck(self.me));
        if !self.connected {
            return;
        }
        let stuck = |(_, half): &&(usize, usize)| {
            let half = &net.halves[*half];
            half.state == State::Offered && net.now - half.since > 10 * SEC
        };
        let stuck: Vec<(usize, usize)> = self.peers.iter().filter(stuck).copied().collect();
        for (peer, half) in stuck {
            net.close(half);
            self.remove(peer);
            self.connect(net, peer);
        }
    }

    /// `cleanupStalePeers`.
    pub(crate) fn sweep_stale(&mut self, net: &mut Net) {
        net.after(30 * SEC, Event::SweepStale(self.me));
        let stale = |(_, half): &&(usize, usize)| {
            let half = &net.halves[*half];
            half.state != State::Connected && net.now - half.since > 60 * SEC
        };
        let stale: Vec<usize> = self.peers.iter().filter(stale).map(|(peer, _)| *peer).collect();
        for peer in stale {
            self.clean_up(net, peer);
        }
    }

    /// `cleanupStaleDiscoveredPeers`.
    pub(crate) fn forget_stale(&mut self, net: &mut Net) {
        net.after(30 * SEC, Event::ForgetStale(self.me));
        let now = net.now;
        let stale = |time: &Micros| now - *time > 300 * SEC;
        let gone: Vec<usize> =
            self.discovered.iter().filter(|(_, time)| stale(time)).map(|(peer, _)| *peer).collect();
        for peer in gone {
            self.discovered.remove(&peer);
            self.attempting.remove(&peer);
        }
    }
}
