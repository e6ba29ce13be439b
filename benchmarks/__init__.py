"""How fast plivotx is, always beside something that does the same work without it; `script/bench` runs it.

Every figure is a ratio to a baseline that is measured in the same minute, in turns with it, several times;
what is told is the median.  Work is counted in CPU seconds of the process that does it, as the kernel counts
them, so that who else uses the machine matters little.
"""
