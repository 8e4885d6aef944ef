//! The hub: one mutation at a time, then drain.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::control::{HubInfo, PeerInfo, Status};
use crate::id::Id;
use crate::io::{Input, Output};
use crate::mesh::identity::{Identity, MeshKey};
use crate::settings::Settings;
use crate::time::{Now, Time};

/// One hub.
pub struct Hub {
    outputs: VecDeque<Output>,
}

impl Hub {
    /// A hub that has seen nothing yet. `seed` feeds all its randomness.
    pub fn new(settings: Settings, identity: Arc<dyn Identity>, key: MeshKey, seed: u64, now: Now) -> Self {
        let _ = (settings, identity, key, seed, now);
        Self { outputs: VecDeque::new() }
    }

    /// This hub's id.
    pub fn id(&self) -> Id {
        Id::default()
    }

    /// Takes one input. Afterwards drain [`Self::poll_output`].
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        let _ = (input, now);
    }

    /// What to do next; `None` when all is done until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Timer`], if nothing comes before.
    pub fn poll_timeout(&self) -> Time {
        Time::NEVER
    }

    /// A draining hub has told everyone and may be dropped.
    pub fn is_drained(&self) -> bool {
        false
    }

    /// Applies new settings to a running hub.
    pub fn reconfigure(&mut self, settings: Settings, now: Now) {
        let _ = (settings, now);
    }

    /// The state at a glance.
    pub fn status(&self, now: Now) -> Status {
        let _ = now;
        unimplemented!()
    }

    /// Every hub this hub knows, itself first.
    pub fn hubs(&self, now: Now) -> Vec<HubInfo> {
        let _ = now;
        Vec::new()
    }

    /// Every peer this hub knows, or those of one network.
    pub fn peers(&self, network: Option<&str>) -> Vec<PeerInfo> {
        let _ = network;
        Vec::new()
    }
}
