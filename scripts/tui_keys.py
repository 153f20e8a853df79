"""Write the tables of keys in docs/tui.md from the workbench's own bindings: python scripts/tui_keys.py"""

from __future__ import annotations

import re
from pathlib import Path

import xin.tui.app  # noqa: F401 - its keys are bindings too
from xin.tui import keymap

DOC = Path(__file__).parents[1] / "docs" / "tui.md"
SECTION = re.compile(r"(?<=<!-- keys -->\n).*?(?=<!-- end of keys -->)", re.DOTALL)
TITLES = {
    "Everywhere": ("place", "help", "palette", "jump", "zoom", "repaint", "quit"),
    "Bench": ("bench", "tree", "files"),
    "Chat": ("chat",),
    "Chat's dialogs": ("panes", "params", "vote", "diff", "sessions", "export", "model_choice"),
    "Launch": ("launch", "fit", "context", "choice"),
    "Jobs": ("jobs",),
    "Logs": ("logs", "log"),
    "Lists and dialogs": (),  # whatever is left
}
_NAMES = {
    "ampersand": "&",
    "backslash": "\\",
    "colon": ":",
    "down": "↓",
    "enter": "↵",
    "equals_sign": "=",
    "escape": "esc",
    "left": "←",
    "left_square_bracket": "[",
    "pagedown": "page down",
    "pageup": "page up",
    "question_mark": "?",
    "right": "→",
    "right_square_bracket": "]",
    "slash": "/",
    "up": "↑",
}


def tables() -> str:
    keymap.load_everything()
    rows: dict[str, list[str]] = {title: [] for title in TITLES}
    for name, places in sorted(keymap.known().items()):
        group = name.partition(".")[0]
        title = next((title for title, groups in TITLES.items() if group in groups), "Lists and dialogs")
        keys = dict.fromkeys(shown(binding.key) for _, binding in places)
        binding = places[0][1]
        rows[title].append(f"| {' '.join(keys)} | {binding.tooltip or binding.description} | `{name}` |")
    return "\n".join(
        f"### {title}\n\n| key | what | id |\n|---|---|---|\n" + "\n".join(rows[title]) + "\n" for title in rows
    )


def shown(key: str) -> str:
    parts = [_NAMES.get(part, part) for part in key.split("+")]
    name = "+".join(parts)
    return f"`{name.upper() if re.fullmatch('f[0-9]+', name) else name}`"


def main() -> None:
    text = DOC.read_text(encoding="utf-8")
    DOC.write_text(SECTION.sub(lambda _: "\n" + tables() + "\n", text), encoding="utf-8")


if __name__ == "__main__":
    main()
