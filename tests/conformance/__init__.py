"""The contract of the device, the sections and the tasks, row by row."""

import compiling

# Before anybody imports it: its comparisons are recorded too.
compiling.load("conformance.work")
