"""What was seen, as tables."""

import statistics

from .hubs import NAMES
from .scenes import IN_TIME


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
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def print_all(results, scenes):
    """`results`: scene -> hub -> rounds."""
    rows, large = [], []
    for name, by_hub in results.items():
        for hub, rounds in by_hub.items():
            played = [it for it in rounds if "error" not in it]
            faults = sum(bool(it.get("faults")) for it in rounds)
            trouble = [f"{faults} rounds with faults"] if faults else []
            if len(played) < len(rounds):
                trouble.append(f"{len(rounds) - len(played)} rounds not played")
            if not played:
                rows.append([scenes[name].what, NAMES[hub], 0, "–", "–", "–", "", ", ".join(trouble)])
                continue
            unheard = [it["never_heard"] for it in played]
            of = sum(it["pairs"] for it in played)
            rows.append([scenes[name].what, NAMES[hub], len(played), *meeting(played),
                         f"{sum(unheard)} of {of}" if any(unheard) else "", ", ".join(trouble)])
            if "pieces" in played[0]:
                shares = [it["delivered"] for it in played]
                large.append([scenes[name].what, NAMES[hub], pieces(played, 10), pieces(played, 60),
                              f"{100 * statistics.median(shares):.0f} % ({100 * min(shares):.0f})"])
    table(["scene", "hub", "rounds", f"all heard all in {IN_TIME:.0f} s", "median, s", "worst, s", "pairs never heard",
           ""], rows)
    if large:
        table(["scene", "hub", "in one piece after 10 s", "after 60 s", "messages that arrive, median (least)"], large)
