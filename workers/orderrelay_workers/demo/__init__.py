"""The demonstration: the whole main job on one machine, against the simulator, checked by the simulator's books."""
