"""Pure decisions of the control loop: from a snapshot to what should change."""
