"""From wanted and there to ordered steps. Pure.

`steps` are values, `plan.make(topology, snapshot)` orders them. Planning again after an interruption at any step
gives a correct rest, because every half-done state can be told from the snapshot: no journal of steps exists.
Undoing is planning for the topology that was there before.
"""
