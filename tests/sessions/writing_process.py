"""A process that streams answers into a session file until it is killed: `writing_process.py PATH`.

Each line it prints is "MESSAGE_ID COUNT": so many pieces of that answer were handed to the store by now.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from xin.sessions.records import PaneRecord
from xin.sessions.store import SessionStore


def piece(number: int) -> str:
    return f"<{number}> 中文 🙂\r\n"


def main(path: Path) -> None:
    store = SessionStore(path)
    session = store.create("", [PaneRecord(0, "one"), PaneRecord(1, "two")])
    answers = []
    for pane, model in enumerate(("one", "two")):
        question = store.add_message(session, pane, None, "user", "Count, please.", turn=1)
        answers.append(store.add_message(session, pane, question, "assistant", model=model, state="streaming", turn=1))
    count = 0
    while True:
        for answer in answers:
            store.append(answer, piece(count), f"thought {count}\n")
        count += 1
        print(answers[0], count, flush=True)
        time.sleep(0.005)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
