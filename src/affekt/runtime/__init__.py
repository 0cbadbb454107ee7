"""Runtime: atomic files, processes, CPU affinity, allocator, devices, environment, seeds, logs, Ray."""
