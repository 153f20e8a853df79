"""Text to the clipboard: through the terminal (OSC 52), and through this machine's own where there is one."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

from textual.app import App

TERMINAL_BYTES = 74_000  # what common terminals take in one OSC 52
TOOL_SECONDS = 2.0
TOOLS = (
    ("WAYLAND_DISPLAY", ["wl-copy"]),
    ("DISPLAY", ["xclip", "-selection", "clipboard", "-in"]),
    ("DISPLAY", ["xsel", "--clipboard", "--input"]),
    ("TMUX", ["tmux", "load-buffer", "-"]),
)


async def copy(app: App[Any], text: str) -> str:
    """Copy it and give the sentence that says so."""
    app.copy_to_clipboard(text)
    data = text.encode(errors="surrogatepass")
    local = not app.is_web and not app.is_headless and await _copy_locally(data)
    size = f"{len(text):,} character{'' if len(text) == 1 else 's'}"
    if len(data) > TERMINAL_BYTES and not local:
        return f"copied {size}: more than some terminals take. F8 saves to a file"
    return f"copied {size}"


def local_tool() -> list[str] | None:
    """The command that fills the clipboard of the person's own machine, or tmux's."""
    if shutil.which("pbcopy") and "SSH_CONNECTION" not in os.environ:
        return ["pbcopy"]
    return next((tool for variable, tool in TOOLS if os.environ.get(variable) and shutil.which(tool[0])), None)


async def _copy_locally(data: bytes) -> bool:
    tool = local_tool()
    if tool is None:
        return False
    null = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*tool, stdin=asyncio.subprocess.PIPE, stdout=null, stderr=null)
    except OSError:
        return False
    try:
        await asyncio.wait_for(process.communicate(data), TOOL_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return process.returncode == 0
