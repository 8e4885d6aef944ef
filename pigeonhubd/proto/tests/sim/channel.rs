//! WebRTC data channels: descriptions, candidates, and the channel they lead to.
//!
//! A description carries the number of the channel end that made it, so the
//! simulator knows which ends belong together. A channel opens only if the
//! hubs carried everything to the right place: the offer, the answer made for
//! it, and a candidate of each end to the other.

use pigeonhub_proto::io::{ClosedBy, ConnId, Input};

use super::host::Conn;
use super::network::{Party, State};
use super::rng::mix;
use super::world::{Event, MS, Micros, SEC, World, trace};

/// After this a channel that did not open is given up.
const TIME_OUT: Micros = 15 * SEC;

/// One hub's end of a channel that is being opened.
#[derive(Debug)]
pub(crate) struct ChannelEnd {
    pub(crate) host: usize,
    conn: ConnId,
    begun: Micros,
    /// The end whose offer this one answers.
    answers: Option<usize>,
    /// The end whose answer this one was given.
    answered_by: Option<usize>,
    /// Ends of which this one has a candidate.
    heard: Vec<usize>,
    /// Its hub has closed it, and is about to hear that it is closed.
    pub(crate) closing: bool,
    /// Open, closed or dead: nothing more to do about it here.
    pub(crate) over: bool,
}

fn sdp(channel: usize, answers: Option<usize>) -> String {
    let mut fingerprint = String::new();
    for i in 0..32u64 {
        let colon = if i == 0 { "" } else { ":" };
        let byte = mix((channel as u64) << 8 | i) as u8;
        fingerprint.push_str(&format!("{colon}{byte:02X}"));
    }
    let (setup, answers) = match answers {
        None => ("actpass", String::new()),
        Some(offerer) => ("active", format!("a=x-answers:{offerer}\r\n")),
    };
    format!(
        "v=0\r\no=- {channel} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
         a=setup:{setup}\r\na=mid:0\r\na=ice-ufrag:{channel}\r\na=ice-pwd:{:016x}\r\na=sctp-port:5000\r\n{answers}",
        mix(channel as u64)
    )
}

