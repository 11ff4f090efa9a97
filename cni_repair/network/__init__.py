"""A pod's interface: its nouns, planning (pure), the steps, observing, applying."""
