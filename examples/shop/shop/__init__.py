"""Larch & Lantern, a small shop: what a service on tenfold looks like.

`web` puts the app together; `pages` and `api` are its two faces over the same four subjects: `accounts`,
`catalogue`, `cart` and `orders`. `service` holds the one `Tenfold` that they share. Nothing here knows on which
rung of the ladder it runs.
"""
