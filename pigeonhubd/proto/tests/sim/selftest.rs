//! Tests of the simulator itself, with a stand-in in the hub's place that does
//! what the test says and notes what it hears.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ConnId, Input, Output};
use pigeonhub_proto::settings::Settings;
use pigeonhub_proto::time::{Now, Time};

use super::faults::Action;
use super::host::Host;
use super::params::Params;
use super::world::{MS, Machine, Micros, SEC, World};

#[derive(Default)]
struct Script {
    heard: Vec<(Micros, String)>,
    say: VecDeque<Output>,
    timeout: Option<Time>,
}

#[derive(Clone, Default)]
struct StandIn(Rc<RefCell<Script>>);

impl Machine for StandIn {
    fn handle(&mut self, input: Input<'_>, now: Now) {
        let mut script = self.0.borrow_mut();
        let text = match &input {
            Input::Accepted { conn, request } => {
                script.say.push_back(Output::Read { conn: *conn });
                format!("Accepted {} {:?} {} {}", conn.0, request.peer_id, request.mesh, request.remote)
            }
            Input::Binary { bytes, .. } => format!("Binary {}", String::from_utf8_lossy(bytes)),
            Input::ChannelDescription { sdp, .. } => sdp.clone(),
            Input::ChannelCandidate { candidate, .. } => candidate.clone(),
            Input::Timer => {
                script.timeout = None;
                "Timer".to_owned()
            }
            other => format!("{other:?}"),
        };
        script.heard.push((now.mono.0, text));
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.0.borrow_mut().say.pop_front()
    }
    fn poll_timeout(&self) -> Time {
        self.0.borrow().timeout.unwrap_or(Time::NEVER)
    }
    fn is_drained(&self) -> bool {
        false
    }
    fn reconfigure(&mut self, _: Settings, _: Now) {}
    fn hub(&self) -> Option<&Hub> {
        None
    }
}

/// A world of stand-ins, all started.
struct Stage {
    world: World,
    scripts: Vec<StandIn>,
}

const A: ConnId = ConnId(2);

impl Stage {
    fn new(hosts: usize) -> Self {
        let mut params = Params::plain(hosts);
        params.latency = (10 * MS, 20 * MS);
        let mut world = World::new(1, params);
        let mut scripts = Vec::new();
        for number in 0..hosts {
            let script = StandIn::default();
            let copy = script.clone();
            let factory = Box::new(move |_, _, _| Box::new(copy.clone()) as Box<dyn Machine>);
            let id = Id([number as u8; 20]);
            world.add_host(Host::new(number, id, Settings::default(), factory, 0));
            world.start(number);
            scripts.push(script);
        }
        Self { world, scripts }
    }

    /// Makes a stand-in say something: its timer wakes it, and then it speaks.
    fn say(&mut self, host: usize, output: Output) {
        self.scripts[host].0.borrow_mut().say.push_back(output);
        self.world.feed(host, Input::Timer);
    }

    fn binary(&mut self, host: usize, conn: ConnId, text: &str) {
        self.say(host, Output::Binary { conn, bytes: Bytes::copy_from_slice(text.as_bytes()) });
    }

    fn dialled(hosts: usize) -> Self {
        let mut stage = Self::new(hosts);
        stage.dial(1);
        stage.world.run_for(SEC);
        stage.forget();
        stage
    }

    fn dial(&mut self, to: usize) {
        self.say(0, Output::Dial { conn: A, url: format!("ws://10.0.0.{to}:3000/?peerId=abc&mesh=1") });
    }

    fn forget(&self) {
        for script in &self.scripts {
            script.0.borrow_mut().heard.clear();
        }
    }

    /// What a stand-in heard, its timer left out.
    fn heard(&self, host: usize) -> Vec<String> {
        let script = self.scripts[host].0.borrow();
        script.heard.iter().map(|(_, text)| text.clone()).filter(|text| text != "Timer").collect()
    }

