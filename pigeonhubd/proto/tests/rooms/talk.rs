//! The words between clients and hubs, as JSON on the wire.

use std::collections::BTreeMap;

use pigeonhub_proto::id::Id;
use serde_json::{Value, json};

use crate::net::{Net, Word};

/// The network that all are in.
pub(crate) const NETWORK: &str = "room";

/// What a client sends to tell another this.
pub(crate) fn write(net: &Net, from: usize, word: &Word, to: usize) -> String {
    let halves = |offer: usize, half: usize| json!({ "offer": offer, "half": half, "from": net.ids[from].to_string() });
    let (kind, data) = match *word {
        Word::Offer(half) => ("offer", halves(half, half)),
        Word::Answer(offer, half) => ("answer", halves(offer, half)),
        Word::Rejected(half) => ("connection-rejected", halves(half, half)),
        Word::Discovered(_) | Word::Goodbye(_) => unreachable!("hubs say that"),
    };
    json!({
        "type": kind, "data": data, "maxPeers": 3, "networkName": NETWORK, "targetPeerId": net.ids[to].to_string(),
    })
    .to_string()
}

pub(crate) fn announce(net: &Net, me: usize) -> String {
    json!({
        "type": "announce", "data": { "peerId": net.ids[me].to_string() }, "maxPeers": 3, "networkName": NETWORK,
    })
    .to_string()
}

pub(crate) fn goodbye(net: &Net, me: usize) -> String {
    json!({ "type": "goodbye", "data": { "peerId": net.ids[me].to_string() }, "maxPeers": 3, "networkName": NETWORK })
        .to_string()
}

/// What a client takes a hub's message for.
pub(crate) fn read(text: &str, numbers: &BTreeMap<Id, usize>) -> Option<Word> {
    let message: Value = serde_json::from_str(text).expect("hubs write JSON");
    let peer = |value: &Value| numbers.get(&value.as_str()?.parse().ok()?).copied();
    let data = &message["data"];
    let number = |name: &str| data[name].as_u64().map(|number| number as usize);
    match message["type"].as_str()? {
        "peer-discovered" => Some(Word::Discovered(peer(&data["peerId"])?)),
        "goodbye" => Some(Word::Goodbye(peer(&message["fromPeerId"])?)),
        "offer" => Some(Word::Offer(number("half")?)),
        "answer" => Some(Word::Answer(number("offer")?, number("half")?)),
        "connection-rejected" => Some(Word::Rejected(number("half")?)),
        _ => None,
    }
}
