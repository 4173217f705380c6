"""What the mux watches besides handles: timers, signals, children, and what other threads post."""
