//! Two touches to session descriptions that the WebRTC crate has no setting for.

use super::MAX_CANDIDATES;

/// How large a message the crate takes from a far end that sends more than it may,
/// relative to what it may. Past that the crate drops it without a word; short of it
/// we see it and can end the channel.
pub(super) const HEADROOM: usize = 2;

/// Our description as the far end shall see it: with the true limit on messages of `most` bytes.
pub(super) fn declare(sdp: &str, most: usize) -> String {
    sdp.replace(&size_line(most * HEADROOM), &size_line(most))
}

fn size_line(bytes: usize) -> String {
    format!("a=max-message-size:{bytes}\r\n")
}

/// The far end's description without the candidates after the first [`MAX_CANDIDATES`]:
/// for each we would send packets to an address that the far end chose.
pub(super) fn bound(sdp: &str) -> String {
    let mut candidates = 0;
    let is_kept = |line: &&str| {
        if line.starts_with("a=candidate:") {
            candidates += 1;
        }
        !line.starts_with("a=candidate:") || candidates <= MAX_CANDIDATES
    };
    sdp.split_inclusive('\n').filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_beyond_the_limit_are_left_out() {
        let mut sdp = "v=0\r\n".to_owned();
        for port in 0..MAX_CANDIDATES + 9 {
            sdp.push_str(&format!("a=candidate:1 1 udp 1 192.0.2.1 {port} typ host\r\n"));
        }
        let bounded = bound(&format!("{sdp}a=mid:0\r\n"));
        assert_eq!(bounded.matches("a=candidate:").count(), MAX_CANDIDATES);
        assert!(bounded.starts_with("v=0\r\n") && bounded.ends_with("a=mid:0\r\n"), "{bounded}");
        assert_eq!(bound("no lines"), "no lines");
    }
}
