//! What is over takes no place any more.

use super::{Bench, peer};
use crate::io::{ConnId, Input};
use crate::settings::Settings;

#[test]
fn a_hub_without_a_mesh_forgets_networks_too() {
    let mut bench = Bench::new(Settings { hub_enabled: false, ..Settings::default() });
    bench.connect(1, peer(1));
    for network in 0..1_000 {
        for kind in ["announce", "goodbye"] {
            let text = format!(r#"{{"type":"{kind}","networkName":"n{network}","data":{{}}}}"#);
            bench.tell(Input::Text { conn: ConnId(1), text: &text });
        }
    }
    bench.wait(std::time::Duration::from_secs(60));
    assert_eq!((bench.hub.presence.own_networks().count(), bench.hub.directory.networks().count()), (0, 0));
}
