"""docs/passage.md shows the table that the machine runs on. `python -m tests.unit.test_passage_doc` renews it."""

import re
from pathlib import Path

from edge.passage import TRANSITIONS, Signal, State, Transition

DOC = Path(__file__).parents[2] / "docs" / "passage.md"


def action(transition: Transition) -> str:
    closes = f"close as {transition.closes}" if transition.closes else ""
    return ", then ".join(filter(None, (closes, "open" if transition.opens else "")))


def table() -> str:
    lines = ["| signal | " + " | ".join(State) + " |", "|---" * (len(State) + 1) + "|"]
    for signal in Signal:
        cells = []
        for state in State:
            transition = TRANSITIONS.get((state, signal))
            stays = transition is not None and transition.to is state
            cells.append(
                ""
                if transition is None
                else "; ".join(filter(None, (action(transition), "stay" if stays else f"-> {transition.to}")))
            )
        lines.append(f"| {signal} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def diagram() -> str:
    arrows = [
        f"    {state} --> {transition.to}: {signal}" + (f" ({action(transition)})" if action(transition) else "")
        for (state, signal), transition in TRANSITIONS.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {State.BLIND}", *arrows, "```"])


BLOCKS = {"table": table, "diagram": diagram}


def renewed(text: str) -> str:
    for name, render in BLOCKS.items():
        block = f"<!-- {name} -->\n{render()}\n<!-- end of {name} -->"
        text, found = re.subn(rf"<!-- {name} -->.*<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.S)  # type: ignore[misc]
        assert found == 1, f"docs/passage.md has no place for the {name}"
    return text


def test_the_document_shows_the_machine_as_it_is() -> None:
    text = DOC.read_text()
    assert renewed(text) == text


def test_the_document_explains_every_signal_and_ending() -> None:
    text = DOC.read_text()
    for word in (*Signal, *(transition.closes for transition in TRANSITIONS.values() if transition.closes)):
        assert f"**{word}**" in text, word


if __name__ == "__main__":
    DOC.write_text(renewed(DOC.read_text()))
