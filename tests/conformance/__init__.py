"""The contract of the device, the sections and the tasks, row by row."""