    fn opened(&mut self) -> bool {
        let open = |stage: &Self, host| stage.heard(host).iter().any(|text| text.starts_with("ChannelOpen"));
        self.world.run_for(16 * SEC);
        assert_eq!(self.world.failure, None);
        assert_eq!(open(self, 0), open(self, 1));
        open(self, 0)
    }

    /// Carries a channel's offer, answer and candidates between hosts 0 and 1.
    fn negotiate(&mut self) {
        self.say(0, Output::ChannelStart { conn: ConnId(4), offer: None });
        self.world.run_for(60 * MS);
        let said = self.heard(0);
        self.say(1, Output::ChannelStart { conn: ConnId(2), offer: Some(said[0].clone()) });
        self.world.run_for(60 * MS);
        let answered = self.heard(1);
        self.say(0, Output::ChannelAnswer { conn: ConnId(4), sdp: answered[0].clone() });
        self.say(0, Output::ChannelCandidate { conn: ConnId(4), candidate: answered[1].clone() });
        self.say(1, Output::ChannelCandidate { conn: ConnId(2), candidate: said[1].clone() });
    }
}

#[test]
fn a_dial_arrives_with_its_query_and_messages_keep_their_order() {
    let mut stage = Stage::new(2);
    stage.dial(1);
    stage.world.run_for(SEC);
    assert_eq!(stage.heard(1), ["Accepted 1 Some(\"abc\") true 10.0.0.0"]);
    assert_eq!(stage.heard(0), ["Dialled { conn: ConnId(2), remote: Some(10.0.0.1) }"]);
    stage.forget();
    for i in 0..50 {
        stage.binary(0, A, &i.to_string());
    }
    stage.world.run_for(5 * MS);
    assert!(stage.heard(1).is_empty(), "nothing is faster than the delay");
    stage.world.run_for(SEC);
    let expected: Vec<String> = (0..50).map(|i| format!("Binary {i}")).collect();
    assert_eq!(stage.heard(1), expected);
}

#[test]
fn a_close_comes_after_what_was_sent_and_each_end_hears_its_own_kind() {
    let mut stage = Stage::dialled(2);
    stage.binary(0, A, "last");
    stage.say(0, Output::Close { conn: A, code: 1008, reason: "enough".to_owned() });
    stage.world.run_for(SEC);
    let heard = stage.heard(1);
    assert!(heard[0].starts_with("Binary"), "{heard:?}");
    assert!(heard[1].contains("Remote { code: 1008, reason: \"enough\" }"), "{heard:?}");
    assert_eq!(stage.heard(0), ["Closed { conn: ConnId(2), reason: Local }"]);
    stage.binary(0, A, "too late");
    assert!(stage.world.failure.is_some(), "sending on a closed connection is wrong");
}

#[test]
fn refused_and_unanswered_dials_fail() {
    let mut stage = Stage::new(2);
    stage.world.kill(1, false);
    stage.dial(1);
    stage.world.run_for(SEC);
    assert!(stage.heard(0)[0].contains("refused"), "{:?}", stage.heard(0));
    let mut stage = Stage::new(2);
    stage.world.cut(0, 1, None);
    stage.dial(1);
    stage.world.run_for(9 * SEC);
    assert!(stage.heard(0).is_empty());
    stage.world.run_for(3 * SEC);
    assert!(stage.heard(0)[0].contains("timed out"), "{:?}", stage.heard(0));
}

#[test]
fn a_short_cut_delays_and_a_long_one_breaks() {
    let mut stage = Stage::dialled(2);
    stage.world.cut(0, 1, None);
    stage.binary(0, A, "a");
    stage.binary(0, A, "b");
    stage.world.run_for(10 * SEC);
    assert!(stage.heard(1).is_empty());
    stage.world.heal(0, 1);
    stage.binary(0, A, "c");
    stage.world.run_for(5 * SEC);
    assert_eq!(stage.heard(1), ["Binary a", "Binary b", "Binary c"]);
    stage.world.cut(0, 1, None);
    stage.world.run_for(61 * SEC);
    for host in [0, 1] {
        assert!(stage.heard(host).last().unwrap().contains("Broken"), "{:?}", stage.heard(host));
    }
    assert!(stage.world.hosts.iter().all(|host| host.conns.is_empty()));
}

