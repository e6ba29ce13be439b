"""`python -m plivotx.cli` is `plivotx`."""

from plivotx.cli.main import main

main()
