"""Lines -> the text of one message, within Slack's limits."""

from __future__ import annotations

from collections.abc import Sequence

from kexport_slack.line import Line

# Slack cuts at 40,000 characters and asks for no more than 4,000; entities count.
MOST_CHARACTERS = 3_900


def text_of(lines: Sequence[Line], *, cluster: str, max_lines: int) -> str:
    """A heading, a line a change in their order, and how many more there are; loud lines are kept first."""
    count = f"{len(lines)} change" + ("s" if len(lines) > 1 else "")
    heading = escaped(f"{cluster}: {count}")
    room = MOST_CHARACTERS - len(heading) - len("\n… and 1000000 more changes")
    chosen: list[int] = []
    for index in sorted(range(len(lines)), key=lambda index: not lines[index].loud):
        room -= len(_bullet(lines[index]))
        if room < 0 or len(chosen) == max_lines:
            break
        chosen.append(index)
    text = heading + "".join(_bullet(lines[index]) for index in sorted(chosen))
    if left := len(lines) - len(chosen):
        text += f"\n… and {left} more change" + ("s" if left > 1 else "")
    return text


def escaped(text: str) -> str:
    """The three characters that mean something to Slack: else a name could call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _bullet(line: Line) -> str:
    return f"\n{'⚠' if line.loud else '•'} {escaped(line.text)}"
