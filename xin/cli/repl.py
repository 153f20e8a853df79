"""Lines from a person at a terminal, until /bye."""

from __future__ import annotations

import sys
from collections.abc import Callable

HELP = '/bye leaves, /clear forgets the conversation, """ begins and ends a text of several lines'


def converse(answer: Callable[[str], object], clear: Callable[[], None]) -> None:
    """Call `answer` with each prompt. Ctrl-C stops an answer, Ctrl-D leaves."""
    _editing()
    print(HELP, file=sys.stderr)
    while (prompt := _read()) is not None:
        command = prompt.strip()
        if command in ("/bye", "/exit", "/quit"):
            return
        if command == "/clear":
            clear()
        elif command.startswith("/") and " " not in command:
            print(HELP, file=sys.stderr)
        elif command:
            try:
                answer(prompt)
            except KeyboardInterrupt:
                print(file=sys.stderr)


def _read() -> str | None:
    """One prompt; None at the end of input."""
    try:
        line = input(">>> ")
        if not line.startswith('"""'):
            return line
        lines = [line.removeprefix('"""')]
        while not lines[-1].endswith('"""'):
            lines.append(input("... "))
        return "\n".join(lines).removesuffix('"""')
    except EOFError:
        print(file=sys.stderr)
        return None
    except KeyboardInterrupt:
        print("\n/bye leaves", file=sys.stderr)
        return ""


def _editing() -> None:
    """Arrow keys and history, where Python has them."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
