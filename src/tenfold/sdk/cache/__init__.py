"""`tf.cache`: values that are kept to be read again, in this process and in servers that all processes share.

Every entry knows the position in the write-ahead log that it reflects; nobody is given one older than what it wrote.
"""
