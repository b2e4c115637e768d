"""The ground floor: errors, limits, files, processes, devices, signals; imports nothing else of this package."""
