"""The only place that acts: starts, stops, observes, applies plans, answers the control socket."""
