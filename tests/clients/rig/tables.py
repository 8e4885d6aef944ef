"""What was seen, as tables."""

import statistics

from .hubs import NAMES
from .silences import PARTED

IN_TIME = 10.0  # seconds in which all are to hear all


def seconds(values):
    """The median and the worst."""
    return (f"{statistics.median(values):.1f}", f"{max(values):.1f}") if values else ("–", "–")


def meeting(rounds):
    """How the rounds of one scene and hub began: the cells of a row."""
    met = [it["met"] for it in rounds if it.get("met") is not None]
    in_time = sum(value <= IN_TIME for value in met)
    median, worst = seconds(met)
    if len(met) < len(rounds):
        worst = f"never in {len(rounds) - len(met)}"
    return [f"{in_time} of {len(rounds)}", median, worst]


def pieces(rounds, after):
    counts = [it["pieces"][after] for it in rounds if "pieces" in it]
    if not counts:
        return "–"
    return f"{sum(count == 1 for count in counts)} of {len(counts)}" + (
        f" (up to {max(counts)} pieces)" if max(counts) > 1 else "")


def table(head, rows):
    if not rows:
        return
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def trouble(rounds):
    faults = sum(bool(it.get("faults")) for it in rounds)
    unplayed = sum("error" in it for it in rounds)
    return ", ".join([*([f"{faults} rounds with faults"] if faults else []),
                      *([f"{unplayed} not played"] if unplayed else [])])


def span(values):
    """Median and worst in words; those that never came count by themselves."""
    came = [value for value in values if value is not None]
    text = "{} s (worst {})".format(*seconds(came)) if came else ""
    return ", ".join([*([text] if text else []), *([f"never {values.count(None)}"] if None in values else [])])


def remarks(rounds):
    """What is of interest in some scenes alone."""
    each = lambda key: [value for it in rounds for value in it.get(key, [])]
    told = []
    if any("again" in it for it in rounds):
        told.append("all again after " + span([it["again"] for it in rounds if "again" in it]))
    if noticed := each("noticed"):
        told.append("noticed after " + span(noticed))
    if back := each("hub_again"):
        told.append("at a hub again after " + span(back))
    if any("across" in it for it in rounds):
        told.append(f"heard or told of across networks: {sum(it['across'] for it in rounds)}")
    if video := each("video"):
        told.append("video: " + parting(video))
    return "; ".join(told)


def parting(pairs):
    """What became of pairs, in words."""
    parted, for_good = (sum(pair[key] for pair in pairs) for key in ("parted", "for_good"))
    silence = "{} ({})".format(*seconds([pair["silence"] for pair in pairs]))
    return f"parted {parted} of {len(pairs)}, for good {for_good}, longest silence {silence} s"


def in_words(seen):
    """One round, on one line."""
    if "error" in seen:
        return seen["error"]
    told = [f"all heard all after {seen['met']:.1f} s" if seen["met"] is not None
            else f"{seen['never_heard']} of {seen['pairs']} pairs never heard"]
    if "pieces" in seen:
        told.append("pieces: " + ", ".join(f"{count} after {after} s" for after, count in seen["pieces"].items()))
    if "silences" in seen:
        parted, for_good, silence, lost, more = event([seen])
        told.append(f"parted {parted}, for good {for_good}, longest silence {silence} s, links lost {lost}")
        told += [more] if more else []
    return "; ".join(told)


def event(rounds):
    """What became of the pairs that heard each other before."""
    pairs = [pair for it in rounds for pair in it["silences"]]
    parted, for_good = (sum(pair[key] for pair in pairs) for key in ("parted", "for_good"))
    silences = [pair["silence"] for pair in pairs]
    lost, links = sum(len(it["lost"]) for it in rounds), sum(it["links"] for it in rounds)
    return [f"{parted} of {len(pairs)}", for_good, "{} ({})".format(*seconds(silences)), f"{lost} of {links}",
            remarks(rounds)]


def print_all(results, scenes):
    """`results`: scene -> hub -> rounds."""
    tables = {"meetings": [], "large": [], "events": []}
    for name, by_hub in results.items():
        for hub, rounds in by_hub.items():
            if not rounds:
                continue
            played = [it for it in rounds if "error" not in it]
            head = [scenes[name].what, NAMES[hub], len(played)]
            if not played:
                tables["meetings"].append([*head, "–", "–", "–", "", trouble(rounds)])
                continue
            unheard, of = (sum(it[key] for it in played) for key in ("never_heard", "pairs"))
            unheard = f"{unheard} of {of}" if unheard else ""
            tables["meetings"].append([*head, *meeting(played), unheard, trouble(rounds)])
            if "pieces" in played[0]:
                shares = [it["delivered"] for it in played]
                tables["large"].append([*head, pieces(played, 10), pieces(played, 60),
                                        f"{100 * statistics.median(shares):.0f} % ({100 * min(shares):.0f})"])
            if "silences" in played[0]:
                tables["events"].append([*head, *event(played)])
    table(["scene", "hub", "rounds", f"all heard all in {IN_TIME:.0f} s", "median, s", "worst, s", "pairs never heard",
           ""], tables["meetings"])
    table(["scene", "hub", "rounds", "one piece after 10 s", "after 60 s", "messages that arrive (least)"],
          tables["large"])
    table(["scene", "hub", "rounds", f"pairs parted over {PARTED} s", "for good", "longest silence, median (worst), s",
           "links lost", ""], tables["events"])
