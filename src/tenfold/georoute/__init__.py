"""The program behind a name server: PowerDNS asks it for every answer that depends on who asks and on who is healthy.

A process of its own on the name server's machine. It reads one file (`tenfold.zone`), checks the regions itself, and
answers from memory: the runtime may be dead. It must never do I/O while a query waits, and never import the runtime.
"""
