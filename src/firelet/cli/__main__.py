"""``python -m firelet.cli``: the command without its script, as ``firelet demo`` starts it."""

from firelet.cli.main import run

run()
