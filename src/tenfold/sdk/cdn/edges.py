"""The edges as this process tells them of purges: one connection to each, and what each has acknowledged.

Called by `delivery`. It decides nothing: who is told what, and when again, does `delivery`. What goes over the wire to
the address of each `bindings.cdn.nodes` (a private one, which no client reaches):

    PURGE / HTTP/1.1
    Host: NAME-OF-THE-EDGE
    Tenfold-Key: KEY                        the service's key for edges: another, or none: 403
    Tenfold-Purge: hard                     or `soft`: what is purged is stale from now on, and may serve its grace out
    Tenfold-Tags: product:1 catalogue       everything whose response named one of these in Surrogate-Key
    Tenfold-Urls: /product/1 /search?q=a,b  everything kept of these paths with queries, under any name of the service,
                                            in each of its variants (Vary), fetched by GET or HEAD
    Tenfold-Everything: 1                   everything that is kept

At least one of the last three is there, several add up. Their values are words with one space between two; a tag is
visible ASCII without spaces and commas; a URL is what stands in a request line, from its first slash, without spaces:
a comma in it is a comma. No line is longer than 8,192 bytes, no head longer than 16 KiB; there is no body. Connections
are kept open and used again, one request at a time.

    HTTP/1.1 200                            everything has been purged: whatever was kept before is not served any more
    Tenfold-Purged: 3                       how many objects that were, or -1 where the engine does not say
    Content-Length: N

Anything but 200 is no acknowledgement: 400 for what was not understood, 403 for a wrong key, 503 while the edge starts.
The ordinary port of an edge answers PURGE with 405, and never looks at these headers.

An app's response says what an edge may do with it in `CDN-Cache-Control` (RFC 9213: `max-age=60,
stale-while-revalidate=30`, or `no-store`) and its tags in `Surrogate-Key`, words with one space between two, 8,000 bytes
at most. The edge takes both away before a client sees the response. A request that carries a cookie whose name begins
with SERVICE-edge, or the header X-Tenfold-Position, goes to a web server without passing an edge.
"""