/// The number that follows `label` in `text`.
fn number_after(text: &str, label: &str) -> Option<usize> {
    let rest = text.split_once(label)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

impl World {
    /// A hub wants a channel.
    pub(crate) fn channel_start(&mut self, number: usize, conn: ConnId, offer: Option<String>) {
        if conn.0 % 2 == 1 || self.hosts[number].conns.contains_key(&conn) {
            return self.fail(format!("hub {number} starts a channel with the number {}", conn.0));
        }
        let answers = offer.as_ref().map(|offer| number_after(offer, "\r\no=- "));
        if answers.is_some_and(|from| from.is_none_or(|from| from >= self.channels.len())) {
            return self.fail(format!("hub {number} starts channel {} with a mangled offer", conn.0));
        }
        let answers = answers.flatten();
        let channel = self.channels.len();
        trace!(self, 1, "hub {number} starts channel {} (end {channel}, answers {answers:?})", conn.0);
        let begun = self.now;
        self.channels.push(ChannelEnd {
            host: number,
            conn,
            begun,
            answers,
            answered_by: None,
            heard: Vec::new(),
            closing: false,
            over: false,
        });
        self.hosts[number].conns.insert(conn, Conn::Channel(channel));
        let described = begun + self.rng.range(MS, 20 * MS);
        self.at(described, Event::Described { channel });
        for number in 0..self.rng.range(1, 4) {
            let at = described + self.rng.below(30 * MS);
            self.at(at, Event::Candidate { channel, number });
        }
        self.at(begun + TIME_OUT, Event::ChannelOver { channel, why: Some("no candidate pair worked") });
    }

    pub(crate) fn described(&mut self, channel: usize) {
        let ChannelEnd { host, conn, answers, over, .. } = self.channels[channel];
        if !over {
            self.feed(host, Input::ChannelDescription { conn, sdp: sdp(channel, answers) });
        }
    }

    pub(crate) fn candidate(&mut self, channel: usize, number: u64) {
        let ChannelEnd { host, conn, over, .. } = self.channels[channel];
        if !over {
            let candidate = format!(
                "{{\"candidate\":\"candidate:{number} 1 udp 2130706431 {} {} typ host\",\"sdpMid\":\"0\",\
                 \"sdpMLineIndex\":0,\"usernameFragment\":\"{channel}\"}}",
                self.hosts[host].address,
                40_000 + number
            );
            self.feed(host, Input::ChannelCandidate { conn, candidate });
        }
    }

    /// The channel end behind a hub's connection, while it is being opened.
    fn end_of(&mut self, number: usize, conn: ConnId, what: &str) -> Option<usize> {
        match self.hosts[number].conns.get(&conn) {
            Some(&Conn::Channel(channel)) => Some(channel),
            // It has opened meanwhile: late candidates change nothing.
            Some(Conn::Pipe(..)) => None,
            _ => {
                self.fail(format!("hub {number} gives {what} to channel {}, which is over", conn.0));
                None
            }
        }
    }

    /// A hub hands over the far end's answer.
    pub(crate) fn channel_answer(&mut self, number: usize, conn: ConnId, sdp: &str) {
        let Some(channel) = self.end_of(number, conn, "an answer") else { return };
        let answerer = number_after(sdp, "\r\no=- ").filter(|from| *from < self.channels.len());
        match answerer {
            Some(from) if self.channels[from].answers == Some(channel) => {
                self.channels[channel].answered_by = Some(from);
                self.try_pair(channel);
            }
            _ => self.fail(format!("hub {number} gives channel {} an answer made for another offer", conn.0)),
        }
    }

    /// A hub hands over a candidate of the far end.
    pub(crate) fn channel_candidate(&mut self, number: usize, conn: ConnId, candidate: &str) {
        let Some(channel) = self.end_of(number, conn, "a candidate") else { return };
        let end = &mut self.channels[channel];
        let Some(from) = number_after(candidate, "\"usernameFragment\":\"") else {
            return self.fail(format!("hub {number} gives channel {} a mangled candidate", conn.0));
        };
        // Without the far end's description a candidate cannot be used.
        if end.answers != Some(from) && end.answered_by != Some(from) {
            return self
                .fail(format!("hub {number} gives channel {} a candidate before its description", conn.0));
        }
        end.heard.push(from);
        let offerer = end.answers.unwrap_or(channel);
        self.try_pair(offerer);
    }

    fn paired(&self, offerer: usize) -> Option<usize> {
        let answerer = self.channels[offerer].answered_by?;
        let ends = [&self.channels[offerer], &self.channels[answerer]];
        let ready = ends[0].heard.contains(&answerer) && ends[1].heard.contains(&offerer);
        (ready && ends.iter().all(|end| !end.over && !end.closing)).then_some(answerer)
    }

    fn try_pair(&mut self, offerer: usize) {
        if let Some(answerer) = self.paired(offerer) {
            let [a, b] = [offerer, answerer].map(|end| Party::Host(self.channels[end].host));
            // Connectivity checks, then the DTLS and SCTP handshakes.
            let at = self.now + self.latency(a, b) * 6;
            self.at(at, Event::Pair { offerer });
        }
    }

    pub(crate) fn pair(&mut self, offerer: usize) {
        let Some(answerer) = self.paired(offerer) else { return };
        let hosts = [offerer, answerer].map(|end| self.channels[end].host);
        let stopped = hosts.iter().any(|host| self.hosts[*host].stopped);
        if hosts.iter().any(|host| self.hosts[*host].udp_blocked) {
            return;
        }
        if stopped || self.cuts.get(hosts[0], hosts[1]).is_some() {
            return self.at(self.now + 500 * MS, Event::Pair { offerer });
        }
        let ends =
            [offerer, answerer].map(|end| (Party::Host(self.channels[end].host), self.channels[end].conn));
        let pipe = self.add_pipe(true, ends.map(|(party, conn)| (party, conn, State::Pending)));
        for (side, end) in [offerer, answerer].into_iter().enumerate() {
            let ChannelEnd { host, conn, .. } = self.channels[end];
            self.channels[end].over = true;
            self.hosts[host].conns.insert(conn, Conn::Pipe(pipe, side));
            let at = self.now + self.latency(ends[0].0, ends[1].0);
            self.pipes[pipe].inbound[side].last = at;
            self.at(at, Event::ChannelOpen { pipe, side });
        }
    }

    pub(crate) fn channel_open(&mut self, pipe: usize, side: usize) {
        let end = &mut self.pipes[pipe].ends[side];
        let Party::Host(number) = end.party else { return };
        if end.state != State::Pending {
            return;
        }
        end.state = State::Open;
        end.counted = true;
        let conn = end.conn;
        trace!(self, 1, "hub {number}: channel {} is open", conn.0);
        self.counts.channels_opened += 1;
        self.count_channel(number, true);
        self.at(self.now, Event::Flush { pipe, side });
        self.feed(number, Input::ChannelOpen { conn });
    }

    /// A channel that never opened is over: in vain, or closed by its hub.
    pub(crate) fn channel_over(&mut self, channel: usize, why: Option<&'static str>) {
        let ChannelEnd { host, conn, over, begun, .. } = self.channels[channel];
        if over {
            return;
        }
        self.channels[channel].over = true;
        self.hosts[host].conns.remove(&conn);
        let reason = why.map_or(ClosedBy::Local, |why| ClosedBy::Broken(why.to_owned()));
        trace!(
            self,
            1,
            "hub {host}: channel {} is over after {} ms: {reason:?}",
            conn.0,
            (self.now - begun) / MS
        );
        self.feed(host, Input::Closed { conn, reason });
    }
}