#[test]
fn a_killed_process_resets_and_a_dead_machine_is_silent() {
    let mut stage = Stage::dialled(2);
    stage.world.kill(1, false);
    stage.world.run_for(SEC);
    assert!(stage.heard(0)[0].contains("reset"));
    let mut stage = Stage::dialled(2);
    stage.world.kill(1, true);
    stage.world.run_for(50 * SEC);
    assert!(stage.heard(0).is_empty());
    stage.world.start(1);
    stage.world.run_for(4 * SEC);
    assert!(stage.heard(0)[0].contains("reset"), "the machine is back and knows nothing of it");
}

#[test]
fn a_stopped_process_gets_everything_when_it_goes_on() {
    let mut stage = Stage::dialled(2);
    stage.world.act(Action::Pause(1));
    for text in ["a", "b"] {
        stage.binary(0, A, text);
    }
    stage.scripts[1].0.borrow_mut().timeout = Some(Time(2 * SEC));
    stage.world.run_for(8 * SEC);
    assert!(stage.heard(1).is_empty());
    let resumed = stage.world.now;
    stage.world.act(Action::Resume(1));
    stage.world.run_for(MS);
    assert_eq!(stage.heard(1).len(), 2);
    assert!(stage.scripts[1].0.borrow().heard.iter().all(|(at, _)| *at >= resumed));
    assert_eq!(stage.scripts[1].0.borrow().timeout, None, "its timer fired, late");
}

#[test]
fn a_channel_opens_when_everything_was_carried_and_breaks_with_its_far_end() {
    let mut stage = Stage::new(2);
    stage.negotiate();
    assert!(stage.opened());
    stage.forget();
    stage.binary(1, ConnId(2), "hello");
    stage.world.run_for(SEC);
    assert!(stage.heard(0)[0].starts_with("Binary"));
    assert_eq!(stage.world.hosts[0].open_channels, 1);
    stage.world.kill(1, false);
    stage.world.run_for(4 * SEC);
    assert_eq!(stage.heard(0).len(), 1, "a data channel's end dies in silence");
    stage.world.run_for(30 * SEC);
    assert!(stage.heard(0)[1].contains("Broken"));
    assert_eq!(stage.world.hosts[0].open_channels, 0);
}

#[test]
fn a_channel_without_udp_or_without_an_answer_never_opens() {
    let mut stage = Stage::new(2);
    stage.world.hosts[1].udp_blocked = true;
    stage.negotiate();
    assert!(!stage.opened());
    let mut stage = Stage::new(2);
    stage.say(0, Output::ChannelStart { conn: ConnId(4), offer: None });
    assert!(!stage.opened());
    let broken = stage.heard(0).last().unwrap().clone();
    assert!(broken.contains("Broken"), "{broken}");
    assert!(stage.world.hosts[0].conns.is_empty());
}

#[test]
fn a_channel_answered_by_another_is_noticed() {
    let mut stage = Stage::new(2);
    stage.say(0, Output::ChannelStart { conn: ConnId(4), offer: None });
    stage.say(0, Output::ChannelStart { conn: ConnId(6), offer: None });
    stage.world.run_for(60 * MS);
    let offers: Vec<String> = stage.heard(0).into_iter().filter(|text| text.starts_with("v=0")).collect();
    stage.say(1, Output::ChannelStart { conn: ConnId(2), offer: Some(offers[0].clone()) });
    stage.world.run_for(60 * MS);
    let answer = stage.heard(1).into_iter().find(|text| text.starts_with("v=0")).unwrap();
    for conn in [ConnId(4), ConnId(6)] {
        stage.say(0, Output::ChannelAnswer { conn, sdp: answer.clone() });
    }
    assert!(stage.world.failure.is_some());
}
