"""From what clients heard: who was parted from whom, and for how long."""

PARTED = 1.5  # seconds of silence from which on a pair was parted
FOR_GOOD = 5.0  # seconds at the end in which nothing was heard any more


def silences(hearing, pairs, since, until):
    """Each pair (who hears, whom) that heard each other at `since`: its longest silence from then on, to `until`."""
    told = []
    for a, b in pairs:
        times = [at for at in hearing[a].get(b.id, []) if at < until]
        before = [at for at in times if since - PARTED < at < since]
        if not before:
            continue
        after = [before[-1], *(at for at in times if at >= since), until]
        longest, when = max((later - at, at) for at, later in zip(after, after[1:]))
        told.append({"hears": a.name, "whom": b.name, "silence": longest, "after": when - since,
                     "parted": longest > PARTED, "for_good": until - after[-2] > FOR_GOOD})
    return told


def again(hearing, pairs, since):
    """Seconds until the last of the pairs heard each other from `since` on; None if one of them does not."""
    firsts = [min((at for at in hearing[a].get(b.id, []) if at >= since), default=None) for a, b in pairs]
    return None if not firsts or None in firsts else max(firsts) - since


def open_links(clients, at):
    """The pairs of clients whose both ends had a connection open at that time."""
    def ends(client):
        last = {}
        for when, peer, opened, _ in client.links:
            if when <= at:
                last[peer] = opened
        return {peer for peer, is_open in last.items() if is_open}
    linked = {client.id: ends(client) for client in clients}
    return {frozenset((a, b)) for a, peers in linked.items() for b in peers if a in linked.get(b, ())}


def lost_links(clients, links, since):
    """Those of the links of which an end said, after `since`, that it closed, and why."""
    lost = {}
    for client in clients:
        for when, peer, opened, why in client.links:
            if when >= since and not opened and frozenset((client.id, peer)) in links:
                lost.setdefault(frozenset((client.id, peer)), why or "")
    return lost
