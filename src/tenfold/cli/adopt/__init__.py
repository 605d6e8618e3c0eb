"""What `tenfold init` finds out about an existing app: `sources` reads its files, `candidates` finds ASGI apps in them,
`surroundings` looks at what stands beside them, `writing` makes tenfold.toml of it. No code of the app is run here.
"""
