"""What is there: one immutable snapshot, taken by `runtime/observe`, read by planning, controllers and the CLI.

Pure values. Nothing here looks at the world, and nothing here says what is wanted.
"""
