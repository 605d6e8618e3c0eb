"""What lies between regions: a TCP proxy that takes time, has a width and breaks as a wide area network does.

A process of its own, on a server outside of all regions. It reads two files: what joins what (`network`), and what is
cut. It keeps running when the runtime dies, looks into nothing that it carries, and imports nothing else of tenfold.
"""
