//! What the clients of one address take of what all share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::io::{Request, customer};

/// Networks that the clients of one address may be in. Hubs ask each other for the peers of 16,384 at most:
/// beyond those the peers of two hubs do not meet, and no address is to use them up.
const MAX_NETWORKS: usize = 1024;

/// The address that counts for a request; none for this machine's own, which has no limits.
pub(super) fn address(request: &Request) -> Option<IpAddr> {
    let address = customer(request.remote);
    (request.via_proxy || !address.is_loopback()).then_some(address)
}

/// Networks, by the addresses of the clients in them.
#[derive(Debug, Default)]
pub(super) struct Shares {
    networks: BTreeMap<IpAddr, BTreeMap<Arc<str>, u32>>,
}

impl Shares {
    /// One more client of that address is in a network, if it may be.
    pub(super) fn enter(&mut self, address: Option<IpAddr>, network: &Arc<str>) -> Result<(), String> {
        let Some(address) = address else { return Ok(()) };
        let networks = self.networks.entry(address).or_default();
        if networks.len() >= MAX_NETWORKS && !networks.contains_key(network) {
            return Err(format!(
                "clients of your address are in {MAX_NETWORKS} networks, and may be in no more: leave one first"
            ));
        }
        *networks.entry(Arc::clone(network)).or_default() += 1;
        Ok(())
    }

    /// One of them left it.
    pub(super) fn leave(&mut self, address: Option<IpAddr>, network: &str) {
        let Some(networks) = address.as_ref().and_then(|address| self.networks.get_mut(address)) else {
            return;
        };
        if let Some(clients) = networks.get_mut(network) {
            *clients -= 1;
            if *clients == 0 {
                networks.remove(network);
            }
        }
        if networks.is_empty()
            && let Some(address) = address
        {
            self.networks.remove(&address);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}
