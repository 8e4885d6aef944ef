//! Records of hubs, as they come and signed by whom they name: what they say
//! of links, networks and URLs is then believed.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pigeonhub_fuzz::{Bench, Insider, NAMESPACE};
use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::identity::{HubKey, Identity};
use pigeonhub_proto::mesh::record::{LinkEntry, Record, SignedRecord};
use pigeonhub_proto::wire::mesh::{LinkFrame, SignedBytes, decode, encode};

fuzz_target!(|data: &[u8]| {
    let mut bench = Bench::default();
    bench.connect(1, Id([0xa1; 20]), false);
    bench.text(1, r#"{"type":"announce","networkName":"n","data":{}}"#);
    let mut insider = Insider::join(&mut bench);
    let signature = [7; 64];
    let unsigned = SignedBytes { body: data.into(), signature: signature[..].into() };
    if let Ok(record) = SignedRecord::read(&unsigned) {
        let head = SignedRecord::head(&unsigned).expect("a record has a head");
        assert_eq!((head.key, head.epoch, head.version), (record.key, record.epoch, record.version));
        assert!(SignedRecord::verify(&unsigned, &record, NAMESPACE, &insider.key).is_err());
    }
    insider.say(&mut bench, &encode(&LinkFrame::Records(vec![unsigned])));
    // The same words of three hubs, the last of them the insider, whose links all are.
    let Ok(said) = decode::<Record>(data) else { return };
    let others = [HubKey::from_bytes(&[11; 32]), HubKey::from_bytes(&[12; 32])];
    let mut signed = Vec::new();
    for key in others.iter().chain([&insider.key]) {
        let mut record = Record { key: key.public_key(), ..said.clone() };
        record
            .links
            .extend([LinkEntry { hub: insider.id, p2p: true }, LinkEntry { hub: bench.id(), p2p: false }]);
        record.links.truncate(600);
        signed.push(SignedRecord::sign(&record, NAMESPACE, key));
    }
    let frame = LinkFrame::Records(signed.iter().map(SignedRecord::as_signed_bytes).collect());
    insider.say(&mut bench, &encode(&frame));
    bench.wait(Duration::from_secs(5));
    bench.look();
});
