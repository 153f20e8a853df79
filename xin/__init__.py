"""xin: a terminal-first workbench for open models."""

__version__ = "0.1.0"
