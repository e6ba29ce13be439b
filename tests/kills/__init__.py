"""The server in a process of its own, under load, killed with SIGKILL again and again.

Real sockets, a real file, real time.  `load` plays it and checks what must hold afterwards.
"""
